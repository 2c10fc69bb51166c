"""`unlir methods`."""

import argparse
import inspect
from collections.abc import Callable, Mapping

from unlir_jax.cli import options
from unlir_jax.core import console

SUMMARY = "list explainers and metrics"
EPILOG = """\
examples:
  unlir methods
  unlir methods --json
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    options.json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Describe explainers and metrics by the first line of their documentation."""
    from unlir_jax import metrics, saliency
    from unlir_jax.explanation import explainers
    from unlir_jax.parts import attribution

    explainers.load_plugins()
    described = {
        "explainers": _described(
            {explainers.PARTS: attribution.class_map} | saliency.METHODS
        ),
        "metrics": _described(metrics.FACTORIES),
    }
    if arguments.json:
        return console.print_json(described)
    console.print_table(("explainer", ""), list(described["explainers"].items()))
    print()
    return console.print_table(("metric", ""), list(described["metrics"].items()))


def _described(factories: Mapping[str, Callable[..., object]]) -> dict[str, str]:
    return {
        name: (inspect.getdoc(factory) or "").partition("\n")[0].replace("`", "")
        for name, factory in factories.items()
    }
