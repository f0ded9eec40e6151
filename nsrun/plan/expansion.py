"""`$(VAR)` in command, args and values of variables (S-EXPAND; Kubernetes third_party/forked/golang/expansion)."""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`text` with `$(NAME)` replaced by the variable's value and `$$` by `$`.

    A name that is not in `variables` stays as it is written, and so does a `$` that begins neither. What was put in is not
    looked at again.
    """
    if "$" not in text:
        return text

    def replacement(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "$"
        value = variables.get(name)
        return match[0] if value is None else value

    return _REFERENCE.sub(replacement, text)
