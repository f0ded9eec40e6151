#!/bin/bash
# The demo of `make demo-kiada`: makes the images, runs the application behind a TLS proxy, and fetches its page. Needs root.
# It works in a directory of its own, so that whatever else nsrun does on this machine is left alone.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
[ "$(id -u)" = 0 ] || { echo "The demo makes namespaces and mounts: sudo make demo-kiada" >&2; exit 7; }
NSRUN_ROOT=$(mktemp -d /tmp/nsrun-kiada.XXXXXX)
export NSRUN_ROOT
forward=
finish() {
	[ -z "$forward" ] || kill "$forward" 2>/dev/null || true
	nsrun pod down --all --force >/dev/null 2>&1 || true
	# Secrets are kept in memory, on a mount of their own as long as there are any.
	nsrun object rm secret/kiada-tls >/dev/null 2>&1 || true
	nsrun server stop >/dev/null 2>&1 || true
	rm -rf "$NSRUN_ROOT"
}
trap finish EXIT
trap 'exit 130' INT TERM

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }; else say() { printf '\n# %s\n' "$*"; }; fi
run() { printf '$ %s\n' "$*"; "$@"; }
work=$NSRUN_ROOT/demo

# forwarded POD PORT: a port of this machine that leads to the pod, in $local
forwarded() {
	: >"$work/forward"
	nsrun pod port-forward "$1" ":$2" >"$work/forward" &
	forward=$!
	until grep -q '127.0.0.1' "$work/forward"; do kill -0 "$forward" && sleep 0.05; done
	local=$(sed -n 's/Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$work/forward")
}
ended() {
	kill "$forward"
	wait "$forward" || true
	forward=
}

say "1. Two images, made here: Node.js with a small application, and Envoy with its configuration."
run "$here/make-images.sh" "${KIADA_CACHE:-$work/images}"

say "2. A certificate, in a Secret."
run "$here/make-certificate.sh" "$work"

say "3. The application alone, by http."
run nsrun pod up "$here/pod.kiada.yaml" --wait=ready
forwarded kiada http
run curl -sS --retry 3 "http://localhost:$local"
ended

say "4. The application with a TLS proxy beside it, by https. The application listens on the pod's loopback alone."
run nsrun pod up "$here/pod.kiada-ssl.yaml" --wait=ready
forwarded kiada-ssl https
run curl -sS --retry 3 --cacert "$work/tls.crt" "https://localhost:$local"
run curl -sS --cacert "$work/tls.crt" "https://localhost:$local/facts"
ended
address=$(nsrun pod ls kiada-ssl -o jsonpath='{.items[0].status.podIP}')
echo "$ curl http://$address:8080"
if curl -sS "http://$address:8080"; then exit 1; fi

say "5. Two init containers first, one after the other; then both containers together."
run nsrun pod up "$here/pod.kiada-init.yaml" --wait=ready
run nsrun pod logs kiada-init -c greet
run nsrun pod logs kiada-init -c network-check

say "6. The proxy as a native sidecar: ready before the application starts."
run nsrun pod up "$here/pod.kiada-native-sidecar.yaml" --wait=ready
forwarded kiada-native-sidecar https
run curl -sS --retry 3 --cacert "$work/tls.crt" "https://localhost:$local"
ended

say "7. An ambassador: the application asks 127.0.0.1; Envoy beside it finds the pod kiada-ssl and speaks TLS."
run nsrun pod up "$here/pod.kiada-ambassador.yaml" --wait=ready
address=$(nsrun pod ls kiada-ambassador -o jsonpath='{.items[0].status.podIP}')
run curl -sS --retry 3 --retry-all-errors --fail-with-body "http://$address:8080/upstream"

say "8. A page for a browser, through a proxy to all pods."
: >"$work/proxy"
nsrun pod proxy --port 0 >"$work/proxy" &
forward=$!
until grep -q 'serve on' "$work/proxy"; do kill -0 "$forward" && sleep 0.05; done
run curl -sS "http://$(sed 's/.* //' "$work/proxy")/api/v1/namespaces/default/pods/https:kiada-ssl:https/proxy/"
ended

say "9. All of them, and what they say."
run nsrun pod ls -l app=kiada -o wide
run nsrun pod logs -l app=kiada --tail=3 --prefix

say "10. Take them down."
run nsrun pod down -l app=kiada
