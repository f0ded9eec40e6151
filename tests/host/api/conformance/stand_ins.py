"""Images made here: a busybox, and one with a script that does what the cases need of the suite's helper image."""

from __future__ import annotations

import shutil
from pathlib import Path

BUSYBOX = "conformance.test/busybox:1"
AGENT = "conformance.test/agent:1"
MACHINE = "nsrun.local/host"
"""This machine's programs."""

APPLETS = (
    "sh cat echo env sleep true false test [ id ls mkdir stat touch wc awk grep sysctl ip hostname wget nc httpd cut sed head "
    "printf rm od kill date readlink df mount chmod"
)

SCRIPT = """#!/bin/sh
# What the cases need of the suite's helper image: pause, entrypoint-tester, serve (HTTP), liveness.
word=${1:-pause}
[ $# -gt 0 ] && shift
case $word in
pause) trap 'exit 0' TERM INT; while :; do sleep 1000 & wait $!; done ;;
entrypoint-tester) echo "[$0 entrypoint-tester${1:+ $*}]" ;;
serve) trap 'exit 0' TERM; httpd -f -p "${1:-8080}" -h /www & wait $! ;;
liveness) touch /www/healthz; httpd -p 8080 -h /www; sleep "${1:-3}"; rm /www/healthz; sleep 1000 ;;
*) echo "[$0 $word${1:+ $*}]" ;;
esac
"""

ECHO = """#!/bin/sh
# What was asked for goes into the container's log.
echo "heard $QUERY_STRING" > /proc/1/fd/1
printf 'Content-Type: text/plain\\r\\n\\r\\n%s\\n' "$QUERY_STRING"
"""
HOSTNAME = """#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'; hostname
"""
DIAL = """#!/bin/sh
# /cgi-bin/dial?HOST/PATH asks another pod.
printf 'Content-Type: text/plain\\r\\n\\r\\n'; wget -q -O - "http://$QUERY_STRING"
"""


def build(directory: Path) -> None:
    """Make the root file system of both images."""
    program = shutil.which("busybox")
    assert program is not None
    for name in ("bin", "etc", "tmp", "www/cgi-bin", "home", "root"):
        (directory / name).mkdir(parents=True)
    shutil.copy(program, directory / "bin" / "busybox")
    for name in APPLETS.split():
        (directory / "bin" / name).symlink_to("busybox")
    (directory / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n")
    (directory / "etc" / "group").write_text("root:x:0:\nuser:x:1000:\n")
    (directory / "tmp").chmod(0o1777)
    for name, text in (
        ("agent", SCRIPT),
        ("www/cgi-bin/echo", ECHO),
        ("www/cgi-bin/hostname", HOSTNAME),
        ("www/cgi-bin/dial", DIAL),
    ):
        path = directory / name
        path.write_text(text)
        path.chmod(0o755)
