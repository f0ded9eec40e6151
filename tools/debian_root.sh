#!/bin/bash
# debian_root.sh FILE: a Debian root file system as a tar archive, for the bench. Needs mmdebstrap and the network; without, it is done without.
set -uo pipefail
target=$1
[ -e "$target" ] && exit 0
mkdir -p "$(dirname "$target")"
if ! command -v mmdebstrap >/dev/null; then
	echo "debian_root.sh: mmdebstrap is not installed: no figures of images" >&2
	exit 0
fi
if ! unshare --mount mmdebstrap --quiet --variant=essential --mode=root --format=tar bookworm "$target.new" http://deb.debian.org/debian; then
	echo "debian_root.sh: mmdebstrap failed: no figures of images" >&2
	rm -f "$target.new"
	exit 0
fi
mv "$target.new" "$target"
