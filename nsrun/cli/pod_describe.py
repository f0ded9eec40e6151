"""`nsrun pod describe`: everything about a pod, for people, as `kubectl describe pod` lays it out.

nsrun adds the process of a running container, its hooks, why it waits, and the reasons of conditions.
Source: kubectl pkg/describe/describe.go describePod, DescribeEvents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from nsrun.cli.describe_container import container_lines, resource_lines
from nsrun.cli.describe_volume import volume_lines
from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.output import age, clean, interval, seconds_since, since_words
from nsrun.cli.params import complete_pods, namespace_option
from nsrun.cli.settings import Settings, paint, say
from nsrun.cli.show import bare
from nsrun.cli.tabs import tabbed

Object = dict[str, Any]
ANNOTATION_MAX = 140
"""An annotation longer than this gets lines of its own, each cut to it."""
HIDDEN_ANNOTATIONS = ("kubectl.kubernetes.io/last-applied-configuration",)


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
            say("\n")
        for line in lines_of(answer["pod"], answer.get("runtime") or {}, events):
            say(paint(line, "yellow" if line.startswith("  Warning ") else None))
    return 0


def lines_of(pod: Object, runtime: Object, events: list[Object]) -> list[str]:
    """The whole description."""
    # kubectl aligns the events by themselves.
    return tabbed(pod_lines(pod, runtime)) + tabbed(event_lines(events))


def pod_lines(pod: Object, runtime: Object) -> list[str]:
    """All but the events, with tabs after cells."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    lines = [f"Name:\t{metadata['name']}", f"Namespace:\t{metadata.get('namespace', 'default')}"]
    lines += _if_given(spec, priority="Priority", priorityClassName="Priority Class Name")
    lines += _if_given(spec, runtimeClassName="Runtime Class Name", serviceAccountName="Service Account")
    node = spec.get("nodeName")
    lines.append(f"Node:\t{node + '/' + str(status.get('hostIP', '')) if node else '<none>'}")
    lines += [f"Start Time:\t{since_words(status['startTime'])}"] if status.get("startTime") else []
    lines += mapping_lines("Labels", metadata.get("labels"))
    lines += annotation_lines(metadata.get("annotations"))
    phase = status.get("phase", "Pending")
    if metadata.get("deletionTimestamp") and phase not in ("Failed", "Succeeded"):
        lines.append(f"Status:\tTerminating (lasts {age(seconds_since(metadata['deletionTimestamp']))})")
        lines.append(f"Termination Grace Period:\t{metadata.get('deletionGracePeriodSeconds', 0)}s")
    else:
        lines.append(f"Status:\t{phase}")
    lines += _if_given(status, reason="Reason", message="Message")
    profile = (spec.get("securityContext") or {}).get("seccompProfile") or {}
    lines += _if_given(profile, type="SeccompProfile", localhostProfile="LocalhostProfile")
    lines.append(f"IP:\t{status.get('podIP', '')}")
    ips = status.get("podIPs") or []
    lines += ["IPs:", *(f"  IP:\t{one['ip']}" for one in ips)] if ips else ["IPs:\t<none>"]
    if runtime.get("first_id"):
        first = int(runtime["first_id"])
        lines.append(f"Users:\t0 to 65535 are {first} to {first + 65535} of the machine (hostUsers: false)")
    if spec.get("resources") is not None:
        lines += ["Resources:", *resource_lines(spec["resources"], 1)]
    lines += containers_lines(pod, runtime)
    lines += condition_lines(spec, status.get("conditions") or [])
    volumes = spec.get("volumes") or []
    lines.append("Volumes:" if volumes else "Volumes:\t<none>")
    for volume in volumes:
        lines += volume_lines(volume)
    lines.append(f"QoS Class:\t{status.get('qosClass', '')}")
    lines += mapping_lines("Node-Selectors", spec.get("nodeSelector"))
    return lines + toleration_lines(spec.get("tolerations") or [])


def _if_given(values: Mapping[str, Any], **titles: str) -> list[str]:
    return [
        f"{title}:\t{clean(str(values[key]))}"
        for key, title in titles.items()
        if values.get(key) is not None and values[key] != ""
    ]


def mapping_lines(title: str, values: Mapping[str, str] | None) -> list[str]:
    """Labels and the like, one on a line, in the order of their names."""
    cells = [f"{key}={values[key]}" for key in sorted(values)] if values else ["<none>"]
    return [f"{title + ':' if at == 0 else ''}\t{clean(cell)}" for at, cell in enumerate(cells)]


def annotation_lines(values: Mapping[str, str] | None) -> list[str]:
    """Annotations; long ones and those of several lines below their names."""
    cells: list[str] = []
    for key in sorted(values or {}):
        if key in HIDDEN_ANNOTATIONS:
            continue
        value = (values or {})[key].removesuffix("\n")
        if len(value) + len(key) + 2 > ANNOTATION_MAX or "\n" in value:
            cells.append(f"{key}:")
            cells += [f"  {_shortened(clean(line), ANNOTATION_MAX - 2)}" for line in value.split("\n")]
        else:
            cells.append(f"{key}: {clean(value)}")
    return [f"{'Annotations:' if at == 0 else ''}\t{cell}" for at, cell in enumerate(cells or ["<none>"])]


def _shortened(text: str, limit: int) -> str:
    return text[:limit] + "..." if len(text) > limit else text


def containers_lines(pod: Object, runtime: Object) -> list[str]:
    """The three lists of containers; the mains are always there."""
    spec, status = pod["spec"], pod.get("status") or {}
    instances: dict[str, Object] = {str(one.get("name")): one for one in runtime.get("instances") or []}
    lines: list[str] = []
    for title, key in (
        ("Init Containers", "initContainers"),
        ("Containers", "containers"),
        ("Ephemeral Containers", "ephemeralContainers"),
    ):
        containers = spec.get(key) or []
        if not containers and key != "containers":
            continue
        states = {one["name"]: one for one in status.get(f"{key[:-1]}Statuses") or []}
        lines.append(f"{title}:")
        for container in containers:
            name = container["name"]
            lines += container_lines(pod, container, states.get(name), instances.get(name) or {})
    return lines


def condition_lines(spec: Object, conditions: Iterable[Object]) -> list[str]:
    """Readiness gates and conditions."""
    known = {one["type"]: one for one in conditions}
    lines: list[str] = []
    gates = spec.get("readinessGates") or []
    if gates:
        lines += ["Readiness Gates:", "  Type\tStatus"]
        for gate in gates:
            kind = gate["conditionType"]
            lines.append(f"  {kind} \t{known[kind]['status'] if kind in known else '<none>'} ")
    if known:
        lines += ["Conditions:", "  Type\tStatus"]
        for one in known.values():
            why = ": ".join(clean(str(one[key])) for key in ("reason", "message") if one.get(key))
            lines.append(f"  {one['type']} \t{one['status']} " + (f"\t{why}" if why else ""))
    return lines


def toleration_lines(tolerations: Iterable[Object]) -> list[str]:
    """Tolerations, one on a line."""
    cells: list[str] = []
    for one in tolerations:
        text = str(one.get("key", ""))
        text += f"={one['value']}" if one.get("value") else ""
        text += f":{one['effect']}" if one.get("effect") else ""
        if one.get("operator") == "Exists" and not one.get("value"):
            text += " op=Exists" if text else "op=Exists"
        text += f" for {one['tolerationSeconds']}s" if one.get("tolerationSeconds") is not None else ""
        cells.append(text)
    return [f"{'Tolerations:' if at == 0 else ''}\t{clean(cell)}" for at, cell in enumerate(cells or ["<none>"])]


def event_lines(events: list[Object]) -> list[str]:
    """The events, oldest first by the last time."""
    if not events:
        return ["Events:\t<none>"]
    lines = ["Events:", "  Type\tReason\tAge\tFrom\tMessage", "  ----\t------\t----\t----\t-------"]
    for event in sorted(events, key=lambda one: str(one.get("lastTimestamp") or "")):
        source = (event.get("source") or {}).get("component") or event.get("reportingComponent") or ""
        message = clean(str(event.get("message", "")).strip())
        lines.append(f"  {event.get('type', '')}\t{event.get('reason', '')}\t{interval(event)}\t{source}\t{message}")
    return lines
