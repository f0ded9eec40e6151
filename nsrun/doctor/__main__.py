"""`python -m nsrun.doctor [DIR]`: the checks as JSON, without a server. DIR is where images would lie."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nsrun.doctor.checks import examine


def main() -> int:
    """Print `{"checks": [...]}`; the exit status is 0 whatever they say."""
    lib = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("/var/lib/nsrun")
    print(json.dumps({"checks": [check.as_data() for check in examine(lib)]}))  # noqa: T201 - that is the point
    return 0


if __name__ == "__main__":
    sys.exit(main())
