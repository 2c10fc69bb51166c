"""Run the variants of a config, each in a folder of its own, and see how far they are.

  python launch/sweep.py list    --config configs/linear_probe.py --root runs/probe
  python launch/sweep.py run     --config … --root … --config.steps=100
  python launch/sweep.py submit  --config … --root … --with 'sbatch launch/slurm.sh'
  python launch/sweep.py command --config … --root … 3

The variants are those that `get_variants` of the config file returns. ROOT/NAME is the
workdir of variant NAME: the variant is finished when it holds summary.json, interrupted
(or still running: this tool cannot tell) when it only exists. Indices count all
variants, so that they stay the same while the first ones finish.

Required environment: unlir_jax. Optional: UNLIR, the command that stands for `unlir`.
Restart: the same command again skips what is finished and resumes what is not. SIGTERM
is passed to the training, which saves; no further variant is started.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from unlir_jax.core.document_types import Document
from unlir_jax.runtime import config

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
SUMMARY, RESULT = "summary.json", "test/accuracy"


class Variant(NamedTuple):
    """One run of the sweep: its place, its folder, and what `unlir train` is given."""

    index: int
    name: str
    folder: Path
    settings: Document
    arguments: list[str]

    @property
    def state(self) -> str:
        if (self.folder / SUMMARY).is_file():
            return "finished"
        return "interrupted" if self.folder.exists() else "new"

    @property
    def accuracy(self) -> str:
        if self.state != "finished":
            return ""
        path = self.folder / SUMMARY
        try:
            value = json.loads(path.read_text("utf-8")).get(RESULT)
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{str(path)!r} is not a summary in JSON.") from error
        return f"{value:.4f}" if isinstance(value, float | int) else "-"


class Parser(argparse.ArgumentParser):
    """Complain in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"sweep: {message} (see `{self.prog} --help`)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns 0 done, 1 some variants failed, 2 bad input."""
    arguments, overrides = parser().parse_known_args(argv)
    try:
        for override in overrides:
            if not override.startswith("--config."):
                raise ValueError(f"Argument {override!r} is none of this command's.")
        found = variants(arguments.config, arguments.root, overrides)
        return arguments.run(found, arguments)
    except (ValueError, OSError) as error:
        print(f"sweep: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    top = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for run in (list_all, run_all, submit, command):
        name = run.__name__.removesuffix("_all")
        added = commands.add_parser(name, help=run.__doc__, allow_abbrev=False)
        added.set_defaults(run=run)
        added.add_argument("--config", required=True, metavar="FILE[:ARGUMENT]")
        added.add_argument("--root", required=True, type=Path, metavar="DIR")
        if run in (run_all, submit):
            added.add_argument("--dry-run", action="store_true", help="only print")
        if run in (submit, command):
            needed = run is submit
            added.add_argument(
                "--with", dest="prefix", required=needed, metavar="COMMAND"
            )
        if run is command:
            added.add_argument("index", type=int, metavar="INDEX")
    return top


def variants(text: str, root: Path, overrides: Sequence[str]) -> list[Variant]:
    """List the variants of a config, after checking that each can be loaded."""
    given = {
        override.partition("=")[0].removeprefix("--config.") for override in overrides
    }
    found = []
    for index, (name, settings) in enumerate(config.variants(text).items()):
        for key in given & settings.keys():
            raise ValueError(
                f"`--config.{key}` is what variant {name!r} sets; expected a setting "
                "that the variants leave alone."
            )
        changes = [f"--config.{change}" for change in config.as_overrides(settings)]
        config.load(text, [*changes, *overrides])
        folder = root / name
        arguments = ["--config", text, "--workdir", str(folder), *changes, *overrides]
        found.append(Variant(index, name, folder, settings, arguments))
    return found


def unlir(variant: Variant) -> list[str]:
    """Give the command that trains a variant."""
    own = shlex.split(os.environ.get("UNLIR", ""))
    return [
        *(own or [sys.executable, "-m", "unlir_jax.cli"]),
        "train",
        *variant.arguments,
    ]


def list_all(found: list[Variant], arguments: argparse.Namespace) -> int:
    """Show all variants, their state and result."""
    rows = [("", "variant", "state", RESULT, "settings")]
    for variant in found:
        settings = ", ".join(config.as_overrides(variant.settings))
        row = (str(variant.index), variant.name, variant.state, variant.accuracy)
        rows.append((*row, settings))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    rest = [str(variant.index) for variant in found if variant.state != "finished"]
    print(f"unfinished: {','.join(rest) or 'none'}")
    return DONE


def run_all(found: list[Variant], arguments: argparse.Namespace) -> int:
    """Train here what is not finished, one after another."""
    failed: list[str] = []
    for variant in found:
        if variant.state == "finished":
            continue
        print(shlex.join(unlir(variant)), flush=True)
        if arguments.dry_run:
            continue
        code, stopped = train(unlir(variant))
        if stopped:
            print(f"sweep: stopped in {variant.name}", file=sys.stderr)
            return code
        if code or variant.state != "finished":
            failed.append(f"{variant.name} (exit code {code})")
    return report(failed)


def train(words: Sequence[str]) -> tuple[int, bool]:
    """Run a command; tell its exit code and whether we were told to stop meanwhile."""
    stopped, process = False, None

    def stop(*_: Any) -> None:
        nonlocal stopped
        stopped = True
        if process:
            process.terminate()

    # Before the start: a signal in between would leave the training to itself.
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        process = subprocess.Popen(words)
        if stopped:
            process.terminate()
        return process.wait(), stopped
    except KeyboardInterrupt:
        # The terminal has told the training as well: let it finish saving.
        if process:
            process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)


def submit(found: list[Variant], arguments: argparse.Namespace) -> int:
    """Hand each variant that is not finished to a scheduler."""
    failed: list[str] = []
    for variant in found:
        if variant.state == "finished":
            continue
        words = [*shlex.split(arguments.prefix), *variant.arguments]
        print(shlex.join(words), flush=True)
        if arguments.dry_run:
            continue
        names = {"UNLIR_JOB": variant.name, "SBATCH_JOB_NAME": variant.name}
        code = subprocess.run(words, env=os.environ | names).returncode
        if code:
            failed.append(f"{variant.name} (exit code {code})")
    return report(failed)


def command(found: list[Variant], arguments: argparse.Namespace) -> int:
    """Print the command of one variant, nothing if it is finished."""
    if not 0 <= arguments.index < len(found):
        raise ValueError(
            f"Variant {arguments.index} does not exist; expected 0 to {len(found) - 1}."
        )
    variant = found[arguments.index]
    if variant.state == "finished":
        print(f"sweep: {variant.name} is finished", file=sys.stderr)
    elif arguments.prefix:
        print(shlex.join([*shlex.split(arguments.prefix), *variant.arguments]))
    else:
        print(shlex.join(unlir(variant)))
    return DONE


def report(failed: Sequence[str]) -> int:
    """Say which variants failed."""
    if failed:
        print(f"sweep: not finished: {', '.join(failed)}", file=sys.stderr)
    return SOME_FAILED if failed else DONE


if __name__ == "__main__":
    sys.exit(main())
