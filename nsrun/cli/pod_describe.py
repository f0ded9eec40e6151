"""`nsrun pod describe`: everything about a pod, for people."""

from __future__ import annotations

from typing import Any

import click

from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.output import age, clean, seconds_since
from nsrun.cli.params import complete_pods, namespace_option
from nsrun.cli.settings import Settings, paint, say
from nsrun.cli.show import bare

Object = dict[str, Any]
WIDTH = 18


@click.command(
    cls=HelpfulCommand,
    help="Tell what there is to know about a pod: its containers, their states, conditions, events.",
    examples="""
    nsrun pod describe web
    """,
)
@click.argument("names", metavar="POD...", nargs=-1, required=True, shell_complete=complete_pods)
@namespace_option
@click.pass_obj
def describe(settings: Settings, /, names: tuple[str, ...], namespace: str | None) -> int:
    """`nsrun pod describe`."""
    for number, name in enumerate(names):
        plain = bare(name)
        answer = settings.session().request("pod.get", {"name": plain, "namespace": namespace}).result
        events = settings.session().request("pod.events", {"name": plain, "namespace": namespace}).result["events"]
        if number:
            say("")
        for line in lines_of(answer["pod"], answer.get("runtime") or {}, events):
            say(line)
    return 0


def field(name: str, value: object, indent: int = 0) -> str:
    """`Name:   value`, aligned."""
    return f"{' ' * indent}{name + ':':<{WIDTH}}{clean(str(value))}".rstrip()


def lines_of(pod: Object, runtime: Object, events: list[Object]) -> list[str]:
    """The whole description."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    lines = [
        field("Name", metadata["name"]),
        field("Namespace", metadata.get("namespace", "default")),
        field("UID", metadata.get("uid", "")),
        *mapping("Labels", metadata.get("labels")),
        *mapping("Annotations", metadata.get("annotations")),
        field(
            "Phase",
            status.get("phase", "Pending") + ("" if not metadata.get("deletionTimestamp") else " (terminating)"),
        ),
    ]
    lines += [
        field(name, status[key]) for name, key in (("Reason", "reason"), ("Message", "message")) if status.get(key)
    ]
    lines += [
        field("IP", status.get("podIP") or ("the machine's" if spec.get("hostNetwork") else "<none>")),
        field(
            "Started",
            f"{status['startTime']} ({age(seconds_since(status['startTime']))} ago)"
            if status.get("startTime")
            else "-",
        ),
        field("Restart policy", spec.get("restartPolicy", "Always")),
        field("Grace period", f"{spec.get('terminationGracePeriodSeconds', 30)}s"),
        field("QoS class", status.get("qosClass", "-")),
    ]
    if runtime.get("shim_pid"):
        lines.append(field("Shim", f"pid {runtime['shim_pid']}"))
    states = {
        one["name"]: one for key in ("initContainerStatuses", "containerStatuses") for one in status.get(key) or []
    }
    instances: dict[str, Object] = {str(one.get("name")): one for one in runtime.get("instances") or []}
    for heading, key in (("Init containers", "initContainers"), ("Containers", "containers")):
        containers = spec.get(key) or []
        if containers:
            lines.append(paint(f"{heading}:", "bold"))
        for container in containers:
            lines += container_lines(
                container, states.get(container["name"]) or {}, instances.get(container["name"]) or {}
            )
    conditions = status.get("conditions") or []
    if conditions:
        lines.append(paint("Conditions:", "bold"))
        for one in conditions:
            why = ": ".join(clean(str(one[key])) for key in ("reason", "message") if one.get(key))
            lines.append(f"  {one['type']:<28}{one['status']:<8}{why}".rstrip())
    lines.append(paint("Events:", "bold") + ("" if events else " none"))
    for event in events:
        moment = event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp")
        times = f" (x{event['count']})" if int(event.get("count") or 1) > 1 else ""
        text = (
            f"  {age(seconds_since(moment)) + times:<12}{event.get('type', ''):<9}{event.get('reason', ''):<20}"
            f"{clean(str(event.get('message', '')))}"
        )
        lines.append(paint(text, "yellow" if event.get("type") == "Warning" else None))
    return lines


def mapping(name: str, values: dict[str, str] | None) -> list[str]:
    """Labels or annotations, one on a line."""
    if not values:
        return [field(name, "<none>")]
    first, *rest = [f"{key}={value}" for key, value in values.items()]
    return [field(name, first), *(" " * WIDTH + clean(one) for one in rest)]


def container_lines(container: Object, status: Object, instance: Object) -> list[str]:
    """One container."""
    sidecar = " (sidecar)" if container.get("restartPolicy") == "Always" else ""
    lines = [f"  {container['name']}{sidecar}:", field("Image", container.get("image", ""), 4)]
    lines += [
        field(name, " ".join(container[key]), 4)
        for name, key in (("Command", "command"), ("Args", "args"))
        if container.get(key)
    ]
    lines += state_lines("State", status.get("state") or {})
    lines += state_lines("Last state", status.get("lastState") or {}) if status.get("lastState") else []
    if instance.get("pid") and "running" in (status.get("state") or {}):
        lines.append(field("Process", f"pid {instance['pid']}", 4))
    lines.append(field("Ready", status.get("ready", False), 4))
    lines.append(field("Restarts", status.get("restartCount", 0), 4))
    ports = [f"{one.get('containerPort')}/{one.get('protocol', 'TCP')}" for one in container.get("ports") or []]
    lines += [field("Ports", ", ".join(ports), 4)] if ports else []
    mounts = [
        f"{one['mountPath']} from {one['name']}{' (read-only)' if one.get('readOnly') else ''}"
        for one in container.get("volumeMounts") or []
    ]
    lines += [field("Mounts", "; ".join(mounts), 4)] if mounts else []
    return lines


def state_lines(name: str, state: Object) -> list[str]:
    """A container state of the API in words."""
    if "running" in state:
        since = (state["running"] or {}).get("startedAt")
        return [field(name, f"running since {since} ({age(seconds_since(since))})", 4)]
    if "terminated" in state:
        ended = state["terminated"] or {}
        lines = [
            field(
                name,
                f"{ended.get('reason', 'terminated')}, exit code {ended.get('exitCode')}, at {ended.get('finishedAt')}",
                4,
            )
        ]
        return lines + ([field("Message", ended["message"].strip(), 4)] if ended.get("message") else [])
    waiting = state.get("waiting") or {}
    why = ": ".join(str(waiting[key]) for key in ("reason", "message") if waiting.get(key))
    return [field(name, f"waiting{': ' + why if why else ''}", 4)]
