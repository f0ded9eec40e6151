"""How manifest text becomes documents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.errors import SpecError
from nsrun.spec import Document, load, read_documents
from nsrun.spec.documents import MAX_DOCUMENT_BYTES, MAX_INPUT_BYTES
from nsrun.spec.scalars import go_float, resolve
from nsrun.spec.yaml_reader import MAX_DEPTH


def read(text: str) -> list[Document]:
    return read_documents(text.encode(), name="m.yaml")


def value(text: str) -> Any:
    (document,) = read(text)
    if document.error is not None:
        raise document.error
    return document.value


# Seen with Kubernetes' own decoder, or following from go-yaml v2's resolve.go.
SCALARS: list[tuple[str, Any]] = [
    ("n", False), ("y", True), ("N", False), ("Y", True), ("yes", True), ("No", False), ("ON", True), ("off", False),
    ("true", True), ("FALSE", False), ("nO", "nO"), ("tRUE", "tRUE"), ("t", "t"),
    ("null", None), ("~", None), ("NULL", None), ("nULL", "nULL"), ("", None),
    ("0o17", 15), ("017", 15), ("08", 8), ("09.5", 9.5), ("0x1F", 31), ("0b11", 3), ("-0b11", -3), ("0b2", "0b2"),
    ("0xg", "0xg"), ("1e3", 1000), ("1E3", 1000), ("1_000", 1000), ("1.5", 1.5), ("1.0", 1), (".5", 0.5), ("+.5", 0.5),
    ("-.5", -0.5), ("+1", 1), ("-1", -1), ("-", "-"), ("+", "+"), (".", "."), ("1.", 1), ("1.2.3", "1.2.3"),
    ("1:30", "1:30"), ("22:22", "22:22"), ("190:20:30.15", "190:20:30.15"),
    ("2026-01-02", "2026-01-02"), ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
    ("9223372036854775807", 9223372036854775807), ("-9223372036854775808", -9223372036854775808),
    ("18446744073709551615", 18446744073709551615), ("1e999", "1e999"), ("500m", "500m"), ("1Gi", "1Gi"),
    ("<", "<"), ("=", "="), ("foo", "foo"), ("١", "١"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "meaning"), SCALARS, ids=[repr(text) for text, _ in SCALARS])
def test_plain_scalar(text: str, meaning: Any) -> None:
    assert resolve(text) == meaning
    assert type(resolve(text)) is type(meaning)
    if text != "-":  # begins a list
        assert value(f"key: {text}\n") == {"key": meaning}


@pytest.mark.parametrize("text", [text for text, _ in SCALARS if text and "\u0661" not in text])
def test_quoted_scalar_is_text(text: str) -> None:
    assert value(f"key: '{text}'\n") == {"key": text}
    assert value(f'key: "{text}"\n') == {"key": text}


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("!!str 1", "1"), ("!!int 0x10", 16), ("!!float 1", 1), ("!!bool yes", True), ("!!null ~", None),
        ("!!binary aGk=", "hi"), ("!custom 1", "1"), ("! 1", "1"), ("!!timestamp 2026-01-02", "2026-01-02"),
    ],
)  # fmt: skip
def test_tagged_scalar(text: str, meaning: Any) -> None:
    assert value(f"key: {text}\n") == {"key": meaning}


@pytest.mark.parametrize("text", ["!!int x", "!!bool 1", "!!float x", "!!null x", "!!binary '*'"])
def test_tag_that_does_not_fit(text: str) -> None:
    with pytest.raises(SpecError, match=r"^m\.yaml:2: yaml: "):
        value(f"a: 1\nkey: {text}\n")


@pytest.mark.parametrize(
    ("text", "key"),
    [("1", "1"), ("0x10", "16"), ("y", "true"), ("off", "false"), ("1.5", "1.5"), ("0.1", "0.1"), ("'1'", "1")],
)
def test_keys_are_text(text: str, key: str) -> None:
    assert value(f"{text}: v\n") == {key: "v"}


@pytest.mark.parametrize("text", ["~: v", "? [a]\n: v", "? {a: b}\n: v"])
def test_keys_that_json_has_not(text: str) -> None:
    with pytest.raises(SpecError, match=r"^m\.yaml:1: a key is "):
        value(text + "\n")


def test_quotes_in_double_quotes() -> None:
    r"""go-yaml takes \' in double quotes and refuses \/; libyaml does the opposite."""
    assert value("a: \"it\\'s \\\\' \\'x\\'\"\nb: \"\\'\"\n") == {"a": "it's \\' 'x'", "b": "'"}
    assert value("a: \"\\\\/\"\nb: '\\/'\n") == {"a": "\\/", "b": "\\/"}
    with pytest.raises(SpecError, match=r"^m\.yaml:2: .*unknown escape"):
        value('a: 1\nb: "\\/"\n')


def test_many_quotes_in_double_quotes_end() -> None:
    text = "".join(f'k{number}: "\\\'"\n' for number in range(3000))
    with pytest.raises(SpecError, match="too many"):
        value("x: '" + "y" * 200_000 + "'\n" + text)


def test_duplicate_keys_are_a_strict_error() -> None:
    (document,) = read("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n")
    assert document.value == {"a": 3, "b": {"c": 2}}
    assert document.strict_errors == [
        'yaml: unmarshal errors:\n  line 4: key "c" already set in map\n  line 5: key "a" already set in map'
    ]


def test_merge_keys() -> None:
    text = "base: &b {x: 1, k: 2}\nother: &o {k: 3, z: 4}\none:\n  <<: *b\n  w: 0\nmany:\n  <<: [*b, *o]\n"
    parsed = value(text)
    assert parsed["one"] == {"x": 1, "k": 2, "w": 0}
    assert parsed["many"] == {"x": 1, "k": 2, "z": 4}
    (document,) = read("base: &b {x: 1}\none:\n  x: 0\n  <<: *b\n")
    assert document.value["one"] == {"x": 1}
    assert 'key "x" already set' in document.strict_errors[0]
    with pytest.raises(SpecError, match="map merge requires map"):
        value("a:\n  <<: 1\n")
    assert value('a: {"<<": 1}\n') == {"a": {"<<": 1}}


def test_documents_are_counted_as_kubernetes_counts_them() -> None:
    text = "# only a comment\n---\na: 1\n---\n---\n# nothing\n--- # with a comment\nb: 2\n---\n"
    assert [(d.index, d.line, d.value) for d in read(text)] == [(1, 3, {"a": 1}), (3, 8, {"b": 2})]
    assert [d.value for d in read("---\na: 1\n")] == [{"a": 1}]
    assert [d.value for d in read("a: |\n  ---\n  x\n---\nb: 1\n")] == [{"a": "---\nx\n"}, {"b": 1}]
    assert [d.value for d in read("a: ---x\n")] == [{"a": "---x"}]
    assert [d.value for d in read("a: 1\r\n---\r\nb: 2\r\n")] == [{"a": 1}, {"b": 2}]
    assert [d.value for d in read("--- {a: 1}\n--- {b: 2}\n")] == [{"a": 1}, {"b": 2}]


def test_directives_belong_to_their_document() -> None:
    assert [d.value for d in read("%YAML 1.1\n---\na: 1\n---\nb: 2\n")] == [{"a": 1}, {"b": 2}]


def test_byte_order_mark() -> None:
    assert read_documents(b"\xef\xbb\xbfa: 1\n", name="m")[0].value == {"a": 1}


def test_text_behind_the_end_is_not_dropped() -> None:
    with pytest.raises(SpecError, match=r"^m\.yaml:3: yaml: "):
        value("a: 1\n...\nb: 2\n")
    assert value("a: 1\n...\n") == {"a": 1}


def test_one_bad_document_leaves_the_others() -> None:
    good, bad, other = read("a: 1\n---\nb: [\n---\nc: 3\n")
    assert (good.value, other.value) == ({"a": 1}, {"c": 3})
    assert bad.error is not None
    assert bad.error.brief.startswith("m.yaml:")


JSON = '{\n  "kind": "Pod",\n  "x": [1, 1.0, 1e2, true, null, "\\/"],\n  "x2": {"a": 1, "a": 2}\n}\n'


def test_json() -> None:
    (document,) = read(JSON)
    assert document.is_json
    assert document.kind == "Pod"
    assert document.value["x"] == [1, 1.0, 100.0, True, None, "/"]
    assert [go_float(number) for number in document.value["x"][1:3]] == ["1.0", "1e2"]
    assert [keys for _, keys in document.duplicates.values()] == [["a"]]
    assert document.line_of("x2.a") == 4


def test_json_escapes_of_half_a_character_are_replaced_as_go_does() -> None:
    text = r'{"kind": "Pod", "a\ud800": ["\udfff", {"b": "\ud83d\ude00 \ud83d"}], "c": "\\ud800"}'
    (document,) = read_documents(text.encode(), name="f")
    assert document.value == {"kind": "Pod", "a\ufffd": ["\ufffd", {"b": "\U0001f600 \ufffd"}], "c": "\\ud800"}


def test_json_documents_one_after_another() -> None:
    assert [(d.index, d.line, d.value) for d in read('{"a": 1}\n{"b": 2} {"c": 3}\n')] == [
        (0, 1, {"a": 1}),
        (1, 2, {"b": 2}),
        (2, 2, {"c": 3}),
    ]


def test_what_looks_like_json_may_be_yaml() -> None:
    assert value("{a: [b: c], d: 1e3}\n") == {"a": [{"b": "c"}], "d": 1000}
    assert value('{"a": NaN}\n') == {"a": "NaN"}


@pytest.mark.parametrize(
    ("number", "text"),
    [(1.5, "1.5"), (1e-6, "0.000001"), (1e-7, "1e-7"), (1.5e-10, "1.5e-10"), (1e21, "1e+21"), (1.25e22, "1.25e+22"),
     (123456789012345680.0, "123456789012345680"), (0.0001, "0.0001"), (-2.5e-5, "-0.000025")],
)  # fmt: skip
def test_numbers_as_go_writes_them(number: float, text: str) -> None:
    assert go_float(number) == text


LINES = """\
# comment
apiVersion: v1
kind: Pod
metadata: {name: a,
  labels: {x.y/z: "1", 7: "2"}}
spec:
  containers:
  - name: one
    env:
      - name: A
        value: b
  - &two
    name: two
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("kind", 3), ("metadata.name", 4), ("metadata.labels[7]", 5), ("metadata.labels[x.y/z]", 5), ("spec.containers", 7),
        ("spec.containers[0]", 8), ("spec.containers[0].env[0].value", 11), ("spec.containers[1].name", 13),
        ("spec.containers[1].image", 12), ("spec.volumes[3].name", 6), ("nonsense", 2), ("", 2),
    ],
)  # fmt: skip
def test_lines(path: str, line: int) -> None:
    (document,) = read(LINES)
    assert document.line_of(path) == line
    assert document.where(path) == f"m.yaml:{line}"


def test_lines_count_from_the_start_of_the_file() -> None:
    first, second = read("a: 1\n---\n\n\nb:\n  c: 1\n")
    assert first.line_of("a") == 1
    assert (second.line, second.line_of("b.c")) == (5, 6)


# Input that is no manifest


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"   \n\n", "empty"),
        (b"# nothing\n---\n---\n", "no document"),
        (b"\x00\x01", "binary"),
        (b"a: 1\nb: \xff\xfe", "m:2: not text in UTF-8"),
        (b"\x7fELF\x02\x01\x01\x00", "binary"),
        (b"x" * (MAX_INPUT_BYTES + 1), "64 MiB"),
        (b"---\na\n" * 10_001, "more than 10000 documents"),
        (b"{}" * 1_000_000, "more than 10000 documents"),
    ],
)
def test_no_manifest_at_all(data: bytes, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_documents(data, name="m")
    assert words in caught.value.brief + (caught.value.details or "")
    assert caught.value.resolution


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested more than"),
        ("{" * 100_000, "nested more than"),
        ('{"a":' * 100_000, "nested more than"),
        ("[" * 300 + "]" * 300, "nested more than"),
        ("- " * 1000 + "a", "nested more than"),
        ('{"a":' + "[" * 300 + "]" * 300 + "}", "nested more than"),
        ("a: &a [*a]", "contains itself"),
        ("a: &a {b: *a}", "contains itself"),
        ("a: *b", "unknown anchor"),
        ("a: " + "x" * MAX_DOCUMENT_BYTES, "at most 3 MiB"),
        ("a: b: c", "mapping values are not allowed"),
        ("a: \x07", "m.yaml:1"),
        ("\ta: 1", "m.yaml:1"),
        ("a: 'x", "m.yaml:"),
        ("%FOO", "m.yaml:"),
        ("a: !<tag:x,y", "m.yaml:"),
    ],
    ids=range(16),
)
def test_bad_document(text: str, words: str) -> None:
    (document,) = read(text)
    assert document.error is not None
    assert words in document.error.brief
    assert document.value is None
    (verdict,) = load(text.encode(), "m.yaml")
    assert verdict.verdict == "decode-error"
    assert verdict.messages == [document.error.brief] == verdict.located_messages()
    with pytest.raises(SpecError):
        verdict.require_valid()


def test_alias_bomb() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (document,) = read("\n".join(lines))
    assert document.error is not None
    assert "excessive aliasing" in document.error.brief


def test_alias_ladder_is_depth_too() -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, MAX_DEPTH + 5))]
    (document,) = read("\n".join(lines))
    assert document.error is not None
    assert "nested more than" in document.error.brief


def test_harmless_aliases() -> None:
    parsed = value("a: &a [1, {b: 2}]\nc: [*a, *a]\nd: &a 5\ne: *a\n")
    assert parsed == {"a": [1, {"b": 2}], "c": [[1, {"b": 2}], [1, {"b": 2}]], "d": 5, "e": 5}


YAMLISH_WORDS = (
    "a", "b", ": ", "- ", "\n", "  ", "---\n", "...", "{", "}", "[", "]", ",", "&x ", "*x ", "<<", "|\n", ">", "'", '"',
    "\\", "\\'", "#", "!!", "!!int ", "? ", "%", "1", "0x", "~", "kind: Pod\n", "apiVersion: v1\n", "spec:\n",
)  # fmt: skip
YAMLISH = st.lists(st.sampled_from(YAMLISH_WORDS), max_size=40).map("".join)


@given(st.one_of(YAMLISH, st.text(max_size=60)))
def test_any_text_gets_an_answer(text: str) -> None:
    try:
        verdicts = load(text.encode("utf-8", "surrogatepass"), "any")
    except SpecError as error:
        assert error.brief.startswith("any")
        return
    for verdict in verdicts:
        assert verdict.messages or verdict.verdict in ("valid", "other")
        assert len(verdict.located_messages()) == len(verdict.messages)


@given(st.binary(max_size=80))
def test_any_bytes_get_an_answer(data: bytes) -> None:
    try:
        load(data, "any")
    except SpecError as error:
        assert error.brief.startswith("any")


JSONABLE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(st.text(max_size=6), JSONABLE, max_size=4))
def test_json_and_yaml_of_a_value_read_the_same(expected: dict[str, Any]) -> None:
    import json

    import yaml

    assert read_documents(json.dumps(expected).encode(), name="m")[0].value == expected
    text = yaml.safe_dump(expected, default_style='"', allow_unicode=False)
    (document,) = read_documents(text.encode(), name="m")
    if document.error is None:  # PyYAML writes integers tagged, which go-yaml reads as such
        assert document.value == expected


@pytest.mark.parametrize(
    "text", [LINES, 'a: "it\\\'s"\n', "- &a [1, y]\n- *a\n", "a: b: c", "a: [", "&a [*a]", "[" * 5000]
)
def test_without_libyaml_the_same_comes_out(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    def outcome() -> tuple[Any, bool, list[int]]:
        (document,) = read(text)
        return document.value, document.error is None, [document.line_of(f"spec.containers[{n}]") for n in (0, 1)]

    with_libyaml = outcome()
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    assert outcome() == with_libyaml
