"""Which profile of AppArmor a container's programs ask for."""

from __future__ import annotations

import pytest

from nsrun.plan import ImageConfig, container_program, exec_program, ops
from nsrun.plan.identity import APPARMOR_DEFAULT, identity
from nsrun.spec.apparmor import ANNOTATION
from nsrun.spec.model import AppArmorProfile, PodSecurityContext, SecurityContext
from tests.pure.plan.pods import inputs, pod

DEFAULT, MINE = AppArmorProfile(type="RuntimeDefault"), AppArmorProfile(type="Localhost", localhostProfile="mine")
NONE = AppArmorProfile(type="Unconfined")


@pytest.mark.parametrize(
    ("of_pod", "annotation", "own", "privileged", "expected"),
    [
        (None, "", None, False, ""),
        (DEFAULT, "", None, False, APPARMOR_DEFAULT),
        (DEFAULT, "", None, True, ""),
        (MINE, "", None, True, "mine"),
        (DEFAULT, "", NONE, False, ""),
        (NONE, "", MINE, False, "mine"),
        (DEFAULT, "localhost/old", None, False, "old"),
        (DEFAULT, "unconfined", None, False, ""),
        (None, "runtime/default", None, False, APPARMOR_DEFAULT),
        (None, "localhost/old", MINE, False, "mine"),
    ],
)
def test_the_nearest_word_counts(
    of_pod: AppArmorProfile | None, annotation: str, own: AppArmorProfile | None, privileged: bool, expected: str
) -> None:
    one = pod()
    container = one.spec.containers[0]
    one.spec.securityContext = PodSecurityContext(appArmorProfile=of_pod)
    container.securityContext = SecurityContext(appArmorProfile=own, privileged=privileged or None)
    one.metadata.annotations = {ANNOTATION + container.name: annotation} if annotation else {}
    assert identity(one, container, inputs()).apparmor == expected


def test_the_profile_is_asked_for_before_anything_is_given_up() -> None:
    one = pod()
    container = one.spec.containers[0]
    known = inputs(image_config=ImageConfig(cmd=("serve",)))
    for wanted in (None, MINE):
        container.securityContext = SecurityContext(appArmorProfile=wanted, allowPrivilegeEscalation=False)
        programs = (container_program(one, container, known), exec_program(one, container, known, ["true"]))
        for program in programs:
            codes = [op.code for op in program.ops]
            assert [op.profile for op in program.ops if isinstance(op, ops.AppArmor)] == (["mine"] if wanted else [])
            if wanted:
                before = [codes.index(code) for code in ("CHDIR", "STDIO") if code in codes]
                after = [codes.index(code) for code in ("BOUNDING", "USER", "NO_NEW_PRIVS", "SECCOMP", "EXEC")]
                assert max(before) < codes.index("APPARMOR") < min(after)
