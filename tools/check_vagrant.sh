#!/bin/bash
# `vagrant validate` where vagrant is installed; a Ruby syntax check where only Ruby is; else says that neither is there.
set -euo pipefail
cd "$(dirname "$0")/.."
if command -v vagrant >/dev/null; then
	home=$(mktemp -d)
	trap 'rm -rf "$home"' EXIT
	VAGRANT_HOME=$home vagrant validate --ignore-provider
elif command -v ruby >/dev/null; then
	ruby -c Vagrantfile
else
	echo "Vagrantfile: not checked, neither vagrant nor ruby is installed"
fi
