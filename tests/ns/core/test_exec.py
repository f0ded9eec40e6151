"""The environment, the search in its PATH, and what a failing exec says."""

from __future__ import annotations

import errno

import pytest

from nsrun import native
from tests.ns.core.driver import Box, op, run


def test_environment_is_exactly_what_was_given(box: Box) -> None:
    env = ["PATH=/bin", "A=1", "EMPTY=", "A=2", "WITH=a=b\nc", "no-equals-sign"]
    assert box.run(command=["env"], env=env).text == "".join(f"{entry}\n" for entry in env)


def test_arguments_are_exactly_what_was_given(box: Box) -> None:
    words = ["args", "", " ", "a\nb", "\udcff", "é", "*", "$HOME"]
    out = box.run(command=words)
    assert (out.exit, out.text) == (0, "".join(f"{i}:{word}\n" for i, word in enumerate(words)))


def test_argv0_may_differ_from_the_file(box: Box) -> None:
    ops = box.program()
    ops[-1] = op("EXEC", "/bin/testbox", "env")
    assert run(ops).text == "PATH=/bin\n"


@pytest.mark.parametrize(
    ("path", "file", "number", "subject"),
    [
        ("/bin", "nothing", errno.ENOENT, "nothing"),
        ("/bin", "/no/such", errno.ENOENT, "/no/such"),
        ("/bin", "", errno.ENOENT, ""),
        (None, "true", errno.ENOENT, "true"),
        ("", "true", errno.ENOENT, "true"),
        ("/bad", "data", errno.EACCES, "/bad/data"),
        ("/bad:/bin", "data", errno.EACCES, "/bad/data"),
        ("/bin", "/bad/data", errno.EACCES, "/bad/data"),
        ("/bin", "/bad/directory", errno.EISDIR, "/bad/directory"),
        ("/bad", "directory", errno.EISDIR, "/bad/directory"),
        ("/bin", "/bad/script", errno.ENOEXEC, "/bad/script"),
        ("/bad:/bin", "script", errno.ENOEXEC, "/bad/script"),
        ("/bin", "/bad/empty", errno.ENOEXEC, "/bad/empty"),
        ("/bin", "/bad/interpreter", errno.ENOENT, "/bad/interpreter"),
        ("/none:/bad:/bin", "interpreter", errno.ENOENT, "/bad/interpreter"),
        ("/bin", "/etc/passwd/below", errno.ENOTDIR, "/etc/passwd/below"),
        ("/etc/passwd:/none", "nothing", errno.ENOENT, "nothing"),
        ("/" + "x" * 5000, "true", errno.ENOENT, "true"),
        ("/bin", "x" * 300, errno.ENOENT, "x" * 199),
    ],
)
def test_what_cannot_be_executed(box: Box, path: str | None, file: str, number: int, subject: str) -> None:
    ops = box.program(env=[] if path is None else [f"PATH={path}"])
    ops[-1] = op("EXEC", file, "name")
    with pytest.raises(native.ProgramError) as caught:
        run(ops)
    assert (caught.value.code_name, errno.errorcode[caught.value.errno or 0]) == ("EXEC", errno.errorcode[number])
    assert caught.value.step == len(ops) - 1
    assert caught.value.subject == subject


@pytest.mark.parametrize(
    "path", ["/none:/bin", "/bad:/etc/passwd:/bin", "::/bin", "/" + "x" * 5000 + ":/bin", "/bin:", "bin"]
)
def test_search_goes_on(box: Box, path: str) -> None:
    assert box.run(command=["true"], env=[f"PATH={path}"]).exit == 0


def test_empty_element_is_the_working_directory(box: Box) -> None:
    assert box.run(after=[op("CHDIR", "/bin")], command=["true"], env=["PATH="]).exit == 0


def test_a_file_that_may_not_be_run_does_not_hide_one_that_may(box: Box) -> None:
    (box.upper / "first").mkdir()
    (box.upper / "first/true").write_text("no program")
    assert box.run(command=["true"], env=["PATH=/first:/bin"]).exit == 0


def test_many_arguments(box: Box) -> None:
    out = box.run(command=["true", *(str(i) for i in range(60000))])
    assert out.exit == 0


def test_too_long_an_argument(box: Box) -> None:
    with pytest.raises(native.ProgramError) as caught:
        box.run(command=["true", "x" * 140000])
    assert (caught.value.code_name, caught.value.errno) == ("EXEC", errno.E2BIG)
