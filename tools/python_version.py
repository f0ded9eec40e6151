"""Fails with one clear line where this Python is too old for nsrun."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  this file exists to be run by an older one
    sys.exit(
        f"nsrun needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. "
        "Name another one: make PYTHON=/usr/bin/python3.11 …"
    )
