"""`nsrun pod proxy`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import click

from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.params import complete_pods, namespace_option
from nsrun.cli.settings import Settings, note, say
from nsrun.cli.show import bare
from nsrun.client import webfilter
from nsrun.errors import UsageError


@click.command(
    cls=HelpfulCommand,
    help="""Lead a browser to pods over HTTP, until Ctrl-C.

    With POD everything goes to that pod. Without, http://localhost:8001 lists the pods, and
    /api/v1/namespaces/NAMESPACE/pods/[https:]POD[:PORT]/proxy/ leads to each, as with kubectl proxy. Requests go to the pod's
    address: what listens on its loopback alone is reached by port-forward.""",
    examples="""
    nsrun pod proxy web:8080                 # http://localhost:8001 is the pod's
    nsrun pod proxy https:web:8443           # the pod speaks TLS
    nsrun pod proxy                          # all pods; http://localhost:8001 lists them
    nsrun pod proxy -p 0 web                 # a free port of this machine
    """,
)
@click.argument("pod", metavar="[POD[:PORT]]", required=False, shell_complete=complete_pods)
@namespace_option
@click.option(
    "-p",
    "--port",
    type=click.IntRange(0, 65535),
    default=8001,
    help="To listen on; 0 takes a free one. [default: 8001]",
)
@click.option("--address", metavar="ADDRESS", default="127.0.0.1", help="To listen on. [default: 127.0.0.1]")
@click.option("-u", "--unix-socket", metavar="PATH", help="Listen there, for this user alone, instead.")
@click.option(
    "--accept-hosts",
    metavar="REGEXPS",
    default=webfilter.HOSTS,
    help="Hosts that requests may be for. [default: this machine's loopback]",
)
@click.option(
    "--accept-paths", metavar="REGEXPS", default=webfilter.PATHS, help="Paths that are let through. [default: all]"
)
@click.option(
    "--reject-paths",
    metavar="REGEXPS",
    default=webfilter.REJECTED_PATHS,
    help="Paths that are not, whatever else matches.",
)
@click.option(
    "--reject-methods",
    metavar="REGEXPS",
    default=webfilter.REJECTED_METHODS,
    help="Methods that are not: POST,PUT,PATCH.",
)
@click.option("--disable-filter", is_flag=True, help="Let everything through, also what pages of other sites send.")
@click.pass_obj
def proxy(
    settings: Settings,
    /,
    pod: str | None,
    namespace: str | None,
    port: int,
    address: str,
    unix_socket: str | None,
    accept_hosts: str,
    accept_paths: str,
    reject_paths: str,
    reject_methods: str,
    disable_filter: bool,
) -> int:
    """`nsrun pod proxy`."""
    accept = webfilter.rules(accept_hosts, accept_paths, reject_paths, reject_methods)

    from nsrun.client import proxy

    session = settings.session()
    only = None
    if pod is not None:
        only = proxy.target(bare(pod), namespace)
        found = session.request("pod.get", {"name": only.name, "namespace": namespace}).result["pod"]
        proxy.port_of(found, only)
    elif namespace is not None:
        raise UsageError("--namespace is of the pod that is named", resolution="Without POD all namespaces are served.")
    if disable_filter and unix_socket is None:
        note("warning: Request filter disabled, your proxy is vulnerable to XSRF attacks, please be cautious")
    sock = proxy.listen(address, port) if unix_socket is None else proxy.listen_unix(unix_socket)
    if unix_socket is None:
        host, number = sock.getsockname()[:2]
        where = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
    else:
        where = unix_socket
    try:
        say(f"Starting to serve on {where}")
        sys.stdout.flush()
        asyncio.run(proxy.Proxy(session, only, None if disable_filter else accept).serve(sock))
    finally:
        if unix_socket is not None:
            with contextlib.suppress(OSError):
                os.unlink(unix_socket)
    return 0
