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

# What a machine of its own kind (pure cgroup version 2, all capabilities, its own kernel) can prove that others cannot: limits, what a
# container is shut off from, and whose files its volumes are. Emulated all tests would take an hour; these take some five minutes.
limits=tests/host/lifecycle/test_limits.py::test_S_CGROUP
users=tests/host/namespaces/test_users.py::test_S_USERNS
selection=(tests/host/cgroups tests/host/plan
	tests/host/systemd/test_systemd.py::test_S_CGROUP_limits_in_the_unit_outlive_its_server
	"${limits}_limits_are_in_force" "${limits}_who_asks_for_nothing_has_no_limit" "${limits}_a_quota_slows_down"
	"${limits}_a_command_of_the_next_server_is_within" "${limits}_resize_in_place" "${limits}_memory_is_not_taken_from_who_uses_it"
	"${limits}_the_pids_limit_of_the_configuration" "${limits}_huge_pages_that_the_machine_has"
	tests/host/lifecycle/test_limits.py::test_S_OOM_in_a_child_and_in_an_init_container
	tests/host/lifecycle/test_stats.py::test_S_OOM_S_CGROUP_what_each_version_of_cgroups_does
	tests/host/escapes/test_calls.py tests/host/escapes/test_files.py tests/host/escapes/test_processes.py
	tests/host/escapes/test_talk.py tests/host/escapes/test_visible.py
	"${users}_ids_files_volumes_and_capabilities" "${users}_memory_has_the_ids_of_the_pod_or_it_is_told_why_not"
	tests/host/volumes/test_eviction.py::test_S_EVICT_what_a_pod_may_take_of_the_disk
	tests/host/volumes/test_empty_dir.py::test_S_VOL_empty_dir_in_memory_is_a_tmpfs_with_its_size
	tests/host/volumes/test_image_volumes.py::test_S_VOL_image_is_a_read_only_tree_that_outlives_servers_and_is_in_use)

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
