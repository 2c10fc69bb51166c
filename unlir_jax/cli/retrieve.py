"""`unlir retrieve`."""

import argparse

from unlir_jax.cli import options
from unlir_jax.core import console

SUMMARY = "find images that are alike"
EPILOG = """\
examples:
  unlir retrieve bird.jpg --index birds/test --output alike
  unlir retrieve queries/ --index birds/test --model runs/birds --pool rmac --whiten 128
  unlir retrieve bird.jpg --index birds/test --model mobilenet_v2 \\
      --adapter runs/few/adapters/0_crops.safetensors

Writes results.json and retrieval.html. Where the folders of the index name classes, the
mean average precision with which its pictures find their own class is given too.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("queries", nargs="+", metavar="IMAGE", help="file, folder or pattern")
    add("--index", required=True, metavar="DIR", help="images to search")
    add("--model", default="efficientnet_lite0", metavar="NAME", help="or a workdir")
    options.preparation(parser)
    add(
        "--pool", default="gem", metavar="NAME", help="average, max, gem, rmac or token"
    )
    add("--whiten", type=int, default=0, metavar="N", help="directions, default: none")
    add("--adapter", metavar="FILE", help="weights of filters that were learnt for it")
    add("--image-size", type=int, metavar="N", help="default: the adapter's, if any")
    add("--top", type=int, default=10, metavar="N", help="default: 10")
    options.white_level(parser)
    add("--output", default="retrieval", metavar="DIR", help="default: retrieval")
    add("--overwrite", action="store_true", help="replace a previous search in DIR")
    options.quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search, and write the page."""
    from unlir_jax.retrieval import retrieve

    with options.progress(arguments) as progress:
        outcome = retrieve.run(
            arguments.queries,
            [arguments.index],
            arguments.output,
            model=arguments.model,
            **options.prepared(arguments),
            adapter=arguments.adapter,
            pool=arguments.pool,
            whiten=arguments.whiten,
            top=arguments.top,
            image_size=arguments.image_size,
            white_level=arguments.white_level,
            overwrite=arguments.overwrite,
            progress=progress,
        )
    code = options.complain(outcome.failed)
    if not arguments.quiet:
        measured = outcome.document["measured"]
        if measured:
            precision = measured["mean_average_precision"]
            console.say(f"mean average precision {precision:.4f}")
        console.say(f"Open {outcome.folder / retrieve.PAGE}")
    return code
