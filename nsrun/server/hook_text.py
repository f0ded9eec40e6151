"""What is said of a hook that failed, in the words of a kubelet (pkg/kubelet/lifecycle/handlers.go) and its runtime."""

from __future__ import annotations

from collections.abc import Sequence

from nsrun.probes.wording import quoted
from nsrun.server.instances import exec_error
from nsrun.shim import Report
from nsrun.spec.model import Container, LifecycleHandler, Pod, TCPSocketAction
from nsrun.spec.names import pod_in_words


def failed(pod: Pod, container: Container, handler: LifecycleHandler, error: str, output: bytes) -> str:
    """The message of a container that waits for PostStartHookError.

    Args:
        error: what went wrong.
        output: of a command.
    """
    where = f"Container {quoted(container.name)} in Pod {quoted(pod_in_words(pod))}"
    if handler.exec is not None:
        command = f"[{' '.join(handler.exec.command)}]"
        message = quoted(_text(output))
        return f"Exec lifecycle hook ({command}) for {where} failed - error: {error}, message: {message}"
    if handler.httpGet is not None:
        return f"HTTP lifecycle hook ({handler.httpGet.path or ''}) for {where} failed - error: {error}"
    if handler.sleep is not None:
        return f"Sleep lifecycle hook ({handler.sleep.seconds}) for {where} failed - error: {error}"
    return f"Cannot run handler: {error}"


def invalid(handler: LifecycleHandler) -> str:
    """The error of a handler that no kubelet runs (tcpSocket), as Go prints it."""
    port = _tcp_socket(handler.tcpSocket) if handler.tcpSocket is not None else "nil"
    return f"invalid handler: &LifecycleHandler{{Exec:nil,HTTPGet:nil,TCPSocket:{port},Sleep:nil,}}"


def _tcp_socket(action: TCPSocketAction) -> str:
    port = f"{{1 0 {action.port}}}" if isinstance(action.port, str) else f"{{0 {action.port} }}"
    return f"&TCPSocketAction{{Port:{port},Host:{action.host or ''},}}"


def exited(command: Sequence[str], code: int, output: bytes) -> str:
    """The error of a command that ended with another code than 0 (cri-client pkg/remote_runtime.go)."""
    return f"command '{' '.join(command)}' exited with {code}: {_text(output)}"


def not_started(report: Report) -> str:
    """The error of a command that did not begin."""
    return f"failed to exec in container: unable to start container process: {exec_error(report)}"


def not_running(container: Container) -> str:
    """The error of a hook whose container is gone before it began."""
    return f"failed to exec in container: container {quoted(container.name)} does not run any more"


def _text(output: bytes) -> str:
    return output.decode("utf-8", "surrogateescape")
