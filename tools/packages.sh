#!/bin/bash
# Debian packages that a make target needs: installs the missing ones when root, else names them and fails.
# usage: tools/packages.sh build|run|test|vm|check|fuzz|bench ...
# What is looked for is the thing itself (a header, a program), so that other distributions' packages serve too.
set -euo pipefail

missing=()
need() { # PACKAGE COMMAND...: the package is missing when the command fails
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || missing+=("$package")
}
static() { ldd "$(command -v "$1")" 2>&1 | grep -q 'not a dynamic'; }
library() { [[ $(ldconfig -p) == *"$1"* ]]; }
header() { echo "#include <$1>" | "${CC:-cc}" -E -x c - ; }
python=${PYTHON:-python3}
python_header() { test -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h"; }

export PATH=$PATH:/usr/sbin:/sbin
for group in "$@"; do
	case $group in
	build)
		need gcc command -v cc
		need libc6-dev header stdio.h
		need linux-libc-dev header linux/mount.h
		need libcap-dev header sys/capability.h
		need python3-venv "$python" -c 'import ensurepip, venv'
		need python3-dev python_header
		;;
	run)
		need libseccomp2 library libseccomp.so.2
		need nftables command -v nft
		;;
	test)
		need libc6-dev header stdio.h
		need iproute2 command -v ip
		need util-linux command -v unshare
		need procps command -v ps
		need iptables command -v iptables
		need systemd test -x /lib/systemd/systemd
		need skopeo command -v skopeo
		need umoci command -v umoci
		need buildah command -v buildah
		need podman command -v podman
		need docker-registry command -v docker-registry
		need openssl command -v openssl
		need busybox-static static busybox
		need bind9-dnsutils command -v dig
		need openssh-client command -v ssh
		need openssh-server command -v sshd
		need redis-server command -v redis-server
		need redis-tools command -v redis-cli
		need iperf3 command -v iperf3
		need kubernetes-client command -v kubectl
		need vim-tiny command -v vi
		need apparmor command -v apparmor_parser
		;;
	vm)
		need mmdebstrap command -v mmdebstrap
		need qemu-system-x86 command -v qemu-system-x86_64
		need qemu-utils command -v qemu-img
		need e2fsprogs command -v mkfs.ext4
		need util-linux command -v unshare
		;;
	check)
		need gcc command -v gcc
		need clang command -v clang
		;;
	fuzz)
		need clang command -v clang
		need umoci command -v umoci
		need libclang-rt-14-dev sh -c 'echo "int LLVMFuzzerTestOneInput(const char *d, unsigned long n){(void)d;(void)n;return 0;}" | clang -fsanitize=fuzzer,address -x c - -o /dev/null'
		;;
	kiada)
		need curl command -v curl
		need openssl command -v openssl
		;;
	bench)
		need podman command -v podman
		need crun command -v crun
		need runc command -v runc
		need bubblewrap command -v bwrap
		need socat command -v socat
		;;
	*)
		echo "tools/packages.sh: no such group: $group" >&2
		exit 2
		;;
	esac
done

[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "These Debian packages are missing: ${missing[*]}" >&2
	echo "Install them (sudo apt-get install ${missing[*]}) and run make again." >&2
	exit 1
fi
echo "Installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 || {
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
