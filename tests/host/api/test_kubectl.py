"""kubectl itself, of every version that is here, against one API: what each command says, and how it ends.

Debian's kubernetes-client is installed; the newest one is unpacked below build/ by tools/kubectl.sh, because both have the same files.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.capabilities import PATIENCE
from tests.host.api.conftest import ApiProcess
from tests.host.testhost import REPOSITORY

POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: nsrun.local/host
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "echo hello; trap 'exit 0' TERM; sleep 100000 & wait"]
"""
NAMELESS = POD.replace("    image: nsrun.local/host\n", "")
SETTINGS = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings"},"data":{"a":"c"}}'
RUN = "--image=nsrun.local/host --image-pull-policy=IfNotPresent --restart=Never"


@dataclass(frozen=True)
class Step:
    """A command.

    Attributes:
        words: as typed, without `kubectl`.
        says: a regular expression that its output has to have in it.
        ends: its exit code.
        stdin: what it reads.
        since: the minor version that has this command.
    """

    words: str
    says: str = ""
    ends: int = 0
    stdin: str | None = None
    since: int = 20


STEPS = (
    Step("version", r"v1\.\d+\.\d+\+nsrun-"),
    Step("cluster-info", r"is running at .*http://127\.0\.0\.1:\d+"),
    Step("api-versions", r"(?m)^apps/v1$"),
    Step("api-resources", r"(?m)^pods +po +v1 +true +Pod$"),
    Step("get --raw /readyz", r"^ok$"),
    Step("get nodes", r"(?m)^\S+ +Ready "),
    Step("get ns", r"(?m)^kube-system +Active"),
    Step("create ns box", r"^namespace/box created"),
    Step("get sa -n box -w --watch-only=false --request-timeout=1s", r"(?m)^default "),
    Step("create ns box", r'namespaces "box" already exists', 1),
    Step("apply -f {pod}", r"^pod/web created"),
    Step("apply -f {pod}", r"^pod/web unchanged"),
    Step("wait --for=condition=Ready pod/web --timeout=20s", r"^pod/web condition met"),
    Step("wait --for=jsonpath={{.status.phase}}=Running pod/web --timeout=20s", r"condition met", since=23),
    Step("diff -f {pod2}", r"\+    v: two", 1),
    Step("apply -f {pod2}", r"^pod/web configured"),
    Step("apply -f {pod} --dry-run=server", r"^pod/web configured \(server dry run\)"),
    Step("create -f {pod} --dry-run=server", r'pods "web" already exists', 1),
    Step("create -f {pod} --dry-run=client -o name", r"^pod/web"),
    Step("create -f - ", r'unknown field "(spec\.)?foo"', 1, POD.replace("spec:", "spec:\n  foo: 1", 1), since=25),
    Step(
        "create -f -",
        r"(?s)spec\.containers\[0\]\.image.*Required value|Required value",
        1,
        NAMELESS,
    ),
    Step(f"run other {RUN} --labels=app=other -- sleep 1000", r"^pod/other created"),
    Step("get pods", r"(?m)^web +1/1 +Running +0 +\d+s"),
    Step("get pods -o wide", r"(?m)^web .* 10\.\S+ +\S+ +<none> +<none>"),
    Step("get pods -A", r"(?m)^default +web "),
    Step("get pods -o name", r"(?m)^pod/other\npod/web$"),
    Step("get pods -l app=web -o name", r"^pod/web\n$"),
    Step("get pods --field-selector=metadata.name=web -o name", r"^pod/web\n$"),
    Step("get pods --sort-by=.metadata.name", r"(?s)other.*web"),
    Step("get pod web -o jsonpath={{.status.phase}}", r"^Running$"),
    Step("get pod web -o custom-columns=N:.metadata.name,P:.status.phase", r"(?m)^web +Running"),
    Step("get pod web -o json", r'"phase": "Running"'),
    Step("get pod web -o yaml", r"(?m)^  phase: Running"),
    Step("get all", r"(?s)pod/web.*service/kubernetes"),
    Step("get cm,secret,sa,events", r"configmap/kube-root-ca.crt"),
    Step("get pod nope", r'pods "nope" not found', 1),
    Step("get nosuch", r'doesn\'t have a resource type "nosuch"', 1),
    Step("get deployments", r"No resources found"),
    Step("get events", r"Scheduled +pod/web"),
    Step("events --for pod/web", r"Started +Pod/web", since=26),
    Step("describe pod web", r"(?s)Status: +Running.*Started +\S+ +\S+ +Container created|Started"),
    Step("describe node", r"(?s)Conditions:.*Ready +True"),
    Step("describe ns default", r"Status: +Active"),
    Step("logs web", r"^hello\n$"),
    Step("logs -l app=web --tail=1 --timestamps", r"^\d{{4}}-.*Z hello"),
    Step("logs -f web --request-timeout=1s", r"hello", -1),
    Step("logs web -p", r"previous terminated container \"c\" in pod \"web\" not found", 1),
    Step("logs web -c nope", r"container nope is not valid for pod web", 1),
    Step("exec web -- echo hi", r"^hi\n$"),
    Step("exec web -- false", r"command terminated with exit code 1", 1),
    Step("exec -i web -- cat", r"^through\n$", stdin="through\n"),
    Step("cp {file} web:/tmp/file"),
    Step("exec web -- cat /tmp/file", r"^a file\n$"),
    Step("cp web:/tmp/file {copy}"),
    Step("label pod web x=y", r"^pod/web labeled"),
    Step("label pod web x=z", r"already has a value|not labeled", -1),
    Step("label pod web x=z --overwrite", r"^pod/web labeled"),
    Step("annotate pod web note=it", r"^pod/web annotated"),
    Step('patch pod web --type=merge -p {{"metadata":{{"labels":{{"m":"1"}}}}}}', r"^pod/web patched"),
    Step('patch pod web --type=json -p [{{"op":"add","path":"/metadata/labels/j","value":"1"}}]', r"^pod/web patched"),
    Step('patch pod web -p {{"metadata":{{"labels":{{"s":"1"}}}}}}', r"^pod/web patched"),
    Step('patch pod web -p {{"spec":{{"hostNetwork":true}}}}', r"pod updates may not change fields other than", 1),
    Step("get pod web --show-labels", r"app=web,.*j=1,m=1,s=1,.*x=z"),
    Step("edit pod web", r"^pod/web edited"),
    Step("get pod web -o jsonpath={{.metadata.labels.app}}", r"^edited$"),
    Step("create cm settings --from-literal=a=b", r"^configmap/settings created"),
    Step("create secret generic keys --from-literal=a=b", r"^secret/keys created"),
    Step("create sa robot", r"^serviceaccount/robot created"),
    Step("get cm settings -o jsonpath={{.data.a}}", r"^b$"),
    Step(
        "replace -f -",
        r"^configmap/settings replaced",
        stdin=SETTINGS,
    ),
    Step("auth can-i create pods", r"^yes"),
    Step("auth whoami", r"system:anonymous", since=28),
    Step("explain pod.spec.containers.image", r"image"),
    Step("top pod", r"(?m)^web +\d+m +\d+Mi"),
    Step("top node", r"(?m)^\S+ +\d+m +\d+% +\d+Mi +\d+%"),
    Step("cordon {node}", r"cordoned"),
    Step("uncordon {node}", r"uncordoned"),
    Step("taint node {node} k=v:NoSchedule", r"tainted"),
    Step("taint node {node} k-", r"untainted"),
    Step("debug web --image=nsrun.local/host --image-pull-policy=IfNotPresent -c looker -- sleep 1", since=23),
    Step("expose pod web --port=80", r"^service/web exposed"),
    Step("get svc web", r"(?m)^web +ClusterIP +10\."),
    Step("scale deployment nope --replicas=1", "not found", 1),
    Step(f"run once {RUN} -i --rm -- cat", r"(?s)through.*pod \"once\" deleted", stdin="through\n"),
    Step("replace --force -f {pod}", r"(?s)pod \"web\" deleted.*pod/web replaced"),
    Step("delete pod other --now", r'^pod "other" deleted'),
    Step("delete -f {pod}", r'^pod "web" deleted'),
    Step("delete -f {pod} --ignore-not-found"),
    Step("delete pod web", r'pods "web" not found', 1),
    Step("delete svc/web cm/settings secret/keys sa/robot", r'configmap "settings" deleted'),
    Step("delete ns box", r'^namespace "box" deleted'),
    Step("get pods", r"No resources found in default namespace"),
)

ALIKE = re.compile(
    r"get (pods? .*(-o |-A|-l |--f|--s)|cm,|nosuch|deployments|svc|nodes|all)|describe n|logs (-l|web -)|exec web -- false|label |annotate "
    r"|patch pod web --type=merge|auth |top |cordon |uncordon |taint |scale |delete pod web$|api-versions|cluster-info"
)
"""Steps of which every kubectl asks the same in the same way: only the newest takes them."""


def binaries() -> list[str]:
    """The programs, of this machine and unpacked."""
    found = [shutil.which("kubectl") or ""]
    found += sorted(str(path) for path in (REPOSITORY / "build" / "kubectl").glob("*/usr/bin/kubectl"))
    return [path for path in found if path]


def minor_of(binary: str) -> int:
    said = subprocess.run([binary, "version", "--client"], capture_output=True, text=True, check=True).stdout
    found = re.search(r'v1\.(\d+)|Minor:"(\d+)', said)
    assert found is not None, said
    return int(found[1] or found[2])


@pytest.mark.requires("kubectl")
@pytest.mark.parametrize("binary", binaries() or ["kubectl"])
def test_commands(api: ApiProcess, binary: str, tmp_path: Path) -> None:
    minor = minor_of(binary)
    newest = minor == max(map(minor_of, binaries()))
    names = {name: str(tmp_path / name) for name in ("pod", "pod2", "file", "copy")}
    Path(names["pod"]).write_text(POD)
    Path(names["pod2"]).write_text(POD.replace("{app: web}", "{app: web, v: two}"))
    Path(names["file"]).write_text("a file\n")
    names["node"] = api.get("/api/v1/nodes").object["items"][0]["metadata"]["name"]
    wrong = []
    for step in STEPS:
        if minor < step.since or (not newest and ALIKE.match(step.words)):
            continue
        words = step.words.format(**names).split()
        if "--" in words[:-1] and words[0] == "run":
            assert words.count("--") == 1
        done = api.kubectl(*words, binary=binary, stdin=step.stdin, KUBE_EDITOR="sed -i s/app:.web/app:\\ edited/")
        said = done.stdout + done.stderr
        ended = done.returncode == step.ends if step.ends >= 0 else True
        if not ended or not re.search(step.says.replace("{{", "{").replace("}}", "}"), said):
            wrong.append(
                f"kubectl {' '.join(words)}: exit {done.returncode}, not {step.ends}; not {step.says!r}\n{said}"
            )
    assert not wrong, "\n".join(wrong)
    assert Path(names["copy"]).read_text() == "a file\n"


@pytest.mark.requires("kubectl")
@pytest.mark.parametrize("binary", binaries() or ["kubectl"])
def test_watching_and_forwarding(api: ApiProcess, binary: str) -> None:
    """Commands that stay: what they say while they do."""
    environment = {"KUBECONFIG": str(api.kubeconfig), "HOME": str(api.host.scratch), "PATH": "/usr/bin:/bin"}
    watched = subprocess.Popen(
        [binary, "get", "pods", "-w", "-o", "name"], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        api.make("seen", command=["python3", "-m", "http.server", "8080", "--bind", "127.0.0.1"])
        assert watched.stdout is not None
        assert watched.stdout.readline() == "pod/seen\n"
    finally:
        watched.kill()
        watched.wait()
        assert watched.stdout is not None
        watched.stdout.close()
    api.until_running("seen")
    # kubectl ends with the first connection that nobody takes.
    listens = "import socket as s, time\nwhile s.socket().connect_ex(('127.0.0.1', 8080)): time.sleep(0.05)"
    api.host.nsrun("pod", "exec", "seen", "--", "python3", "-c", listens)
    forward = subprocess.Popen(
        [binary, "port-forward", "pod/seen", ":8080"], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert forward.stdout is not None
        found = re.search(r"127\.0\.0\.1:(\d+) -> 8080", forward.stdout.readline())
        assert found is not None
        said = api.host.run("curl", "-sf", f"http://127.0.0.1:{found[1]}/")
        assert "Directory listing" in said.stdout
    finally:
        forward.kill()
        forward.wait()
        assert forward.stdout is not None
        forward.stdout.close()
    assert api.delete("/api/v1/namespaces/default/pods/seen?gracePeriodSeconds=0").code == 200


TALKER = {
    "name": "c",
    "image": "nsrun.local/host",
    "imagePullPolicy": "IfNotPresent",
    "stdin": True,
    "command": ["sh", "-c", "while read x; do echo got $x; done; sleep 100000"],
    "resources": {"limits": {"memory": "64Mi"}, "requests": {"memory": "64Mi"}},
}
RESIZE = '{"spec":{"containers":[{"name":"c","resources":{"limits":{"memory":"96Mi"},"requests":{"memory":"80Mi"}}}]}}'
IMAGE = "--image=nsrun.local/host --image-pull-policy=IfNotPresent"


@pytest.mark.requires("kubectl")
def test_a_pod_is_worked_in(api: ApiProcess, tmp_path: Path) -> None:
    """What takes a terminal, a directory, an eviction or a subresource of its own."""
    binary = max(binaries(), key=minor_of)

    def kubectl(*words: str, stdin: str | None = None) -> str:
        done = api.kubectl(*words, binary=binary, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def at_a_terminal(words: str, typed: str) -> str:
        done = subprocess.run(
            ["script", "-qec", f"{binary} {words}", "/dev/null"],
            input=typed, capture_output=True, text=True, timeout=60 * PATIENCE, check=False,
            env={**os.environ, "KUBECONFIG": str(api.kubeconfig), "HOME": str(api.host.scratch)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    pod = {"metadata": {"name": "talker"}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [TALKER]}}
    assert api.post("/api/v1/namespaces/default/pods", pod).code == 201
    api.make("victim", labels={"run": "victim"})
    kubectl("wait", "--for=condition=Ready", "pod/talker", "pod/victim", "--timeout=20s")
    if minor_of(binary) >= 32:
        assert kubectl("patch", "pod", "talker", "--subresource=resize", "-p", RESIZE) == "pod/talker patched\n"
        path = "jsonpath={.status.containerStatuses[0].resources.limits.memory}"
        kubectl("wait", f"--for={path}=96Mi", "pod/talker", "--timeout=20s")
    node = kubectl("get", "nodes", "-o", "name").strip().removeprefix("node/")
    drained = kubectl("drain", node, "--force", "--pod-selector=run=victim", "--grace-period=1")
    assert f"evicting pod default/victim\npod/victim evicted\nnode/{node} drained\n" in drained
    kubectl("uncordon", node)
    assert "talker   c " in kubectl("top", "pod", "talker", "--containers")
    tree = tmp_path / "tree" / "below"
    tree.mkdir(parents=True)
    (tree / "file").write_text("in it\n")
    kubectl("cp", str(tmp_path / "tree"), "talker:/tmp/")
    kubectl("cp", "talker:/tmp/tree", str(tmp_path / "back"))
    assert (tmp_path / "back" / "below" / "file").read_text() == "in it\n"
    attached = subprocess.Popen(
        [binary, "attach", "-i", "talker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "KUBECONFIG": str(api.kubeconfig), "HOME": str(api.host.scratch)},
    )
    try:
        assert attached.stdin is not None and attached.stdout is not None
        attached.stdin.write("typed\n")
        attached.stdin.flush()
        assert attached.stdout.readline() == "got typed\n"
    finally:
        attached.kill()
        attached.communicate()
    said = at_a_terminal(
        f"run once -it --rm {IMAGE} --restart=Never -- sh -c 'read x; test -t 0 && echo on a terminal: $x'", "word\n"
    )
    assert "on a terminal: word" in said
    assert 'pod "once" deleted' in said
    # It sees the processes of the container that it is aimed at.
    said = at_a_terminal(
        f"debug talker -it {IMAGE} --target=c -- sh -c 'read x; tr \\\\0 \" \" < /proc/1/cmdline'", "word\n"
    )
    assert "sh -c while read x" in said
    kubectl("delete", "pod", "talker")
