"""`unlir metrics`."""

import argparse

from unlir_jax.cli import options, pages
from unlir_jax.core import console

SUMMARY = "list metrics, or describe one"
EPILOG = """\
examples:
  unlir metrics
  unlir metrics insertion              direction, contract, settings and paper
  unlir metrics insertion@mean --json  the same of a variant
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="describe this one")
    options.json(parser)


def check(arguments: argparse.Namespace) -> None:
    """Refuse a name that no metric has."""
    from unlir_jax.cli import early

    if arguments.name is not None:
        early.metrics([arguments.name], "name")


def run(arguments: argparse.Namespace) -> int:
    """List metrics, or describe one."""
    from unlir_jax import metrics
    from unlir_jax.explanation import descriptions

    if arguments.name is not None:
        return pages.show(descriptions.metric(arguments.name), arguments.json)
    lines = descriptions.first_lines(descriptions.measures())
    if arguments.json:
        return console.print_json({"metrics": lines})
    rows = [
        (name, metrics.SPECS[name].better, metrics.SPECS[name].needs, line)
        for name, line in lines.items()
    ]
    return console.print_table(("metric", "better", "needs", ""), rows)
