"""`unlir explain`."""

import argparse
from typing import TYPE_CHECKING

from unlir_jax.cli import options
from unlir_jax.core import console

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unlir_jax.core.document_types import Record
    from unlir_jax.models.pretrained import Pretrained

MOST_TOLD = 20
"""Images of which the console says whether they are known."""

SUMMARY = "explain images and report"
EPILOG = """\
examples:
  unlir explain cat.jpg
  unlir explain photos/ 'more/*.png' --method grad_cam,opti_cam --output report
  unlir explain cat.jpg --label "tiger cat" --output report --overwrite
  unlir explain cat.jpg --model mobilenet_v2 --weights mobilenet_v2-b0353104.pth
  unlir explain cat.jpg --model mobilenet_v2,efficientnet_lite0 --weights FILE,
  unlir explain cat.jpg --layer block10,block15
  unlir explain cat.jpg --model nets:small   (nets.py is here; small() returns a
                                              network by unlir_jax.wrap)

Writes for each picture an overlay per method and a comparison sheet, and results.json
and report.html for all of them. Open report.html in a browser. For the workdir of a
part network it says which parts decided, where they are and how much each added. For
the workdir of an evaluation of open sets it says which images are of unknown classes.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
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
        help="see `unlir models`; or module:factory, a network of your own; or A,B",
    )
    options.preparation(parser)
    options.texts(parser)
    add(
        "--layer",
        metavar="PATH",
        help="where to look, see `unlir models NAME`; A,B: several of one network, or "
        "one for each",
    )
    add(
        "--method",
        metavar="A,B",
        help="explainers, see `unlir methods` (default: grad_cam,opti_cam; before "
        "them parts, where a network decides by them)",
    )
    add("--label", metavar="CLASS", help="index or name; default: the predicted class")
    add("--against", metavar="CLASS", help="of parts: why the class, and not this one")
    add(
        "--reject",
        metavar="SCORE",
        help="of the workdir of an evaluation of open sets: the score by which images "
        "of unknown classes are refused (default: best, or the first one)",
    )
    add("--output", default="explanations", metavar="DIR", help="default: explanations")
    add("--overwrite", action="store_true", help="replace a previous report in DIR")
    add("--batch-size", type=int, metavar="N", help="default: 1 on a CPU, else 8")
    add("--seed", type=int, default=0, metavar="N", help="of random maps, default: 0")
    add("--steps", type=int, metavar="N", help="passes of methods that have a number")
    add(
        "--set",
        action="append",
        default=[],
        metavar="M.S=VALUE",
        help="setting of a method, such as opti_cam.steps=50; may be repeated",
    )
    options.score(parser)
    add("--no-controls", action="store_true", help="leave out the maps to compare with")
    options.white_level(parser)
    options.quiet(parser)


def check(arguments: argparse.Namespace) -> None:
    """Refuse what can be refused at once."""
    from unlir_jax.cli import early

    early.images(arguments.images)
    early.methods(options.listed(arguments.method))
    early.methods([text.partition(".")[0] for text in arguments.set if "=" in text])
    for name in options.in_order(arguments.model):
        early.network(name)


def run(arguments: argparse.Namespace) -> int:
    """Explain images, and write the report."""
    from unlir_jax.explanation import explain, method_options

    with options.progress(arguments) as progress:
        outcome = explain.run(
            arguments.images,
            arguments.output,
            model=options.in_order(arguments.model),
            weights=options.in_order(arguments.weights),
            weights_key=options.in_order(arguments.weights_key),
            crop=arguments.crop,
            interpolation=arguments.interpolation,
            texts=arguments.texts,
            layer=options.in_order(arguments.layer),
            methods=options.listed(arguments.method),
            label=arguments.label,
            against=arguments.against,
            overwrite=arguments.overwrite,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            steps=arguments.steps,
            options=method_options.parse(arguments.set),
            score=arguments.score,
            controls=not arguments.no_controls,
            white_level=arguments.white_level,
            load=_load(arguments),
            progress=progress,
        )
    code = options.complain(outcome.failed)
    if not arguments.quiet:
        count = len(outcome.explained)
        images = "1 image" if count == 1 else f"{count} images"
        _tell(outcome.verdicts)
        console.say(f"Explained {images}: open {outcome.folder / explain.PAGE}")
    return code


def _load(arguments: argparse.Namespace) -> "Callable[..., Pretrained] | None":
    """Give what loads networks of evaluations of open sets, where one is asked for."""
    from unlir_jax.weights import exported

    models = options.in_order(arguments.model)
    if arguments.reject is None and not any(map(exported.has_rejecter, models)):
        return None
    from unlir_jax.open_set import known_network

    return known_network.loader(arguments.reject)


def _tell(verdicts: "Sequence[tuple[str, Record]]") -> None:
    """Say which images are of known classes."""
    from unlir_jax.report import words

    for file, found in verdicts[:MOST_TOLD]:
        console.say(f"{file}: {words.verdict(found)}")
    if len(verdicts) > MOST_TOLD:
        refused = sum(not found["known"] for _, found in verdicts)
        console.say(f"Of {len(verdicts)} images {refused} are unknown.")
