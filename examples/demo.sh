#!/bin/sh
# The demo of `make demo`: brings up examples/pod.yaml, looks at it, and takes it down. Needs root.
# It works in a directory of its own, so that whatever else nsrun does on this machine is left alone.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
[ "$(id -u)" = 0 ] || { echo "The demo makes namespaces and mounts: sudo make demo" >&2; exit 7; }
command -v nsrun >/dev/null || { echo "nsrun is not in PATH: make build, then PATH=$here/../.venv/bin:\$PATH" >&2; exit 2; }

NSRUN_ROOT=$(mktemp -d /tmp/nsrun-demo.XXXXXX)
export NSRUN_ROOT
finish() {
	nsrun pod down --all --force >/dev/null 2>&1 || true
	nsrun server stop >/dev/null 2>&1 || true
	rm -rf "$NSRUN_ROOT"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
[ -t 1 ] && [ -z "${NO_COLOR:-}" ] || say() { printf '\n# %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
# Whatever is there of nsrun's: shims, mounts below its directory, links of its bridge.
left() {
	for process in /proc/[0-9]*; do
		case $(readlink "$process/fd/4" 2>/dev/null) in "$NSRUN_ROOT"/*) tr '\0' ' ' <"$process/cmdline" && echo ;; esac
	done
	grep "$NSRUN_ROOT" /proc/self/mounts || true
	find "$NSRUN_ROOT/run/pods" -mindepth 1 -maxdepth 1 2>/dev/null || true
}

say "1. Bring up a Pod: an init container, a sidecar and two main containers. The first command starts nsrun's server."
run nsrun pod up "$here/pod.yaml" --wait=ready

say "2. What is running now? READY counts the sidecar and the two main containers."
run nsrun pod ls -o wide

say "3. The init container ran to its end before the others were started."
run nsrun pod logs hello -c prepare

say "4. web listens on 127.0.0.1 only. visitor, another container with its own files and processes, shares that localhost."
# Python takes its time to listen: as long as the visitor says that nobody is there, we wait with it.
for _ in $(seq 100); do
	nsrun pod logs hello -c visitor --tail=1 | grep -q 'says:' && break
	sleep 0.1
done
run nsrun pod logs hello -c visitor --tail=2

say "5. A command in a container, as with docker or kubectl. The clock sidecar's time comes through web:"
fetch='import urllib.request as u; print(u.urlopen("http://localhost:8080/time").read().decode().strip())'
printf "$ nsrun pod exec hello -c web -- python3 -c '%s'\n" "$fetch"
nsrun pod exec hello -c web -- python3 -c "$fetch"

say "6. Its own host name, its own processes, nothing of this machine's /home or /root."
# shellcheck disable=SC2016 # for the container's shell
look='echo "I am $(hostname), process $$ of $(ls -d /proc/[0-9]* | wc -l); files in /home and /root: $(find /home /root -type f | wc -l)"'
printf "$ nsrun pod exec hello -c web -- sh -c '%s'\n" "$look"
nsrun pod exec hello -c web -- sh -c "$look"

say "7. A container that dies is started again, in the same sandbox and with the same address."
run nsrun pod kill hello -c visitor
run nsrun pod wait hello --for=condition=Ready --timeout=20s
run nsrun pod ls -o wide

say "8. nsrun's server may die at any moment: pods run on, and the next command starts a new one."
server=$(nsrun server status -o json | sed -n 's/^ *"pid": \([0-9]*\).*/\1/p' | head -1)
run kill -KILL "$server"
run nsrun pod ls

say "9. What happened, in the words of Kubernetes:"
run nsrun pod events hello

say "10. Take it down. SIGTERM first, the sidecar last, SIGKILL for who is still there after the grace period."
run nsrun pod down hello
run nsrun pod ls

say "11. Nothing is left:"
nsrun server stop >/dev/null
rest=$(left)
if [ -n "$rest" ]; then
	printf '%s\n' "$rest"
	echo "Something is left behind." >&2
	exit 1
fi
echo "no process, no mount, no file of the pod."
say "That was it. The manifest is examples/pod.yaml; nsrun --help tells more."
