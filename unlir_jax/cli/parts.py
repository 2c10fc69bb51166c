"""`unlir parts`."""

import argparse

from unlir_jax.cli import options
from unlir_jax.core import console

SUMMARY = "show what parts are"
EPILOG = """\
examples:
  unlir parts --workdir runs/birds --output gallery
  unlir parts --workdir runs/birds --output gallery --classes gadwall,mallard
  unlir parts --workdir runs/birds --output gallery --contrast gadwall,mallard

Writes parts.html, parts.png and results.json: each part with its best training regions
and the classes that it speaks for, and each category with the parts that define it.
Open parts.html in a browser.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("--workdir", required=True, metavar="DIR", help="of a finished training")
    add("--output", default="parts", metavar="DIR", help="default: parts")
    add("--overwrite", action="store_true", help="replace a previous gallery in DIR")
    add("--classes", metavar="A,B", help="categories to show, default: all")
    add("--contrast", metavar="A,B", help="say why A and not B")
    options.json(parser)
    options.quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show the parts of a trained network."""
    from unlir_jax.part_report import describe_parts

    quiet = arguments.quiet or arguments.json
    with options.progress(arguments, quiet) as progress:
        outcome = describe_parts.run(
            arguments.workdir,
            arguments.output,
            classes=options.listed(arguments.classes) or (),
            contrast=options.listed(arguments.contrast) or (),
            overwrite=arguments.overwrite,
            progress=progress,
        )
    if arguments.json:
        return console.print_json(outcome.document)
    if not quiet:
        count = len(outcome.document["shown"]["parts"])
        page = outcome.folder / describe_parts.PAGE
        console.say(f"Showed {count} parts: open {page}")
    return console.DONE
