#!/bin/bash
# Every C file compiles without a warning under gcc and clang, with a list of warnings that is longer than the build's.
set -euo pipefail
cd "$(dirname "$0")/.."
warnings=(-Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wmissing-declarations -Wpointer-arith
	-Wcast-align -Wundef -Wformat=2 -Wvla -Wimplicit-fallthrough)
for cc in gcc clang; do
	for file in csrc/*.c csrc/pause/*.c tests/rootfs/*.c tests/bench/bare/*.c; do
		[ -e "$file" ] || continue
		"$cc" -std=gnu11 -O2 -fsyntax-only -D_GNU_SOURCE -Icsrc "${warnings[@]}" "$file"
	done
	echo "$cc: no warnings"
done
