"""Options that several commands have."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from unlir_jax.core import console
from unlir_jax.core.document_types import Document

NETWORK = "network, see `unlir models`"
FILE = "a .safetensors file"
PROGRESS = ("auto", "bar", "lines", "none")


def config(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the file of settings; `overrides` lists the `--config.NAME=VALUE`."""
    help = "perhaps with :name=value,…" + (f" (default: {default})" if default else "")
    needed = default is None
    add = parser.add_argument
    add("--config", required=needed, default=default, metavar="FILE", help=help)
    parser.set_defaults(overrides=())


def weights(parser: argparse.ArgumentParser, help: str) -> None:
    """Add what tells which weights a network has."""
    parser.add_argument("--weights", metavar="FILE", help=help)
    weights_key(parser)


def weights_key(parser: argparse.ArgumentParser) -> None:
    """Add what tells which of several sets of weights in a file is meant."""
    help = "of several in FILE, such as state_dict; default: the averaged ones, if any"
    parser.add_argument("--weights-key", default="", metavar="KEY", help=help)


def preparation(parser: argparse.ArgumentParser) -> None:
    """Add which weights, and how images reach them."""
    weights(parser, "weights: a file, or hf:owner/name")
    add = parser.add_argument
    crop = "of the shorter side that is kept, default: as the weights want it"
    add("--crop", type=float, metavar="SHARE", help=crop)
    modes = "bilinear, bicubic, lanczos, …; default: as the weights want it"
    add("--interpolation", metavar="NAME", help=modes)


def texts(parser: argparse.ArgumentParser) -> None:
    """Add by which texts a network that embeds images chooses."""
    help = "of CLIP or SigLIP: embeddings of texts, which are the classes, and names"
    parser.add_argument("--texts", metavar="FILE", help=help)


def prepared(arguments: argparse.Namespace) -> dict[str, Any]:
    """Give what `preparation` asked for."""
    names = "weights", "weights_key", "crop", "interpolation"
    return {name: getattr(arguments, name) for name in names}


def score(parser: argparse.ArgumentParser) -> None:
    """Add what is explained and measured."""
    help = (
        "what is explained and measured: softmax, sigmoid, logit, region, …, or "
        "package.module:function of logits and labels; default: each method's own, "
        "and the softmax"
    )
    parser.add_argument("--score", metavar="NAME", help=help)


def white_level(
    parser: argparse.ArgumentParser, default: str | None = "auto", of: str = ""
) -> None:
    """Add what tells the brightness of images of more than 8 bits."""
    parser.add_argument(
        "--white-level",
        default=default,
        metavar="N",
        help=f"white in images of 16 or 32 bits; maximum: of each its own{of}",
    )


def json(parser: argparse.ArgumentParser) -> None:
    """Add that what is printed is for programs."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def quiet(parser: argparse.ArgumentParser) -> None:
    """Add how, and whether, it is told what is done."""
    add = parser.add_argument
    help = "print nothing but complaints"
    add("--quiet", action="store_true", help=help)
    help = "auto: a bar in a terminal; lines: one a stage, with the time, on stderr"
    add("--progress", choices=PROGRESS, default="auto", help=help)


def asked(arguments: argparse.Namespace) -> Document:
    """Give all that a command was asked, but for how much it shall say."""
    plain = str, bool, int, float, list, tuple, type(None)
    return {
        name: value
        for name, value in vars(arguments).items()
        if isinstance(value, plain) and name not in ("quiet", "progress")
    }


def listed(text: str | None) -> list[str] | None:
    """Split what is listed with commas; None stays None."""
    if text is None:
        return None
    return [name.strip() for name in text.split(",") if name.strip()]


def in_order(text: str | None) -> list[str]:
    """Split what is given for each network, in their order; "" is a default.

    A path that is there may have commas in its name.
    """
    if not text:
        return []
    if os.path.exists(text):
        return [text]
    return [each.strip() for each in text.split(",")]


def progress(
    arguments: argparse.Namespace, quiet: bool = False
) -> AbstractContextManager[console.Progress]:
    """Show how far the work is, as `quiet` has added it.

    Args:
        arguments: Arguments of the command.
        quiet: Whether something else asks for silence.

    Raises:
        ValueError: Both silence and progress are asked for.
    """
    how = drawn(arguments, quiet)
    if how == "lines":
        return console.lines()
    if how == "bar":
        forced = getattr(arguments, "progress", "auto") == "bar"
        return console.progress(force=forced)
    return console.silence()


def drawn(arguments: argparse.Namespace, quiet: bool = False) -> str:
    """Tell how progress is shown: by a bar, by lines, or by none.

    Raises:
        ValueError: Both silence and progress are asked for.
    """
    asked = getattr(arguments, "progress", "auto")
    if getattr(arguments, "quiet", False) and asked in ("bar", "lines"):
        raise ValueError(
            f"`--progress {asked}` shows what `--quiet` hides; expected one of them."
        )
    if asked != "auto":
        return asked
    silent = quiet or getattr(arguments, "quiet", False)
    return "bar" if sys.stderr.isatty() and not silent else "none"


def complain(failed: Sequence[Document]) -> int:
    """Say which images could not be read; give the exit code."""
    for failure in failed:
        console.complain(failure["error"])
    return console.SOME_FAILED if failed else console.DONE
