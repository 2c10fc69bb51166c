"""`unlir cache`."""

import argparse

from unlir_jax.cli import options
from unlir_jax.core import console

SUMMARY = "show or clear kept programs"
EPILOG = """\
examples:
  unlir cache                          where compiled programs are kept, and how many
  unlir cache --clear                  forget them
  UNLIR_JAX_CACHE=off unlir explain cat.jpg

Commands keep the programs that JAX compiles for them, so that the next run starts at
once. UNLIR_JAX_CACHE=DIR keeps them elsewhere. Where JAX_COMPILATION_CACHE_DIR is set,
JAX keeps them there, and this command leaves them alone.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--clear", action="store_true", help="forget the programs")
    options.json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show what is kept, or forget it."""
    from unlir_jax.runtime import programs

    if arguments.clear:
        programs.clear()
    kept = programs.kept()
    if arguments.json:
        where = None if kept.folder is None else str(kept.folder)
        return console.print_json(
            {"folder": where, "programs": kept.programs, "bytes": kept.size}
        )
    if kept.folder is None:
        console.say("No compiled programs are kept here.")
        return console.DONE
    console.say(
        f"{kept.programs} compiled programs, {kept.size / 1e6:.1f} MB of at most "
        f"{programs.MOST_BYTES / 1e6:.0f} MB, in {str(kept.folder)!r}"
    )
    return console.DONE
