#!/bin/bash
# The newest kubectl that Debian has, unpacked below build/kubectl/newest: it is not installed, and apt's own lists stay as they are.
# usage: tools/kubectl.sh            does nothing when it is there already
set -euo pipefail

cd "$(dirname "$0")/.."
target=build/kubectl/newest
[[ -x $target/usr/bin/kubectl ]] && exit 0
mirror=$(sed -nE 's/^(URIs:|deb( +\[[^]]*\])?) +(https?:[^ ]*debian)\/?( .*)?$/\3/p' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -1 || true)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial"
# As on a machine where nothing is installed: a kubectl of somebody else's that is there would be the one that apt looks for.
: >"$scratch/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} sid main" >"$scratch/sources.list"
apt=(apt-get -q -o "Dir::Etc::SourceList=$scratch/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::lists=$scratch/lists"
	-o "Dir::State::status=$scratch/status" -o "Dir::Cache=$scratch/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none)
"${apt[@]}" update
(cd "$scratch" && "${apt[@]}" download kubectl)
mkdir -p build/kubectl
rm -rf "$target.new"
dpkg -x "$scratch"/kubectl_*.deb "$target.new"
rm -rf "$target"
mv "$target.new" "$target"
"$target/usr/bin/kubectl" version --client
