#!/bin/bash
# Builds and runs each libFuzzer target of csrc/fuzz for that many seconds.
# usage: tools/fuzz.sh SECONDS [SEED]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1
seed=${2:-0} # 0: another one each time
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for target in csrc/fuzz/fuzz_*.c; do
	name=$(basename "$target" .c)
	echo "== $name, $seconds s"
	# Everything but the shim with its state and the cffi module is linked; what decodes bytes there is in files of its own.
	mapfile -t sources < <(grep -LE '^(int )?main\(|"shim\.h"' csrc/*.c)
	clang -std=gnu11 -g -O1 -D_GNU_SOURCE -Icsrc -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
		-o "$work/$name" "$target" "${sources[@]}"
	mkdir -p "$work/corpus-$name"
	"$work/$name" -max_total_time="$seconds" -seed="$seed" -print_final_stats=1 -artifact_prefix="$work/" "$work/corpus-$name" 2>&1 | tail -n 30
done
