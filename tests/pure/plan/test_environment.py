"""S-ENV, command lines, working directories."""

from __future__ import annotations

from typing import Any

import pytest

from nsrun.plan import ImageConfig, ImageUser, ObjectValues, PlanError, Reference, references
from nsrun.plan.environment import (
    DEFAULT_PATH,
    as_strings,
    command_line,
    environment,
    field_value,
    pod_environment,
    resource_value,
    working_directory,
)
from nsrun.spec.model import (
    ConfigMapEnvSource,
    ConfigMapKeySelector,
    Container,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    FileKeySelector,
    ObjectFieldSelector,
    ResourceFieldSelector,
    ResourceRequirements,
    SecretEnvSource,
    SecretKeySelector,
)
from tests.pure.plan.pods import NODE, env, inputs, pod


def test_S_ENV_later_variables_see_earlier_ones_and_not_the_images() -> None:
    container = Container(
        name="app",
        env=[
            *env(A="1", B="$(A)2", C="$(D)", D="4", E="$(LANG)"),
            EnvVar(name="A", value="$(A)$(A)"),
            EnvVar(name="F", value="$(A)"),
        ],
    )
    given = inputs(image_config=ImageConfig(env=("LANG=C",)))
    assert pod_environment(pod(container), container, given) == {
        "A": "11",
        "B": "12",
        "C": "$(D)",
        "D": "4",
        "E": "$(LANG)",
        "F": "11",
    }


def test_S_ENV_the_pod_beats_the_image_beats_the_runtime() -> None:
    given = inputs(image_config=ImageConfig(env=("PATH=/image", "HOSTNAME=fake", "LANG=C", "EMPTY=", "EQ=a=b")))
    assert environment({"LANG": "de", "X": "1"}, given, tty=False) == {
        "PATH": "/image",
        "HOSTNAME": "fake",
        "LANG": "de",
        "EMPTY": "",
        "EQ": "a=b",
        "X": "1",
        "HOME": "/root",
    }


def test_S_ENV_what_there_is_without_anything() -> None:
    assert environment({}, inputs(user=ImageUser(7, 7, (), "")), tty=True) == {
        "PATH": DEFAULT_PATH,
        "HOSTNAME": "web",
        "TERM": "xterm",
        "HOME": "/",
    }


def test_S_ENV_home_is_the_users_unless_somebody_says_otherwise() -> None:
    assert environment({"HOME": "/x"}, inputs(), tty=False)["HOME"] == "/x"
    assert environment({}, inputs(image_config=ImageConfig(env=("HOME=/y",))), tty=False)["HOME"] == "/y"


def test_S_ENV_no_environment_holds_a_nul() -> None:
    with pytest.raises(PlanError, match="NUL") as caught:
        as_strings({"A": "x\0y"})
    assert caught.value.reason == "CreateContainerError"


ENTRY, CMD = ("/entry",), ("cmd", "$(A)")


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        ([], [], ("/entry", "cmd", "$(A)")),
        (["c"], [], ("c",)),
        ([], ["a"], ("/entry", "a")),
        (["c"], ["a"], ("c", "a")),
        (["$(A)"], ["$$(A)", "$(B)"], ("1", "$(A)", "$(B)")),
    ],
)
def test_command_and_args_against_entrypoint_and_cmd(
    command: list[str], args: list[str], expected: tuple[str, ...]
) -> None:
    container = Container(name="app", command=command, args=args)
    assert command_line(container, ImageConfig(entrypoint=ENTRY, cmd=CMD), {"A": "1"}) == expected


def test_an_image_with_cmd_only() -> None:
    image = ImageConfig(cmd=("sh", "-c", "x"))
    assert command_line(Container(name="app"), image, {}) == ("sh", "-c", "x")
    assert command_line(Container(name="app", args=["ls"]), image, {}) == ("ls",)


@pytest.mark.parametrize("container", [Container(name="app"), Container(name="app", command=["$(EMPTY)"])])
def test_nothing_to_run_says_what_to_do(container: Container) -> None:
    with pytest.raises(PlanError, match="no command specified") as caught:
        command_line(container, ImageConfig(), {"EMPTY": ""})
    assert caught.value.reason == "CreateContainerError"
    assert "command" in (caught.value.resolution or "")


def test_working_directory() -> None:
    image = ImageConfig(workdir="/image")
    assert working_directory(Container(name="app", workingDir="/pod"), image) == "/pod"
    assert working_directory(Container(name="app"), image) == "/image"
    assert working_directory(Container(name="app"), ImageConfig()) == "/"
    with pytest.raises(PlanError, match="not absolute"):
        working_directory(Container(name="app", workingDir="here"), image)


def _fields(path: str, **spec: Any) -> str:
    one = pod(**spec)
    one.metadata.labels = {"app.kubernetes.io/name": "x"}
    one.metadata.annotations = {"it's": "y"}
    return field_value(one, path, NODE, () if one.spec.hostNetwork else ("10.200.0.5", "fd00::5"), ("10.200.0.1",))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "web"),
        ("metadata.namespace", "default"),
        ("metadata.uid", "0b6b7f3e-uid"),
        ("metadata.labels['app.kubernetes.io/name']", "x"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['it's']", "y"),
        ("spec.nodeName", "node-1"),
        ("status.hostIP", "10.200.0.1"),
        ("status.hostIPs", "10.200.0.1"),
        ("status.podIP", "10.200.0.5"),
        ("status.podIPs", "10.200.0.5,fd00::5"),
        ("spec.serviceAccountName", ""),
    ],
)
def test_S_ENV_field_references(path: str, expected: str) -> None:
    assert _fields(path) == expected


def test_S_ENV_with_the_hosts_network_the_pods_address_is_the_hosts() -> None:
    assert _fields("status.podIP", hostNetwork=True) == "10.200.0.1"


def test_S_ENV_an_unknown_field_path_is_refused() -> None:
    with pytest.raises(PlanError, match=r"unsupported fieldPath: spec\.x") as caught:
        _fields("spec.x")
    assert caught.value.reason == "CreateContainerConfigError"


@pytest.mark.parametrize(
    ("resource", "divisor", "expected"),
    [
        ("limits.cpu", "0", "2"),
        ("limits.cpu", "1m", "1500"),
        ("requests.cpu", "1", "1"),
        ("limits.memory", "0", "134217729"),
        ("limits.memory", "1Mi", "129"),
        ("requests.memory", "1", "0"),
        ("limits.ephemeral-storage", "1Gi", "100"),
        ("limits.hugepages-2Mi", "1", "0"),
    ],
)
def test_S_ENV_resource_references_are_rounded_up(resource: str, divisor: str, expected: str) -> None:
    container = Container(
        name="app",
        resources=ResourceRequirements(limits={"cpu": "1500m", "memory": "134217729"}, requests={"cpu": "250m"}),
    )
    selector = ResourceFieldSelector(resource=resource, divisor=divisor)
    assert resource_value(pod(container), container, selector, NODE) == expected


def test_S_ENV_a_limit_that_is_not_set_is_what_the_node_has() -> None:
    container = Container(name="app")
    one = pod(container)
    assert resource_value(one, container, ResourceFieldSelector(resource="limits.cpu"), NODE) == "4"
    assert resource_value(one, container, ResourceFieldSelector(resource="limits.memory", divisor="1Gi"), NODE) == "8"


def test_S_ENV_resources_of_another_container() -> None:
    app, other = Container(name="app"), Container(name="other", resources=ResourceRequirements(limits={"cpu": "3"}))
    one = pod(app)
    one.spec.initContainers.append(other)
    assert resource_value(one, app, ResourceFieldSelector(containerName="other", resource="limits.cpu"), NODE) == "3"
    with pytest.raises(PlanError, match="container gone not found"):
        resource_value(one, app, ResourceFieldSelector(containerName="gone", resource="limits.cpu"), NODE)


def of_file(key: str, *, optional: bool | None = None, path: str = "p") -> EnvVarSource:
    return EnvVarSource(fileKeyRef=FileKeySelector(volumeName="v", path=path, key=key, optional=optional))


def test_S_ENV_variables_from_files() -> None:
    container = Container(
        name="app",
        env=[
            EnvVar(name="FILE", valueFrom=of_file("K")),
            EnvVar(name="GONE", valueFrom=of_file("GONE", optional=True)),
            EnvVar(name="EMPTY", valueFrom=of_file("EMPTY", optional=True)),
            EnvVar(name="BOTH", value="$(FILE)$(GONE)"),
        ],
    )
    objects = ObjectValues(files={"v/p": "K='$(A) v'\nEMPTY=''\n"})
    found = pod_environment(pod(container), container, inputs(objects=objects))
    assert found == {"FILE": "$(A) v", "BOTH": "$(A) v$(GONE)"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (of_file("GONE"), 'environment variable key "GONE" not found in file "p"'),
        (of_file("EMPTY", optional=False), 'environment variable key "EMPTY" not found in file "p"'),
        (of_file("K", path="q"), "couldn't parse env file"),
        (of_file("K", path="q", optional=True), "couldn't parse env file"),
        (of_file("K", path="bad", optional=True), "couldn't parse env file"),
    ],
)
def test_S_ENV_files_that_say_nothing_of_a_variable(source: EnvVarSource, message: str) -> None:
    container = Container(name="app", env=[EnvVar(name="X", valueFrom=source)])
    objects = ObjectValues(files={"v/p": "K='v'\nEMPTY=''\n", "v/bad": "S=hunter2\nK='v'"})
    with pytest.raises(PlanError) as caught:
        pod_environment(pod(container), container, inputs(objects=objects))
    assert (caught.value.reason, caught.value.brief) == ("CreateContainerConfigError", message)
    assert "hunter2" not in str(caught.value.as_data())


def config_map(name: str, key: str, *, optional: bool | None = None) -> EnvVarSource:
    return EnvVarSource(configMapKeyRef=ConfigMapKeySelector(name=name, key=key, optional=optional))


def secret(name: str, key: str, *, optional: bool | None = None) -> EnvVarSource:
    return EnvVarSource(secretKeyRef=SecretKeySelector(name=name, key=key, optional=optional))


def all_of(kind: str, name: str, *, prefix: str | None = None, optional: bool | None = None) -> EnvFromSource:
    if kind == "ConfigMap":
        return EnvFromSource(prefix=prefix, configMapRef=ConfigMapEnvSource(name=name, optional=optional))
    return EnvFromSource(prefix=prefix, secretRef=SecretEnvSource(name=name, optional=optional))


OBJECTS = ObjectValues(
    {"one": {"A": "1", "B": "$(A)", "b.c-d": "dotted", "E": ""}, "two": {"A": "2", "C": "3"}},
    {"s": {"password": "p\udcff w", "A": "secret"}},
)


def variables(container: Container, objects: ObjectValues = OBJECTS) -> dict[str, str]:
    return pod_environment(pod(container), container, inputs(objects=objects))


def test_S_ENV_envFrom_in_its_order_and_then_env() -> None:
    container = Container(
        name="app",
        envFrom=[all_of("ConfigMap", "one"), all_of("ConfigMap", "two"), all_of("Secret", "s", prefix="S_")],
        env=[EnvVar(name="C", value="own"), EnvVar(name="D", value="$(A)$(B)$(S_A)$(b.c-d)")],
    )
    assert variables(container) == {
        "A": "2",
        "B": "$(A)",
        "E": "",
        "b.c-d": "dotted",
        "C": "own",
        "S_A": "secret",
        "S_password": "p\udcff w",
        "D": "2$(A)secretdotted",
    }


def test_S_ENV_keys_of_objects() -> None:
    container = Container(
        name="app",
        env=[
            EnvVar(name="X", valueFrom=config_map("one", "B")),
            EnvVar(name="Y", valueFrom=secret("s", "password")),
            EnvVar(name="Z", value="$(X)-$(Y)"),
            EnvVar(name="E", value="before"),
            EnvVar(name="E", valueFrom=config_map("one", "E")),
        ],
    )
    assert variables(container) == {"X": "$(A)", "Y": "p\udcff w", "Z": "$(A)-p\udcff w", "E": ""}
    assert as_strings(variables(container))[1] == "Y=p\udcff w"


@pytest.mark.parametrize(
    ("container", "message"),
    [
        (Container(name="app", env=[EnvVar(name="A", valueFrom=config_map("gone", "k"))]), 'configmap "gone" not found'),
        (Container(name="app", env=[EnvVar(name="A", valueFrom=secret("gone", "k"))]), 'secret "gone" not found'),
        (Container(name="app", env=[EnvVar(name="A", valueFrom=config_map("one", "k"))]),
         "couldn't find key k in ConfigMap default/one"),
        (Container(name="app", env=[EnvVar(name="A", valueFrom=secret("s", "../k"))]),
         "couldn't find key ../k in Secret default/s"),
        (Container(name="app", envFrom=[all_of("ConfigMap", "gone")]), 'configmap "gone" not found'),
        (Container(name="app", envFrom=[all_of("Secret", "gone", optional=False)]), 'secret "gone" not found'),
        (Container(name="app", envFrom=[all_of("Secret", "first")], env=[EnvVar(name="A", valueFrom=secret("s", "k"))]),
         'secret "first" not found'),
    ],
)  # fmt: skip
def test_S_ENV_what_is_missing_in_the_kubelets_words(container: Container, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        variables(container)
    assert (caught.value.reason, caught.value.brief) == ("CreateContainerConfigError", message)


def test_S_ENV_what_is_optional_and_missing_sets_no_variable() -> None:
    container = Container(
        name="app",
        envFrom=[all_of("ConfigMap", "gone", optional=True), all_of("Secret", "gone", optional=True)],
        env=[
            EnvVar(name="A", valueFrom=config_map("gone", "k", optional=True)),
            EnvVar(name="B", valueFrom=config_map("one", "k", optional=True)),
            EnvVar(name="C", valueFrom=secret("gone", "k", optional=True)),
            EnvVar(name="D", valueFrom=secret("s", "k", optional=True)),
            EnvVar(name="E", value="$(A)"),
        ],
    )
    assert variables(container) == {"E": "$(A)"}


def test_S_ENV_what_a_container_refers_to_is_looked_up_once_and_in_order() -> None:
    container = Container(
        name="app",
        envFrom=[all_of("Secret", "s"), EnvFromSource(), all_of("ConfigMap", "one")],
        env=[
            *env(A="1"),
            EnvVar(name="B", valueFrom=secret("s", "k")),
            EnvVar(name="C", valueFrom=config_map("s", "k")),
            EnvVar(name="D", valueFrom=EnvVarSource(fieldRef=ObjectFieldSelector(fieldPath="metadata.name"))),
        ],
    )
    assert references(container) == [
        Reference("Secret", "s"),
        Reference("ConfigMap", "one"),
        Reference("ConfigMap", "s"),
    ]


def test_S_ENV_values_are_not_in_what_is_printed_of_inputs() -> None:
    assert "secret" not in repr(inputs(objects=OBJECTS))


def test_S_EXPAND_variables_from_objects_in_the_command() -> None:
    container = Container(name="app", envFrom=[all_of("ConfigMap", "one")], command=["/bin/x", "$(A) $(b.c-d) $(gone)"])
    argv = command_line(container, ImageConfig(), variables(container))
    assert argv == ("/bin/x", "1 dotted $(gone)")
