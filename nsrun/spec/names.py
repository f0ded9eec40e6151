"""The forms that Kubernetes asks names, keys and addresses to have; each check gives the API server's objections.

Source of the rules and texts: apimachinery pkg/util/validation, pkg/api/validate/content and pkg/api/validation (v1.36).
"""

from __future__ import annotations

import ipaddress
import re

from nsrun.spec.model import Pod

LABEL_FORM = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-',"
    " and must start and end with an alphanumeric character"
)
_SUBDOMAIN_FORM = LABEL_FORM + "(\\." + LABEL_FORM + ")*"
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.',"
    " and must start and end with an alphanumeric character"
)
_UNDERSCORE_LABEL_FORM = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_UNDERSCORE_FORM = _UNDERSCORE_LABEL_FORM + "(\\." + _UNDERSCORE_LABEL_FORM + ")*"
_UNDERSCORE_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.',"
    " and must start and end with an alphanumeric character"
)
_KEY_FORM = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_KEY_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)
_VALUE_FORM = "(" + _KEY_FORM + ")?"
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.',"
    " and must start and end with an alphanumeric character"
)
_HEADER_FORM = "[-A-Za-z0-9]+"
_CONFIG_KEY_FORM = "[-._a-zA-Z0-9]+"

SUBDOMAIN_MAX = 253
LABEL_MAX = 63

_LABEL = re.compile(LABEL_FORM)
_SUBDOMAIN = re.compile(_SUBDOMAIN_FORM)
_UNDERSCORE = re.compile(_UNDERSCORE_FORM)
_KEY = re.compile(_KEY_FORM)
_VALUE = re.compile(_VALUE_FORM)
_HEADER = re.compile(_HEADER_FORM)
_CONFIG_KEY = re.compile(_CONFIG_KEY_FORM)
_PORT_CHARACTERS = re.compile("[-a-z0-9]+")


def size(text: str) -> int:
    """Length in bytes: what Go counts."""
    return len(text) if text.isascii() else len(text.encode("utf-8"))


def max_length(limit: int) -> str:
    """The objection to a text of more than `limit` bytes."""
    return f"must be no more than {limit} characters"


def in_range(low: int, high: int) -> str:
    """The objection to a number outside `low` to `high`."""
    return f"must be between {low} and {high}, inclusive"


def _form(text: str, form: str, *examples: str) -> str:
    if not examples:
        return f"{text} (regex used for validation is '{form}')"
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {shown}regex used for validation is '{form}')"


_LABEL_OBJECTION = _form(_LABEL_TEXT, LABEL_FORM, "my-name", "123-abc")
_LABEL_1035_FORM = "[a-z]([-a-z0-9]*[a-z0-9])?"
_LABEL_1035 = re.compile(_LABEL_1035_FORM)
_LABEL_1035_OBJECTION = _form(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an"
    " alphanumeric character",
    _LABEL_1035_FORM,
    "my-name",
    "abc-123",
)
_SUBDOMAIN_OBJECTION = _form(_SUBDOMAIN_TEXT, _SUBDOMAIN_FORM, "example.com")


def label(value: str) -> list[str]:
    """An RFC 1123 label: container, volume and host names."""
    objections = [max_length(LABEL_MAX)] if size(value) > LABEL_MAX else []
    if not _LABEL.fullmatch(value):
        objections.append("must not contain dots" if _SUBDOMAIN.fullmatch(value) else _LABEL_OBJECTION)
    return objections


def label_1035(value: str) -> list[str]:
    """An RFC 1035 label, which begins with a letter: names of Services."""
    objections = [max_length(LABEL_MAX)] if size(value) > LABEL_MAX else []
    if not _LABEL_1035.fullmatch(value):
        objections.append(_LABEL_1035_OBJECTION)
    return objections


def subdomain(value: str) -> list[str]:
    """An RFC 1123 subdomain: the names of most objects."""
    objections = [max_length(SUBDOMAIN_MAX)] if size(value) > SUBDOMAIN_MAX else []
    if not _SUBDOMAIN.fullmatch(value):
        objections.append(_SUBDOMAIN_OBJECTION)
    return objections


def underscore_subdomain(value: str) -> list[str]:
    """A DNS search domain, where labels may begin with an underscore."""
    objections = [max_length(SUBDOMAIN_MAX)] if size(value) > SUBDOMAIN_MAX else []
    if not _UNDERSCORE.fullmatch(value):
        objections.append(_form(_UNDERSCORE_TEXT, _UNDERSCORE_FORM, "example.com"))
    return objections


def as_prefix(value: str) -> str:
    """A generateName as it is checked: a trailing dash is allowed."""
    return value[:-2] + "a" if len(value) > 1 and value.endswith("-") else value


def qualified_name(value: str) -> list[str]:
    """A label key: an optional DNS prefix, a slash, a name."""
    objections: list[str] = []
    parts = value.split("/")
    if len(parts) > 2:
        return [
            "a valid label key "
            + _form(_KEY_TEXT, _KEY_FORM, "MyName", "my.name", "123-abc")
            + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    name = parts[-1]
    if len(parts) == 2:
        if not parts[0]:
            objections.append("prefix part must be non-empty")
        else:
            objections += ["prefix part " + objection for objection in subdomain(parts[0])]
    if not name:
        objections.append("name part must be non-empty")
    elif size(name) > LABEL_MAX:
        objections.append("name part " + max_length(LABEL_MAX))
    if not _KEY.fullmatch(name):
        objections.append("name part " + _form(_KEY_TEXT, _KEY_FORM, "MyName", "my.name", "123-abc"))
    return objections


def label_value(value: str) -> list[str]:
    """The value of a label."""
    objections = [max_length(LABEL_MAX)] if size(value) > LABEL_MAX else []
    if not _VALUE.fullmatch(value):
        objections.append(_form(_VALUE_TEXT, _VALUE_FORM, "MyValue", "my_value", "12345"))
    return objections


def port_number(value: int) -> list[str]:
    """A port."""
    return [] if 1 <= value <= 65535 else [in_range(1, 65535)]


def port_name(value: str) -> list[str]:
    """The name of a port (RFC 6335)."""
    objections = [max_length(15)] if size(value) > 15 else []
    if not _PORT_CHARACTERS.fullmatch(value):
        objections.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        objections.append("must contain at least one letter (a-z)")
    if "--" in value:
        objections.append("must not contain consecutive hyphens")
    if value and (value[0] == "-" or value[-1] == "-"):
        objections.append("must not begin or end with a hyphen")
    return objections


def numeric_id(value: int) -> list[str]:
    """A user or group id."""
    return [] if 0 <= value <= 2147483647 else [in_range(0, 2147483647)]


def http_header(value: str) -> list[str]:
    """The name of an HTTP header."""
    if _HEADER.fullmatch(value):
        return []
    return [_form("a valid HTTP header must consist of alphanumeric characters or '-'", _HEADER_FORM, "X-Header-Name")]


def environment_name(value: str) -> list[str]:
    """The name of an environment variable, by the rule that holds since Kubernetes 1.34."""
    objections = [] if value else ["environment variable name must be non-empty"]
    if any(not " " <= character <= "~" or character == "=" for character in value):
        objections.append(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
        )
    return objections


def config_key(value: str) -> list[str]:
    """A key of a ConfigMap or Secret."""
    objections = [max_length(SUBDOMAIN_MAX)] if size(value) > SUBDOMAIN_MAX else []
    if not _CONFIG_KEY.fullmatch(value):
        objections.append(
            _form(
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
                _CONFIG_KEY_FORM,
                "key.name",
                "KEY_NAME",
                "key-name",
            )
        )
    if value in (".", ".."):
        objections.append(f"must not be '{value}'")
    elif value.startswith(".."):
        objections.append("must not start with '..'")
    return objections


def ip_address(value: str, *, canonical: bool = False) -> list[str]:
    """An IP address, without the forms that programs read differently.

    Args:
        value: the text.
        canonical: ask for the form of RFC 5952 too (fields younger than that rule).
    """
    sloppy = re.sub(r"(?<![0-9a-fA-F:.])0+(?=[0-9])|(?<=\.)0+(?=[0-9])", "", value)
    try:
        if "%" in value:
            raise ValueError(value)
        address = ipaddress.ip_address(sloppy)
    except ValueError:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    objections = []
    if sloppy != value and address.version == 4:
        objections.append("must not have leading 0s")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        objections.append("must not be an IPv4-mapped IPv6 address")
    if canonical and not objections and str(address) != value:
        objections.append(f'must be in canonical form ("{address}")')
    return objections


def plain_ip(value: str) -> str:
    """An address as every program reads it, in its one canonical form; "" for any other text."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return ""
    if address.version == 6 and (address.scope_id or address.ipv4_mapped):
        return ""
    return str(address)


def pod_in_words(pod: Pod) -> str:
    """A pod as the kubelet names it in messages: name_namespace(uid) (pkg/kubelet/util/format)."""
    return f"{pod.metadata.name}_{pod.metadata.namespace or 'default'}({pod.metadata.uid or ''})"
