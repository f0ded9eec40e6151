#!/bin/bash
# Kubernetes' own conformance tests of a node, against an nsrun of their own. The test binary is no part of nsrun: it is the e2e.test
# of a Kubernetes release (kubernetes-test-linux-amd64.tar.gz, or `make WHAT=test/e2e/e2e.test` in kubernetes/kubernetes).
# usage (root): tools/e2e.sh E2E_TEST [ARCHIVE...] [-- FLAG...]
#   ARCHIVE  images as docker save, podman save or skopeo write them; others are pulled when a test asks for them
#   FLAG     of e2e.test, after those that stand here; --ginkgo.focus=... for fewer tests
# What was said and junit_*.xml are in build/e2e. Where files with images have other names than `e2e.test --list-images` says,
# KUBE_TEST_REPO_LIST tells the binary so.
set -euo pipefail
binary=$(realpath "$1")
shift
archives=()
while (($#)) && [[ $1 != -- ]]; do
	archives+=("$(realpath "$1")")
	shift
done
(($#)) && shift
cd "$(dirname "$0")/.."
out=$PWD/build/e2e
port=${E2E_PORT:-8001}
rm -rf "$out"
mkdir -p "$out"
root=$(mktemp -d)
nsrun=("$PWD/.venv/bin/nsrun" --root "$root")
api=

finish() {
	[[ -z $api ]] || kill "$api" 2>/dev/null || true
	"${nsrun[@]}" pod down --all -A --force >/dev/null 2>&1 || true
	"${nsrun[@]}" server stop >/dev/null 2>&1 || true
	rm -rf "$root"
}
trap finish EXIT

for archive in "${archives[@]}"; do
	"${nsrun[@]}" image load "$archive"
done
"${nsrun[@]}" api serve --listen "127.0.0.1:$port" --insecure-http >"$out/api.log" 2>&1 &
api=$!
for _ in {1..100}; do
	kill -0 "$api" || { cat "$out/api.log" >&2; exit 1; }
	curl -sf "http://127.0.0.1:$port/readyz" >/dev/null && break
	sleep 0.1
done
"${nsrun[@]}" api kubeconfig --insecure-http --server "http://127.0.0.1:$port" >"$out/kubeconfig"

flags=(--kubeconfig="$out/kubeconfig" --provider=skeleton --kube-api-content-type=application/json --num-nodes=1 --report-dir="$out"
	--e2e-verify-service-account=false --dump-logs-on-failure=false)
help=$("$binary" --help 2>&1 || true)
if [[ $help == *ginkgo.label-filter* ]]; then
	flags+=(--minStartupPods=-1 --allowed-not-ready-nodes=-1)
	selection=(--ginkgo.label-filter='Conformance && NodeConformance')
else # before 1.25
	flags+=(--minStartupPods=0 --allowed-not-ready-nodes=0)
	selection=(--ginkgo.focus='\[NodeConformance\].*\[Conformance\]')
fi
[[ " $* " == *" --ginkgo."@(focus|label-filter)* ]] && selection=()
cd "$out" # e2e.test writes where it stands
"$binary" "${flags[@]}" "${selection[@]}" "$@" 2>&1 | tee e2e.log
