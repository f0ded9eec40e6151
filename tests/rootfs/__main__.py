"""`python -m tests.rootfs DEST`: the tests' root file system at DEST, for trying things by hand."""

import sys
from pathlib import Path

from tests.rootfs import build

print(build(Path(sys.argv[1])))
