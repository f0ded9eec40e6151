"""What is said of hooks that failed, letter by letter as a kubelet says it (pkg/kubelet/lifecycle/handlers_test.go for the commands)."""

from __future__ import annotations

import errno

import pytest

from nsrun.server import hook_text
from nsrun.shim import Report
from nsrun.spec.model import (
    Container,
    ExecAction,
    HTTPGetAction,
    LifecycleHandler,
    ObjectMeta,
    Pod,
    PodSpec,
    SleepAction,
    TCPSocketAction,
)

POD = Pod(metadata=ObjectMeta(name="podFoo", namespace="nsFoo", uid="1-2"), spec=PodSpec())
CONTAINER = Container(name="containerFoo")
WHERE = 'for Container "containerFoo" in Pod "podFoo_nsFoo(1-2)" failed - error:'


@pytest.mark.parametrize(
    ("handler", "output", "text"),
    [
        (
            LifecycleHandler(exec=ExecAction(command=["ls", "-l", "a b"])),
            b'out\n"quoted"\t\x00\xff\xc3\xa9\x1b',
            f'Exec lifecycle hook ([ls -l a b]) {WHERE} why, message: "out\\n\\"quoted\\"\\t\\x00\\xff\u00e9\\x1b"',
        ),
        (
            LifecycleHandler(exec=ExecAction(command=["ls"])),
            b"",
            f'Exec lifecycle hook ([ls]) {WHERE} why, message: ""',
        ),
        (LifecycleHandler(httpGet=HTTPGetAction(path="/x?y", port=80)), b"", f"HTTP lifecycle hook (/x?y) {WHERE} why"),
        (LifecycleHandler(httpGet=HTTPGetAction(port=80)), b"", f"HTTP lifecycle hook () {WHERE} why"),
        (LifecycleHandler(sleep=SleepAction(seconds=5)), b"", f"Sleep lifecycle hook (5) {WHERE} why"),
        (LifecycleHandler(tcpSocket=TCPSocketAction(port=80)), b"", "Cannot run handler: why"),
    ],
)
def test_S_HOOK_the_message_of_the_waiting_container(handler: LifecycleHandler, output: bytes, text: str) -> None:
    assert hook_text.failed(POD, CONTAINER, handler, "why", output) == text


@pytest.mark.parametrize(
    ("action", "shown"),
    [
        (TCPSocketAction(port=8080), "&TCPSocketAction{Port:{0 8080 },Host:,}"),
        (TCPSocketAction(port="web", host="h"), "&TCPSocketAction{Port:{1 0 web},Host:h,}"),
        (None, "nil"),
    ],
)
def test_S_HOOK_a_handler_that_no_kubelet_runs(action: TCPSocketAction | None, shown: str) -> None:
    text = hook_text.invalid(LifecycleHandler(tcpSocket=action))
    assert text == f"invalid handler: &LifecycleHandler{{Exec:nil,HTTPGet:nil,TCPSocket:{shown},Sleep:nil,}}"


def test_S_HOOK_how_a_command_ended() -> None:
    assert hook_text.exited(["sh", "-c", "x"], 3, b"no\n") == "command 'sh -c x' exited with 3: no\n"
    missing = Report(step=9, op="EXEC", error=errno.ENOENT, subject="nothing")
    assert hook_text.not_started(missing) == (
        'failed to exec in container: unable to start container process: exec: "nothing": executable file not found in $PATH'
    )
    before = Report(step=2, op="CHDIR", error=errno.EACCES, subject="/secret")
    assert "step 2 CHDIR /secret: Permission denied" in hook_text.not_started(before)
