#!/bin/bash
# Runs a command with the C parts built under ASan and UBSan, in a copy of the tree, so that the normal build stays.
# usage: tools/sanitized.sh COMMAND ...    (the command's .venv is the tree's own)
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -co --exclude-standard | tar -c -T - | tar -x -C "$copy"
ln -s "$top/.venv" "$copy/.venv"
cd "$copy"
NSRUN_SANITIZE=address,undefined .venv/bin/python setup.py -q build_ext --inplace
# Python itself is not instrumented: the runtime has to be there first, and its arenas are not leaks of ours.
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export NSRUN_SANITIZE=address,undefined PYTHONPATH=$copy
command=("$@")
command[0]="$top/${command[0]#"$top"/}"
"${command[@]}"
