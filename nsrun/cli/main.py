"""`nsrun`: the root command."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from nsrun._version import __version__
from nsrun.cli.failure import INTERRUPTED, guarded
from nsrun.cli.groups import Entry, LazyGroup, UnknownCommandError, closest, set_output, set_root
from nsrun.cli.settings import Settings
from nsrun.errors import UsageError

POD = {
    "up": Entry("nsrun.cli.pod_up", "up", "Bring up the pods of manifests.", "Run"),
    "down": Entry("nsrun.cli.pod_up", "down", "Take pods down.", "Run"),
    "restart": Entry("nsrun.cli.pod_control", "restart", "Restart containers of a pod.", "Run"),
    "kill": Entry("nsrun.cli.pod_control", "kill", "Send a signal to containers of a pod.", "Run"),
    "condition": Entry(
        "nsrun.cli.pod_condition", "condition", "Set a condition that a readiness gate waits for.", "Run"
    ),
    "ls": Entry("nsrun.cli.pod_show", "ls", "List pods.", "Look"),
    "describe": Entry("nsrun.cli.pod_describe", "describe", "Tell what there is to know about a pod.", "Look"),
    "inspect": Entry("nsrun.cli.pod_show", "inspect", "Print pods as data.", "Look"),
    "events": Entry("nsrun.cli.pod_show", "events", "List what happened to pods.", "Look"),
    "stats": Entry("nsrun.cli.pod_stats", "stats", "Tell what pods use: processor, memory, network.", "Look"),
    "logs": Entry("nsrun.cli.pod_logs", "logs", "Print what containers wrote.", "Look"),
    "wait": Entry("nsrun.cli.pod_control", "wait", "Wait for a condition of pods.", "Look"),
    "exec": Entry("nsrun.cli.pod_exec", "exec_", "Run a command in a container.", "Inside"),
    "attach": Entry("nsrun.cli.pod_exec", "attach", "Connect to a running container's input and output.", "Inside"),
    "debug": Entry("nsrun.cli.pod_debug", "debug", "Add a container with tools to a running pod.", "Inside"),
    "cp": Entry("nsrun.cli.pod_cp", "cp", "Copy files and directories to and from containers.", "Inside"),
    "port-forward": Entry("nsrun.cli.pod_forward", "port_forward", "Forward ports of this machine to a pod.", "Inside"),
    "proxy": Entry("nsrun.cli.pod_proxy", "proxy", "Lead a browser to pods over HTTP.", "Inside"),
    "plan": Entry(
        "nsrun.cli.pod_offline", "plan", "Print every step of starting a manifest's containers.", "Manifests"
    ),
    "validate": Entry("nsrun.cli.pod_offline", "validate", "Check manifests as Kubernetes does.", "Manifests"),
}

IMAGE = {
    "pull": Entry("nsrun.cli.image_pull", "pull", "Bring images from registries.", "Bring"),
    "load": Entry("nsrun.cli.image_files", "load", "Bring images out of a file.", "Bring"),
    "import": Entry("nsrun.cli.image_files", "import_", "Make an image of a directory or a tar file.", "Bring"),
    "ls": Entry("nsrun.cli.image", "ls", "List images, and the pods that use them.", "Look"),
    "inspect": Entry("nsrun.cli.image_look", "inspect", "Print images as data.", "Look"),
    "history": Entry("nsrun.cli.image_look", "history", "Tell how an image was made.", "Look"),
    "df": Entry("nsrun.cli.image_look", "df", "Tell what images take on the disk.", "Look"),
    "save": Entry("nsrun.cli.image_files", "save", "Write images to a file.", "Keep"),
    "tag": Entry("nsrun.cli.image", "tag", "Give an image another name.", "Keep"),
    "rm": Entry("nsrun.cli.image", "rm", "Remove images.", "Keep"),
    "prune": Entry("nsrun.cli.image", "prune", "Remove images that nobody uses.", "Keep"),
}

OBJECT = {
    "apply": Entry("nsrun.cli.object", "apply", "Keep the objects of manifests that pods refer to."),
    "get": Entry("nsrun.cli.object", "get", "List what is kept, or print it."),
    "rm": Entry("nsrun.cli.object", "rm", "Remove what is kept."),
}

VOLUME = {
    "ls": Entry("nsrun.cli.volume", "ls", "List volumes that outlive pods."),
    "rm": Entry("nsrun.cli.volume", "rm", "Remove volumes, with what is in them."),
}

SERVER = {
    "start": Entry("nsrun.cli.server", "start", "Start the server; other commands do that by themselves."),
    "stop": Entry("nsrun.cli.server", "stop", "Stop the server; pods run on."),
    "restart": Entry("nsrun.cli.server", "restart", "Exchange the server; pods run on."),
    "status": Entry("nsrun.cli.server", "status", "Tell whether the server runs, and what it holds."),
}

API = {
    "serve": Entry("nsrun.cli.api", "serve", "Serve the Kubernetes API of this machine."),
    "kubeconfig": Entry("nsrun.cli.api", "kubeconfig", "Print what kubectl needs to reach it."),
}

TOP = {
    "pod": Entry("nsrun.cli.main", "pod", "Run pods and look at them."),
    "image": Entry("nsrun.cli.main", "image", "Root file systems for containers."),
    "object": Entry("nsrun.cli.main", "object_", "ConfigMaps, Secrets and claims that pods refer to."),
    "volume": Entry("nsrun.cli.main", "volume", "Volumes that outlive pods."),
    "server": Entry("nsrun.cli.main", "server", "The process that looks after pods."),
    "api": Entry("nsrun.cli.main", "api", "The Kubernetes API, for kubectl and client libraries."),
    "login": Entry("nsrun.cli.image_pull", "login", "Remember a user and a password for a registry."),
    "logout": Entry("nsrun.cli.image_pull", "logout", "Forget them."),
    "doctor": Entry("nsrun.cli.about", "doctor", "Tell what this machine can and cannot do."),
    "version": Entry("nsrun.cli.about", "version", "Print the versions of command and server."),
    "completion": Entry("nsrun.cli.about", "completion", "Print the completion script of a shell."),
}


def below() -> Mapping[str, str]:
    """Commands that stand below a group, for those who leave the group's word out."""
    return {
        **dict.fromkeys(VOLUME, "volume"),
        **dict.fromkeys(OBJECT, "object"),
        **dict.fromkeys(SERVER, "server"),
        **dict.fromkeys(API, "api"),
        **dict.fromkeys(IMAGE, "image"),
        **dict.fromkeys(POD, "pod"),
    }


pod = LazyGroup(
    name="pod",
    entries=POD,
    help="Run pods and look at them.",
    synonyms={
        "ps": "ls",
        "list": "ls",
        "get": "ls",
        "apply": "up",
        "create": "up",
        "run": "up",
        "start": "up",
        "play": "up",
        "delete": "down",
        "rm": "down",
        "stop": "down",
        "remove": "down",
        "show": "describe",
        "log": "logs",
        "top": "stats",
        "shell": "exec",
        "check": "validate",
        "lint": "validate",
    },
    examples="""
    nsrun pod up pod.yaml
    nsrun pod ls
    nsrun pod logs -f web
    nsrun pod exec -it web -- sh
    nsrun pod down web
    """,
)

image = LazyGroup(
    name="image",
    entries=IMAGE,
    help="Root file systems for containers. nsrun.local/host, this machine's /usr, is always there.",
    synonyms={
        "list": "ls",
        "build": "import",
        "fetch": "pull",
        "export": "save",
        "remove": "rm",
        "delete": "rm",
        "rmi": "rm",
    },
    examples="""
    nsrun image pull nginx:1.27
    docker save nginx:1.27 | nsrun image load -
    nsrun image import example.org/app:1 ./rootfs --entrypoint /bin/app
    nsrun image ls
    """,
)

volume = LazyGroup(
    name="volume",
    entries=VOLUME,
    help="Volumes that outlive pods. Claims make them: nsrun object apply, or a claim in the file of a pod.",
    synonyms={"list": "ls", "get": "ls", "df": "ls", "remove": "rm", "delete": "rm"},
    examples="""
    nsrun volume ls
    nsrun volume rm data
    """,
)

object_ = LazyGroup(
    name="object",
    entries=OBJECT,
    help="ConfigMaps, Secrets, claims and volumes that pods refer to, kept by name.",
    synonyms={
        "create": "apply",
        "add": "apply",
        "up": "apply",
        "set": "apply",
        "ls": "get",
        "list": "get",
        "show": "get",
        "inspect": "get",
        "delete": "rm",
        "remove": "rm",
        "down": "rm",
    },
    examples="""
    nsrun object apply settings.yaml
    nsrun object get
    nsrun object rm configmap/settings
    """,
)

server = LazyGroup(
    name="server",
    entries=SERVER,
    help="The process that looks after pods. It starts by itself; stopping it never stops a pod.",
    synonyms={"run": "start", "kill": "stop", "ps": "status", "info": "status"},
    examples="""
    nsrun server status
    nsrun server restart
    """,
)


api = LazyGroup(
    name="api",
    entries=API,
    help="The Kubernetes API of this machine, for kubectl and client libraries: a process of its own.",
    synonyms={"start": "serve", "run": "serve", "config": "kubeconfig"},
    examples="""
    nsrun api serve
    nsrun api kubeconfig --write-kubeconfig
    """,
)


def print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    """--version."""
    if wanted and not ctx.resilient_parsing:
        sys.stdout.write(f"nsrun {__version__}\n")
        ctx.exit()


@click.pass_context
def no_words(ctx: click.Context, /, **_options: Any) -> int:
    """`nsrun` alone helps."""
    if ctx.invoked_subcommand is None:
        sys.stdout.write(ctx.get_help() + "\n")
    return 0


root_command = LazyGroup(
    name="nsrun",
    entries=TOP,
    invoke_without_command=True,
    callback=no_words,
    help="nsrun runs Kubernetes Pods on this machine, without Kubernetes.",
    below=below,
    synonyms={
        "ps": "pod ls",
        "get": "pod ls",
        "list": "pod ls",
        "apply": "pod up",
        "create": "pod up",
        "run": "pod up",
        "play": "pod up",
        "delete": "pod down",
        "images": "image ls",
        "pull": "image pull",
        "rmi": "image rm",
        "pods": "pod ls",
        "info": "server status",
        "help": "--help",
    },
    examples="""
    sudo nsrun pod up pod.yaml          # bring up a pod and wait until it runs
    sudo nsrun pod ls                   # which pods are there
    sudo nsrun pod logs -f web          # follow its logs
    sudo nsrun pod exec -it web -- sh   # a shell in it
    sudo nsrun pod down web             # take it down
    nsrun pod validate pod.yaml         # what Kubernetes would say of a manifest; needs no root
    nsrun doctor                        # what this machine can and cannot do
    """,
    params=[
        click.Option(
            ["--root"],
            metavar="DIR",
            expose_value=False,
            callback=set_root,
            help="Keep everything below DIR instead of the machine's own directories. [env: NSRUN_ROOT]",
        ),
        click.Option(
            ["-o", "--output"],
            type=click.Choice(["text", "json", "yaml", "wide", "name", "table"]),
            expose_value=False,
            callback=set_output,
            help="How results are printed; with json errors are data, too.",
        ),
        click.Option(
            ["-V", "--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=print_version,
            help="Print the version and exit.",
        ),
    ],
)


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit status. Errors have become messages by then.

    Args:
        argv: the words after `nsrun`.
    """
    settings = Settings()
    return guarded(lambda: execute(list(argv), settings), settings)


def execute(argv: list[str], settings: Settings) -> int:
    """Parse and run; click's complaints become UsageErrors."""
    try:
        with root_command.make_context("nsrun", argv, obj=settings) as ctx:
            result = root_command.invoke(ctx)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        raise usage_error(error) from error


def usage_error(error: click.ClickException) -> UsageError:
    """Click's complaint with a next step."""
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else "nsrun"
    resolution = f"{path} --help"
    details: str | None = None
    message = error.message
    if isinstance(error, UnknownCommandError):
        if error.meant:
            details = "Did you mean  " + "  or  ".join(error.meant) + "  ?"
    elif isinstance(error, click.NoSuchOption):
        message = f"{path} has no option {error.option_name}"
        known = [name for param in ctx.command.get_params(ctx) for name in param.opts] if ctx is not None else []
        close = [name for name in closest(error.option_name, known) if name.startswith("-")]
        if close:
            details = "Did you mean  " + "  or  ".join(close) + "  ?"
    else:
        message = error.format_message()
        wanted = getattr(error, "param", None)
        if isinstance(error, click.MissingParameter) and wanted is not None:
            message = f"{path} needs {wanted.human_readable_name if wanted.param_type_name == 'argument' else wanted.opts[-1]}"
            details = error.message or None
        if ctx is not None:
            usage = " ".join(ctx.command.collect_usage_pieces(ctx))
            details = "\n".join(filter(None, [details, f"Usage: {path} {usage}"]))
    return UsageError(message[:1].lower() + message[1:].rstrip("."), details=details, resolution=resolution)
