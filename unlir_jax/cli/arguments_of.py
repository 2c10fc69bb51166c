"""What the commands take: their arguments, and what each means."""

import argparse
from typing import Any

KEY = "of several in FILE, such as state_dict; default: the averaged ones, if any"
CROP = "of the shorter side that is kept, default: as the weights want it"
INTERPOLATION = "bilinear, bicubic, lanczos, …; default: as the weights want it"


def convert(convert: argparse.ArgumentParser) -> None:
    """Add the arguments of `unlir convert`."""
    convert.add_argument("name", metavar="NAME", help="network, see `unlir models`")
    convert.add_argument(
        "weights", metavar="FILE", help=".pth, .pt, .safetensors, .npz or hf:owner/name"
    )
    convert.add_argument("output", metavar="OUTPUT", help="a .safetensors file")
    convert.add_argument("--weights-key", default="", metavar="KEY", help=KEY)
    convert.add_argument(
        "--num-classes", type=int, metavar="N", help="of the classifier"
    )
    convert.add_argument("--overwrite", action="store_true", help="replace OUTPUT")


def train(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `unlir train`."""
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="perhaps with :name=value,…")
    add("--workdir", metavar="DIR", help="where all of this training is kept")
    add("--dry-run", action="store_true", help="print what would be done, and stop")
    add("--quiet", action="store_true", help="print nothing but complaints")


def evaluate(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `unlir evaluate`."""
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="perhaps with :name=value,…")
    add("--workdir", required=True, metavar="DIR", help="where all of it is kept")
    add("--quiet", action="store_true", help="print nothing but complaints")


def explain(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `unlir explain`."""
    add = parser.add_argument
    add(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="file, folder (with all in it) or pattern",
    )
    add(
        "--model",
        default="efficientnet_lite0",
        metavar="NAME",
        help="see `unlir models`",
    )
    add("--weights", metavar="FILE", help="weights: a file, or hf:owner/name")
    add("--weights-key", default="", metavar="KEY", help=KEY)
    add("--crop", type=float, metavar="SHARE", help=CROP)
    add("--interpolation", metavar="NAME", help=INTERPOLATION)
    add("--layer", metavar="PATH", help="where to look, see `unlir models NAME`")
    add(
        "--method",
        metavar="A,B",
        help="explainers, see `unlir methods` (default: grad_cam,opti_cam; before "
        "them parts, where a network decides by them)",
    )
    add("--label", metavar="CLASS", help="index or name; default: the predicted class")
    add("--against", metavar="CLASS", help="of parts: why the class, and not this one")
    add("--output", default="explanations", metavar="DIR", help="default: explanations")
    add("--overwrite", action="store_true", help="replace a previous report in DIR")
    add("--batch-size", type=int, default=8, metavar="N", help="default: 8")
    add("--seed", type=int, default=0, metavar="N", help="of random maps, default: 0")
    add("--steps", type=int, metavar="N", help="of Opti-CAM, default: 100")
    add("--no-controls", action="store_true", help="leave out the maps to compare with")
    white_level(parser)
    add("--quiet", action="store_true", help="print nothing but complaints")


def white_level(parser: argparse.ArgumentParser) -> None:
    """Add what tells the brightness of pictures of more than 8 bits."""
    parser.add_argument(
        "--white-level",
        default="auto",
        metavar="N",
        help="white in pictures of 16 or 32 bits; maximum: of each its own",
    )


def parts(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `unlir parts`."""
    add = parser.add_argument
    add("--workdir", required=True, metavar="DIR", help="of a finished training")
    add("--output", default="parts", metavar="DIR", help="default: parts")
    add("--overwrite", action="store_true", help="replace a previous gallery in DIR")
    add("--classes", metavar="A,B", help="categories to show, default: all")
    add("--contrast", metavar="A,B", help="say why A and not B")
    add("--json", action="store_true", help="print JSON")
    add("--quiet", action="store_true", help="print nothing but complaints")


def retrieve(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `unlir retrieve`."""
    add = parser.add_argument
    add("queries", nargs="+", metavar="IMAGE", help="file, folder or pattern")
    add("--index", required=True, metavar="DIR", help="pictures to search")
    add("--model", default="efficientnet_lite0", metavar="NAME", help="or a workdir")
    add("--weights", metavar="FILE", help="weights: a file, or hf:owner/name")
    add("--weights-key", default="", metavar="KEY", help=KEY)
    add("--crop", type=float, metavar="SHARE", help=CROP)
    add("--interpolation", metavar="NAME", help=INTERPOLATION)
    add("--pool", default="gem", metavar="NAME", help="average, max, gem or rmac")
    add("--whiten", type=int, default=0, metavar="N", help="directions, default: none")
    add("--adapter", metavar="FILE", help="weights of filters that were learnt for it")
    add("--image-size", type=int, metavar="N", help="default: the adapter's, if any")
    add("--top", type=int, default=10, metavar="N", help="default: 10")
    white_level(parser)
    add("--output", default="retrieval", metavar="DIR", help="default: retrieval")
    add("--overwrite", action="store_true", help="replace a previous search in DIR")
    add("--quiet", action="store_true", help="print nothing but complaints")


def models(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `unlir models`."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="list its layers")
    parser.add_argument("--json", action="store_true", help="print JSON")


def methods(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `unlir methods`."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def adapters(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `unlir adapters`."""
    ways = parser.add_subparsers(dest="way", metavar="WAY", required=True)
    apply = ways.add_parser("apply", help="write a network with an adapter folded in")
    apply.add_argument("name", metavar="NAME", help="network, see `unlir models`")
    apply.add_argument("adapter", metavar="ADAPTER", help="a .safetensors file")
    apply.add_argument("output", metavar="OUTPUT", help="a .safetensors file")
    apply.add_argument("--weights", metavar="FILE", help="of the frozen network")
    apply.add_argument("--weights-key", default="", metavar="KEY", help=KEY)
    merge = ways.add_parser("merge", help="average adapters of one network")
    merge.add_argument("adapters", nargs="+", metavar="ADAPTER")
    merge.add_argument("--output", required=True, metavar="FILE")
    for writing in (apply, merge):
        writing.add_argument("--overwrite", action="store_true", help="replace it")
    diff = ways.add_parser("diff", help="list where two adapters differ")
    diff.add_argument("first", metavar="ADAPTER")
    diff.add_argument("second", metavar="ADAPTER")
    diff.add_argument("--layers", type=int, default=0, metavar="N", help="default: all")
    explain = ways.add_parser("explain", help="show which filters an adapter uses")
    add = explain.add_argument
    add("adapter", metavar="ADAPTER", help="a .safetensors file")
    add("--images", nargs="+", required=True, metavar="IMAGE", help="files, folders")
    add("--output", default="filters", metavar="DIR", help="default: filters")
    add("--weights", metavar="FILE", help="of the frozen network")
    add("--weights-key", default="", metavar="KEY", help=KEY)
    add("--filters", type=int, default=8, metavar="N", help="of each kind, default: 8")
    white_level(explain)
    add("--overwrite", action="store_true", help="replace a previous report in DIR")


def weights(arguments: argparse.Namespace) -> dict[str, Any]:
    """Give the arguments that say which weights, and how pictures reach them."""
    names = "weights", "weights_key", "crop", "interpolation"
    return {name: getattr(arguments, name) for name in names}


ADD = {
    "adapters": adapters,
    "train": train,
    "evaluate": evaluate,
    "explain": explain,
    "parts": parts,
    "retrieve": retrieve,
    "models": models,
    "methods": methods,
    "convert": convert,
}
"""By command."""
