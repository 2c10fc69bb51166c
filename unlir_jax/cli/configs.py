"""`unlir configs`."""

import argparse

from unlir_jax.cli import options
from unlir_jax.core import console

SUMMARY = "list configs, or describe one"
EPILOG = """\
examples:
  unlir configs                        what comes with the package
  unlir configs quickstart             what it reproduces, command and settings
  unlir configs evaluate.py:methods=rise --json

A config is a file for `unlir train` or `unlir evaluate`. Its arguments stand behind a
colon, FILE:name=value,name=value; a setting is changed by --config.NAME=VALUE.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    help = "a name of the list, or a file; perhaps with :name=value,…"
    parser.add_argument("name", nargs="?", metavar="NAME", help=help)
    options.json(parser)


def check(arguments: argparse.Namespace) -> None:
    """Refuse a config that there is not."""
    from unlir_jax.runtime import config

    if arguments.name is not None:
        config.find(arguments.name.partition(":")[0])


def run(arguments: argparse.Namespace) -> int:
    """List the configs that come with the package, or describe one."""
    from unlir_jax.runtime import config_pages

    if arguments.name is None:
        listed = config_pages.summaries()
        if arguments.json:
            return console.print_json({"configs": listed})
        return console.print_table(("config", ""), list(listed.items()))
    document = config_pages.describe(arguments.name)
    if arguments.json:
        return console.print_json(document)
    console.say(config_pages.lines(document))
    return console.DONE
