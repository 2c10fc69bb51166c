"""`unlir convert`."""

import argparse

from unlir_jax.cli import options
from unlir_jax.core import console

SUMMARY = "write weights in our layout"
EPILOG = """\
examples:
  unlir convert mobilenet_v2 mobilenet_v2-b0353104.pth mobilenet_v2.safetensors
  unlir convert resnet50 hf:timm/resnet50.a1_in1k resnet50.safetensors
  unlir convert cifar_resnet20 mine.pth mine.safetensors --num-classes 100

The file holds our names and axes; give it to --weights, or to unlir_jax.load.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("name", metavar="NAME", help=options.NETWORK)
    files = ".pth, .pt, .safetensors, .npz or hf:owner/name"
    add("weights", metavar="FILE", help=files)
    add("output", metavar="OUTPUT", help=options.FILE)
    options.weights_key(parser)
    add("--num-classes", type=int, metavar="N", help="of the classifier")
    add("--overwrite", action="store_true", help="replace OUTPUT")


def run(arguments: argparse.Namespace) -> int:
    """Write the weights of a network in our names and axes."""
    from unlir_jax.models import conversion

    written = conversion.convert(
        arguments.name,
        arguments.weights,
        arguments.output,
        num_classes=arguments.num_classes,
        weights_key=arguments.weights_key,
        overwrite=arguments.overwrite,
    )
    console.say(
        f"Wrote {written.network}, {written.arrays} arrays of "
        f"{written.numbers / 1e6:.1f} million numbers, to {arguments.output} "
        f"(SHA-256 {written.sha256[:12]}…)"
    )
    return console.DONE
