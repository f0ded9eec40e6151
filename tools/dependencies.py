"""Prints the requirements of pyproject.toml's groups, one word each: `pip install $(tools/dependencies.py run test)`."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
groups = {
    "build": project["build-system"]["requires"],
    "run": project["project"]["dependencies"],
    **project["project"]["optional-dependencies"],
}
for name in sys.argv[1:]:
    for requirement in groups[name]:
        print(requirement.replace(" ", ""))
