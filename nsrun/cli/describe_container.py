"""A container in `nsrun pod describe`. Source: kubectl pkg/describe/describe.go describeContainers and what it calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nsrun.cli.output import clean, since_words

Object = dict[str, Any]


def container_lines(pod: Object, container: Object, status: Object | None, instance: Object) -> list[str]:
    """Everything about one container, with tabs after cells; `status` is None when nothing is known of it yet."""
    lines = [f"  {container['name']}:"]
    if status is not None:
        lines.append(f"    Container ID:\t{status.get('containerID', '')}")
    if instance.get("pid") and status is not None and "running" in (status.get("state") or {}):
        lines.append(f"    Process:\tpid {instance['pid']}")
    lines.append(f"    Image:\t{clean(container.get('image', ''))}")
    if status is not None:
        lines.append(f"    Image ID:\t{status.get('imageID', '')}")
    lines += port_lines(container.get("ports") or [])
    profile = (container.get("securityContext") or {}).get("seccompProfile") or {}
    lines += [f"    SeccompProfile:\t{profile['type']}"] if profile.get("type") else []
    lines += [f"      LocalhostProfile:\t{profile['localhostProfile']}"] if profile.get("localhostProfile") else []
    for title, key in (("Command", "command"), ("Args", "args")):
        if container.get(key):
            words = [part for word in container[key] for part in word.split("\n")]
            lines += [f"    {title}:", *(f"      {clean(word)}" for word in words)]
    if status is not None:
        lines += state_lines("State", status.get("state") or {})
        if "terminated" in (status.get("lastState") or {}):
            lines += state_lines("Last State", status["lastState"])
        lines.append(f"    Ready:\t{status.get('ready', False)}")
        lines.append(f"    Restart Count:\t{status.get('restartCount', 0)}")
    lines += resource_lines(container.get("resources") or {}, 2)
    for title, key in (("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe")):
        lines += [f"    {title}:\t{probe_words(container[key])}"] if container.get(key) else []
    lifecycle = container.get("lifecycle") or {}
    for title, key in (("Post-Start", "postStart"), ("Pre-Stop", "preStop")):
        lines += [f"    {title}:\t{handler_words(lifecycle[key])}"] if lifecycle.get(key) else []
    lines += environment_lines(pod, container)
    return lines + mount_lines(container)


def port_lines(ports: list[Object]) -> list[str]:
    """Ports of the container and of the machine."""
    lines = []
    for title, key in (("Port", "containerPort"), ("Host Port", "hostPort")):
        cells = [f"{one.get(key, 0)}/{one.get('protocol', 'TCP')}" for one in ports]
        lines.append(f"    {title}{'s' if len(cells) > 1 else ''}:\t{', '.join(cells) or '<none>'}")
    return lines


def state_lines(title: str, state: Object) -> list[str]:
    """A container state of the API."""
    if "running" in state:
        return [f"    {title}:\tRunning", f"      Started:\t{since_words((state['running'] or {}).get('startedAt'))}"]
    if "terminated" not in state:
        waiting = state.get("waiting") or {}
        return [f"    {title}:\tWaiting", *reason_lines(waiting)]
    ended = state["terminated"] or {}
    lines = [f"    {title}:\tTerminated", *reason_lines(ended)]
    lines.append(f"      Exit Code:\t{ended.get('exitCode', 0)}")
    lines += [f"      Signal:\t{ended['signal']}"] if ended.get("signal") else []
    lines.append(f"      Started:\t{since_words(ended.get('startedAt'))}")
    lines.append(f"      Finished:\t{since_words(ended.get('finishedAt'))}")
    return lines


def reason_lines(state: Object) -> list[str]:
    """Reason and message of a state; a message may have several lines."""
    lines = []
    for name, key in (("Reason", "reason"), ("Message", "message")):
        if state.get(key):
            first, *rest = str(state[key]).rstrip("\n").split("\n")
            lines += [f"      {name}:\t{clean(first)}", *(f"      \t{clean(line)}" for line in rest)]
    return lines


def resource_lines(resources: Object, level: int) -> list[str]:
    """Limits and requests, indented by `level` times two blanks."""
    indent = "  " * level
    lines = []
    for title, key in (("Limits", "limits"), ("Requests", "requests")):
        amounts: Mapping[str, str] = resources.get(key) or {}
        if amounts:
            lines += [f"{indent}{title}:", *(f"{indent}  {name}:\t{amounts[name]}" for name in sorted(amounts))]
    return lines


def probe_words(probe: Object) -> str:
    """`http-get http://:8080/healthz delay=0s timeout=1s period=10s #success=1 #failure=3`."""
    return (
        f"{handler_words(probe)} delay={probe.get('initialDelaySeconds', 0)}s timeout={probe.get('timeoutSeconds', 1)}s "
        f"period={probe.get('periodSeconds', 10)}s #success={probe.get('successThreshold', 1)} "
        f"#failure={probe.get('failureThreshold', 3)}"
    )


def handler_words(handler: Object) -> str:
    """What a probe or a hook does."""
    if "exec" in handler:
        return f"exec [{clean(' '.join((handler['exec'] or {}).get('command') or []))}]"
    if "httpGet" in handler:
        http = handler["httpGet"]
        host = str(http.get("host", ""))
        place = f"[{host}]" if ":" in host else host
        return clean(
            f"http-get {http.get('scheme', 'HTTP').lower()}://{place}:{http.get('port', '')}{http.get('path', '')}"
        )
    if "tcpSocket" in handler:
        return clean(f"tcp-socket {handler['tcpSocket'].get('host', '')}:{handler['tcpSocket'].get('port', '')}")
    if "grpc" in handler:
        return clean(f"grpc <pod>:{handler['grpc'].get('port', 0)} {handler['grpc'].get('service', '')}")
    if "sleep" in handler:
        return f"sleep {handler['sleep'].get('seconds', 0)}s"
    return "unknown"


def environment_lines(pod: Object, container: Object) -> list[str]:
    """Sources of variables, and variables with their values as far as they are known without looking into the container."""
    lines = []
    if container.get("envFrom"):
        lines.append("    Environment Variables from:")
        for one in container["envFrom"]:
            kind, source = (
                ("ConfigMap", one["configMapRef"])
                if one.get("configMapRef")
                else ("Secret", one.get("secretRef") or {})
            )
            prefix = f" with prefix '{one['prefix']}'" if one.get("prefix") else ""
            optional = str(bool(source.get("optional"))).lower()
            lines.append(clean(f"      {source.get('name', '')}") + f"\t{kind}{prefix}\tOptional: {optional}")
    variables = container.get("env") or []
    lines.append("    Environment:" if variables else "    Environment:\t<none>")
    for one in variables:
        name = f"      {clean(one['name'])}:"
        source = one.get("valueFrom")
        if source is None:
            first, *rest = str(one.get("value", "")).split("\n")
            lines += [f"{name}\t{clean(first)}", *(f"      \t{clean(line)}" for line in rest)]
        else:
            lines.append(f"{name}\t{source_words(pod, container, source)}")
    return lines


def source_words(pod: Object, container: Object, source: Object) -> str:
    """Where a variable's value comes from."""
    for key, kind in (("secretKeyRef", "in secret"), ("configMapKeyRef", "of config map")):
        if source.get(key):
            one = source[key]
            optional = str(bool(one.get("optional"))).lower()
            return (
                clean(f"<set to the key '{one.get('key', '')}' {kind} '{one.get('name', '')}'>")
                + f"\tOptional: {optional}"
            )
    if source.get("fileKeyRef"):
        one = source["fileKeyRef"]
        optional = str(bool(one.get("optional"))).lower()
        text = f"<set to the key '{one.get('key', '')}' of file '{one.get('path', '')}' in volume '{one.get('volumeName', '')}'>"
        return clean(text) + f"\tOptional: {optional}"
    if source.get("fieldRef"):
        field = source["fieldRef"]
        path = str(field.get("fieldPath", ""))
        return clean(f"{metadata_value(pod, path)} ({field.get('apiVersion', 'v1')}:{path})")
    resource = str((source.get("resourceFieldRef") or {}).get("resource", ""))
    kind, _, name = resource.partition(".")
    amount = ((container.get("resources") or {}).get(kind) or {}).get(name)
    if amount is None and resource in ("limits.cpu", "limits.memory"):
        amount = "node allocatable"
    return clean(f"{amount or 0} ({resource})")


def metadata_value(pod: Object, path: str) -> str:
    """What a field path of the metadata leads to; "" for others, which only the container knows."""
    group, _, rest = path.partition(".")
    if group != "metadata":
        return ""
    name, bracket, key = rest.partition("['")
    if bracket:
        return str((pod["metadata"].get(name) or {}).get(key.removesuffix("']"), ""))
    value = pod["metadata"].get(name, "")
    return value if isinstance(value, str) else " ".join(f'{one}="{value[one]}"' for one in sorted(value))


def mount_lines(container: Object) -> list[str]:
    """Mounts, in the order of their paths, and block devices."""
    mounts = sorted(container.get("volumeMounts") or [], key=lambda one: str(one.get("mountPath", "")))
    lines = ["    Mounts:" if mounts else "    Mounts:\t<none>"]
    for one in mounts:
        flags = "ro" if one.get("readOnly") else "rw"
        flags += f',path="{one["subPath"]}"' if one.get("subPath") else ""
        lines.append(clean(f"      {one.get('mountPath', '')} from {one.get('name', '')} ({flags})"))
    devices = sorted(container.get("volumeDevices") or [], key=lambda one: str(one.get("devicePath", "")))
    if devices:
        lines.append("    Devices:")
        lines += [clean(f"      {one.get('devicePath', '')} from {one.get('name', '')}") for one in devices]
    return lines
