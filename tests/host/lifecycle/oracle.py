"""What a kubelet would say of container statuses: its rules written down a second time, on nothing but the published object.

Source: kubelet pkg/kubelet/kubelet_pods.go getPhase, pkg/kubelet/status/generate.go, pkg/api/v1/pod/util.go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


def restarts(spec: Object, container: Object, code: int) -> bool:
    """Whether a container that ended by itself with `code` is started again (S-RESTART)."""
    policy = container.get("restartPolicy")
    if policy is None:
        policy = spec.get("restartPolicy", "Always")
    else:
        for rule in container.get("restartPolicyRules", []):
            codes = rule["exitCodes"]
            if (code in codes["values"]) == (codes["operator"] == "In"):
                return True
    return policy == "Always" or (policy == "OnFailure" and code != 0)


RESTARTING_ALL = "RestartingAllContainers"
"""Who ended for this reason is started again whatever its policy."""


def _ended(status: Object) -> Object | None:
    """How it ended: now, or before it was told to wait."""
    state = status.get("state", {})
    if state.get("terminated"):
        end: Object = state["terminated"]
        return end
    return status.get("lastState", {}).get("terminated") if state.get("waiting") else None


def phases(pod: Object) -> set[str]:
    """The phases that go with these container statuses (S-PHASE).

    Two where it depends on what the status does not tell: whether a main container was begun in the present sandbox, and
    whether anything will be started again.
    """
    return {_phase(pod, over=over, initialized=initialized) for over in (False, True) for initialized in (False, True)}


def _phase(pod: Object, *, over: bool, initialized: bool) -> str:
    spec, status = pod["spec"], pod["status"]
    shown = {one["name"]: one for one in status.get("initContainerStatuses", []) + status.get("containerStatuses", [])}
    pending = pending_sidecars = failed = waiting = running = stopped = succeeded = 0
    going_on = False
    for container in spec.get("initContainers", []):
        one = shown[container["name"]]
        end = _ended(one)
        if container.get("restartPolicy") == "Always":
            if one["state"].get("running"):
                running += 1
                pending_sidecars += not one.get("started")
            elif end is None:
                waiting += 1
                pending_sidecars += 1
        elif end is None:
            pending += 1
        elif end["exitCode"] != 0:
            failed += not (restarts(spec, container, end["exitCode"]) or end["reason"] == RESTARTING_ALL)
    for container in spec["containers"]:
        one = shown[container["name"]]
        end = _ended(one)
        if one["state"].get("running"):
            running += 1
        elif end is None:
            waiting += 1
        else:
            stopped += 1
            succeeded += end["exitCode"] == 0
            going_on |= restarts(spec, container, end["exitCode"]) or end["reason"] == RESTARTING_ALL
    if failed:
        return "Failed"
    if pending or waiting or (pending_sidecars and not initialized):
        return "Pending"
    if running:
        return "Running"
    if going_on and not over:
        return "Running"
    return "Succeeded" if succeeded == stopped else "Failed"


def judge(pod: Object) -> None:
    """Everything in one published status that has to fit together."""
    spec, status = pod["spec"], pod["status"]
    deleting = "deletionTimestamp" in pod["metadata"]
    name = pod["metadata"]["name"]
    if not status.get("containerStatuses"):
        return
    if not deleting and not status.get("reason"):
        fitting = phases(pod)
        if fitting & {"Succeeded", "Failed"} and _winding_up(pod):
            fitting |= {"Pending", "Running"}
        assert status["phase"] in fitting, (name, status)
    conditions = {one["type"]: one for one in status["conditions"]}
    shown = {one["name"]: one for one in status.get("initContainerStatuses", []) + status["containerStatuses"]}
    sidecars = [one["name"] for one in spec.get("initContainers", []) if one.get("restartPolicy") == "Always"]
    serving = [*sidecars, *(one["name"] for one in spec["containers"])]
    unready = [one for one in serving if not shown[one]["ready"]]
    ready = conditions["ContainersReady"]
    if ready["status"] == "True":
        assert not unready, (name, unready)
    elif ready.get("reason") == "ContainersNotReady":
        assert ready["message"] == f"containers with unready status: [{' '.join(unready)}]", (name, ready, unready)
    else:
        assert ready["reason"] in ("PodCompleted", "PodFailed"), (name, ready)
    for one in shown.values():
        assert sum(1 for value in one["state"].values() if value) == 1, (name, one)
        end = one["state"].get("terminated")
        if end and end["reason"] in ("Completed", "Error"):
            assert (end["reason"] == "Completed") == (end["exitCode"] == 0), (name, one)
        if one["name"] in serving:
            assert not one["ready"] or (one["started"] and one["state"].get("running")), (name, one)
        else:
            assert one["ready"] == bool(end and end["exitCode"] == 0), (name, one)


def _winding_up(pod: Object) -> bool:
    """Whether something still runs: a terminal phase waits for its end."""
    statuses = pod["status"].get("initContainerStatuses", []) + pod["status"]["containerStatuses"]
    return any(one["state"].get("running") for one in statuses)


def follow(before: Object, after: Object) -> None:
    """What has to hold between two statuses of a pod, one after the other."""
    name = after["metadata"]["name"]
    assert int(after["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"]), name
    if before["status"].get("phase") in ("Succeeded", "Failed"):
        assert after["status"]["phase"] == before["status"]["phase"], name
    lists = ("initContainerStatuses", "containerStatuses")
    earlier = {one["name"]: one for key in lists for one in before["status"].get(key, [])}
    specs = {one["name"]: one for key in ("initContainers", "containers") for one in after["spec"].get(key, [])}
    for one in (status for key in lists for status in after["status"].get(key, [])):
        old = earlier.get(one["name"])
        if old is None:
            continue
        grown = one["restartCount"] - old["restartCount"]
        assert grown >= 0, (name, old, one)
        end = old["state"].get("terminated")
        if grown and end and end["reason"] in ("Completed", "Error"):
            why = one.get("lastState", {}).get("terminated", {}).get("reason")
            of_the_pod = why in ("ContainerStatusUnknown", "RestartingAllContainers")
            assert restarts(after["spec"], specs[one["name"]], end["exitCode"]) or of_the_pod, (name, old, one)


@dataclass
class Told:
    """What one container has told so far."""

    starts: int = 0
    ends: list[int] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return self.starts > len(self.ends)


def try_journal(pod: dict[str, Any], lines: list[str], told_to_stop: bool) -> None:
    """Hold what the containers of a pod said, in its order, against the rules. One sandbox, no kills of containers."""
    spec = pod["spec"]
    inits, mains = spec["initContainers"], spec["containers"]
    containers = {one["name"]: one for one in (*inits, *mains)}
    sidecars = {one["name"] for one in inits if one.get("restartPolicy") == "Always"}
    told = {name: Told() for name in containers}
    stopping = False
    for line in lines:
        name, what = line.split(" ", 1)
        one = told[name]
        if what == "start":
            assert not one.alive, f"two instances of {name} at once"
            assert not (stopping and told_to_stop), f"{name} started while the pod was taken down"
            if one.ends and name not in sidecars:
                again = restarts(spec, containers[name], one.ends[-1])
                assert again, f"{name} was started again after {one.ends[-1]}"
            _in_turn(name, inits, sidecars, told)
            one.starts += 1
        elif what == "term":
            stopping = True
            assert one.alive
            if name in sidecars and told_to_stop is False:
                assert not any(told[main["name"]].alive for main in mains), (
                    f"{name} was stopped before the mains were done"
                )
        else:
            assert one.alive
            one.ends.append(int(what.split()[1]))


def _in_turn(name: str, inits: list[dict[str, Any]], sidecars: set[str], told: dict[str, Told]) -> None:
    for earlier in inits:
        if earlier["name"] == name:
            return
        before = told[earlier["name"]]
        if earlier["name"] in sidecars:
            assert before.starts, f"{name} started before {earlier['name']}"
        else:
            assert before.ends, f"{name} started before {earlier['name']} had ended"
            if name not in sidecars:
                assert before.ends[-1] == 0, f"{name} started although {earlier['name']} had failed"
