#!/usr/bin/env python3
"""A pod from a program: brought up in a private engine, asked, and gone with the program. Run it as root:

sudo .venv/bin/python examples/library.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import nsrun

MANIFEST = Path(__file__).with_name("pod.yaml")


def main() -> int:
    """Bring up the example's pod and talk to it."""
    # An Engine is nsrun's whole server for this program alone; whatever ends the program ends its pods, too.
    # nsrun.connect() would use the machine's server instead, whose pods stay.
    try:
        with nsrun.Engine() as engine, engine.up(MANIFEST) as pod:
            pod.wait_ready(timeout=30)
            print(f"{pod.name} is {pod.phase} at {pod.ip}")

            result = pod.exec(["uname", "-n"], container="web")
            print(f"exec says {result.text.strip()!r} and ended with {result.exit_code}")

            result = pod.exec(["sh"], container="web", stdin=b"echo $((6 * 7)); exit 3")
            print(f"a shell that reads what we write says {result.text.strip()!r} and ended with {result.exit_code}")

            # Logs come as lines with their times, and can be followed.
            for number, line in enumerate(pod.log_lines("visitor", follow=True)):
                print(f"visitor, {line.timestamp}: {line.text.decode()}")
                if number == 3:
                    break

            for event in pod.events():
                print(f"event {event['reason']}: {event['message']}")
    except nsrun.NsrunError as error:
        # Every failure has a sentence, and most have the next step.
        print(f"Error: {error.brief}", file=sys.stderr)
        for text in (error.details, error.resolution):
            if text:
                print(f"  {text}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
