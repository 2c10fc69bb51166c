"""The command line: `unlir train | evaluate | explain | parts | models | …`.

A command is a file next to this one and a line in `COMMANDS`. The file has a `SUMMARY`,
an `EPILOG` with examples, `add(parser)` and `run(arguments) -> exit code`, and perhaps
`check(arguments)`. What is slow to import, `run` imports: help and complaints about the
arguments come at once.
"""

import argparse
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import NoReturn

import unlir_jax
from unlir_jax.core import console

COMMANDS = (
    "train",
    "evaluate",
    "explain",
    "serve",
    "parts",
    "detect",
    "retrieve",
    "models",
    "methods",
    "metrics",
    "configs",
    "adapters",
    "convert",
    "cache",
    "completion",
)
COMPILING = (
    *("train", "evaluate", "explain", "serve", "parts", "detect", "retrieve"),
    "adapters",
)
"""Commands whose programs are kept."""
DEBUG = "UNLIR_TRACEBACK"
OVERRIDE = "--config."
EPILOG = """\
examples:
  unlir train --config configs/quickstart.py --workdir runs/first
  unlir explain cat.jpg                what a network looked at, in ./explanations
  unlir serve                          the same for photos dropped on a local page
  unlir parts --workdir runs/birds     what the parts of a network are, in ./parts
  unlir models                         networks, and which have weights at hand
  unlir methods                        explainers and metrics, or NAME's settings

`unlir COMMAND --help` says more. Exit codes: 0 done, 1 some pictures could not be read,
2 bad input, 3 training diverged, 70 an error of this program, 130 interrupted. With
UNLIR_TRACEBACK=1 it is shown where an error came from.
"""


class _Parser(argparse.ArgumentParser):
    """Complain in one line instead of printing the whole usage."""

    def error(self, message: str) -> NoReturn:
        sentence = console.visible(" ".join(message.split()))
        self.exit(console.BAD_INPUT, f"unlir: {sentence} (see `{self.prog} --help`)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments after the program's name; the process's by default.

    Returns:
        The exit code: 0 done, 1 some images could not be read, 2 bad input, 3
        training diverged, 70 an error of this program, 130 interrupted, 141 nobody
        reads the output any more.
    """
    try:
        # Help is printed, and bad arguments are refused, by leaving.
        arguments = _parse(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as leave:
        return int(leave.code or 0)
    try:
        arguments.check(arguments)
    except (ValueError, OSError) as error:
        console.complain(_sentence(error))
        return console.BAD_INPUT
    from unlir_jax.runtime import programs

    hear = programs.listener(console.complain)

    def show(message: Warning | str, *_: object) -> None:
        if not hear(str(message)):
            console.complain(str(message))

    warnings.showwarning = show
    try:
        if arguments.command in COMPILING:
            programs.keep()
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        console.complain("interrupted.")
        return console.INTERRUPTED
    except BrokenPipeError:
        # The interpreter would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return console.PIPE_CLOSED
    except FloatingPointError as error:
        console.complain(str(error))
        return console.DIVERGED
    except (ValueError, TypeError, ImportError, OSError) as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        console.complain(_sentence(error))
        return console.BAD_INPUT
    # The last resort: whatever else is raised was foreseen by nobody.
    except Exception as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        told = f"{type(error).__name__}: {error}".strip(": \n")[:300]
        console.complain(
            f"internal error: {told} (set {DEBUG}=1 to see where; nothing is known of "
            "it: please report it)."
        )
        return console.INTERNAL_ERROR


def _sentence(error: Exception) -> str:
    """Give the sentence of an error; what the system says of a path has none."""
    if isinstance(error, OSError) and error.errno and error.filename is not None:
        name = os.fsdecode(error.filename)
        shown = name if len(name) <= 100 else f"{name[:100]}…"
        return (
            f"{shown!r} cannot be used ({error.strerror}); expected a path that can be "
            "read or written here."
        )
    return str(error) or type(error).__name__


def parser_of_all() -> tuple[
    argparse.ArgumentParser, dict[str, argparse.ArgumentParser]
]:
    """Give the parser of the program, and each command's by name."""
    parser = _Parser(
        prog="unlir",
        description="Show what a network looked at, and how far to trust it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"unlir_jax {unlir_jax.__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    parsers: dict[str, argparse.ArgumentParser] = {}
    for name in COMMANDS:
        command = importlib.import_module(f"unlir_jax.cli.{name}")
        summary = command.SUMMARY
        parsers[name] = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=command.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add(parsers[name])
        parsers[name].set_defaults(run=command.run, command=name)
        parsers[name].set_defaults(check=getattr(command, "check", lambda _: None))
    return parser, parsers


def _parse(words: list[str]) -> argparse.Namespace:
    parser, parsers = parser_of_all()
    chosen = parsers.get(words[0]) if words else None
    if chosen and chosen.get_default("overrides") is not None:
        # No parser of arguments knows an option by how it begins.
        chosen.set_defaults(overrides=[w for w in words if w.startswith(OVERRIDE)])
        words = [word for word in words if not word.startswith(OVERRIDE)]
    return parser.parse_args(words)
