#!/bin/bash
# Makes a machine one on which nsrun is built and tested: the same script for Vagrant's machine (Vagrantfile) and for the one of the vm ring
# (tests/vm), so that what one gets is what the other tested. Root, on Debian.
# usage: tools/provision.sh packages          all Debian packages, those of the tests included
#        tools/provision.sh build             nsrun in .venv, and a link to it in /usr/local/bin
#        tools/provision.sh test [OPTION...]  the tests of what containers get from this machine; options are pytest's
set -euo pipefail
cd "$(dirname "$0")/.."
verb=$1
shift

# What a machine of its own kind (pure cgroup version 2, all capabilities, its own kernel) can prove that others cannot.
selection=(tests/host/cgroups tests/host/plan
	tests/host/systemd/test_systemd.py::test_S_CGROUP_limits_in_the_unit_outlive_its_server)

case $verb in
packages)
	command -v make python3 >/dev/null || {
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends make python3 >/dev/null
	}
	tools/packages.sh build run test
	;;
build)
	make --no-print-directory build
	# Now rather than while a test waits for it.
	.venv/bin/python -m compileall -q nsrun tests
	.venv/bin/python -c 'from tests.rootfs import testbox; testbox()'
	ln -sf "$PWD/.venv/bin/nsrun" /usr/local/bin/nsrun
	;;
test)
	[ $# -gt 0 ] || set -- "${selection[@]}"
	# For the tests of who may have them; in a machine that is made for tests nobody else misses 16 MiB.
	[ "$(cat /proc/sys/vm/nr_hugepages)" -ge 8 ] || echo 8 >/proc/sys/vm/nr_hugepages
	.venv/bin/nsrun doctor || echo "doctor: something is missing here"
	exec .venv/bin/python -m tests.host.lanes "$@"
	;;
*)
	echo "usage: tools/provision.sh packages|build|test [OPTION...]" >&2
	exit 2
	;;
esac
