"""`python -m nsrun.api serve|kubeconfig`: what `nsrun api` becomes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nsrun.api import credentials, kubeconfig, listening, roles
from nsrun.client import roots
from nsrun.client.roots import Root
from nsrun.errors import NsrunError


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the words say; the exit status."""
    parser = argparse.ArgumentParser(prog="nsrun api", allow_abbrev=False)
    parser.add_argument("--root")
    parser.add_argument("--output")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", allow_abbrev=False)
    serve.add_argument("--listen", action="append", default=[])
    serve.add_argument("--insecure-http", action="store_true")
    serve.add_argument("--name", action="append", default=[])
    config = commands.add_parser("kubeconfig", allow_abbrev=False)
    config.add_argument("--server")
    config.add_argument("--role", default=roles.FULL)
    config.add_argument("--context", default="nsrun")
    config.add_argument("--insecure-http", action="store_true")
    config.add_argument("--write-kubeconfig", action="store_true")
    words = parser.parse_args(argv)
    root = roots.find(words.root)
    try:
        if words.command == "serve":
            return _serve(root, words)
        return _kubeconfig(root, words)
    except NsrunError as error:
        sys.stderr.write(error.as_json() if words.output == "json" else error.as_text())
        return error.exit_code


def _serve(root: Root, words: argparse.Namespace) -> int:
    from nsrun.api import process

    process.log_to()
    addresses = [listening.parse(text) for text in words.listen or [listening.DEFAULT]]
    return process.serve(root, addresses, insecure=words.insecure_http, names=words.name)


def _kubeconfig(root: Root, words: argparse.Namespace) -> int:
    from nsrun.api import certificates

    place = credentials.place_of(root)
    scheme = "http" if words.insecure_http else "https"
    server = words.server or f"{scheme}://{listening.DEFAULT}"
    if words.insecure_http:
        made = kubeconfig.document(words.context, server, authority=None, token=None)
    else:
        authority = certificates.authority(place)
        token = credentials.token_of(place, words.role)
        made = kubeconfig.document(words.context, server, authority=authority, token=token)
    if not words.write_kubeconfig:
        sys.stdout.write(kubeconfig.text(made))
        return 0
    path = kubeconfig.default_path()
    kubeconfig.write(path, made)
    sys.stdout.write(f"{path} has the context {words.context}, and it is the current one.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
