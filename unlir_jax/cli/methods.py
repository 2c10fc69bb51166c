"""`unlir methods`."""

import argparse

from unlir_jax.cli import options, pages
from unlir_jax.core import console

SUMMARY = "list explainers and metrics, or describe an explainer"
EPILOG = """\
examples:
  unlir methods
  unlir methods rise                   formula, passes, settings and paper
  unlir methods rise --json
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="describe this one")
    options.json(parser)


def check(arguments: argparse.Namespace) -> None:
    """Refuse a name that no explainer has."""
    from unlir_jax.cli import early

    if arguments.name is not None:
        early.methods([arguments.name], "name")


def run(arguments: argparse.Namespace) -> int:
    """List explainers and metrics, or describe an explainer."""
    from unlir_jax.explanation import descriptions

    if arguments.name is not None:
        return pages.show(descriptions.method(arguments.name), arguments.json)
    described = {
        "explainers": descriptions.first_lines(descriptions.factories()),
        "metrics": descriptions.first_lines(descriptions.measures()),
    }
    if arguments.json:
        return console.print_json(described)
    console.print_table(("explainer", ""), list(described["explainers"].items()))
    print()
    return console.print_table(("metric", ""), list(described["metrics"].items()))
