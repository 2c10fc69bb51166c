"""`unlir detect`."""

import argparse

from unlir_jax.cli import options
from unlir_jax.core import console

SUMMARY = "find objects with a detector that learned from classes of images"
EPILOG = """\
examples:
  unlir detect street.jpg --model runs/detector --output found
  unlir detect photos/ --model runs/detector --share 0.3 --most 5 --overwrite

DIR of --model is the workdir of `unlir train --config configs/weak_detection.py`.
Writes a drawing of each image, and results.json with classes, scores and corners in
pixels of the image as it is seen, after EXIF has turned it.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="file, folder or pattern")
    add("--model", required=True, metavar="DIR", help="workdir of a detector")
    help = "of the network, default: the file of the training"
    add("--weights", metavar="FILE", help=help)
    help = "least share of the image's best score, default: 0.5"
    add("--share", type=float, default=0.5, metavar="X", help=help)
    help = "least score, default: 0"
    add("--threshold", type=float, default=0.0, metavar="X", help=help)
    add("--most", type=int, default=20, metavar="N", help="boxes, default: 20")
    help = "largest overlap of two boxes of a class, default: that of the training"
    add("--nms", type=float, metavar="X", help=help)
    options.white_level(parser, None, "; default: that of the training")
    add("--output", default="detections", metavar="DIR", help="default: detections")
    help = "replace previous results in DIR"
    add("--overwrite", action="store_true", help=help)
    options.quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    """Find objects, and draw them."""
    from unlir_jax.weak_detection import find

    with options.progress(arguments) as progress:
        found = find.run(
            arguments.images,
            arguments.model,
            arguments.output,
            weights=arguments.weights,
            share=arguments.share,
            threshold=arguments.threshold,
            most=arguments.most,
            nms=arguments.nms,
            white_level=arguments.white_level,
            overwrite=arguments.overwrite,
            progress=progress,
        )
    code = options.complain(found.failed)
    if not arguments.quiet:
        for entry in found.document["images"]:
            first = entry["objects"][:3]
            said = ", ".join(f"{each['class']} {each['score']:.2f}" for each in first)
            console.say(f"{entry['image']}: {said or 'nothing'}")
        console.say(f"Open {found.folder}")
    return code
