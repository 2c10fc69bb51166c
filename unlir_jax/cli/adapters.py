"""`unlir adapters apply | merge | diff | explain`."""

import argparse

from unlir_jax.cli import options
from unlir_jax.core import console

SUMMARY = "apply, merge, compare or explain adapters"
EPILOG = """\
examples:
  unlir adapters apply mobilenet_v2 birds.safetensors adapted.safetensors
  unlir adapters merge one.safetensors other.safetensors --output both.safetensors
  unlir adapters diff one.safetensors other.safetensors --layers 10
  unlir adapters explain birds.safetensors --images birds/test --output filters

An adapter holds one number for each filter of a frozen network, and its head.
`configs/few_shot.py:method=filters` leaves some in WORKDIR/adapters. `explain` writes
filters.html: weights by layer, what the filters that gained and lost most respond to,
and where the network looks before and after.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    ways = parser.add_subparsers(metavar="WAY", required=True)
    apply = ways.add_parser("apply", help="write a network with an adapter folded in")
    apply.add_argument("name", metavar="NAME", help=options.NETWORK)
    apply.add_argument("adapter", metavar="ADAPTER", help=options.FILE)
    apply.add_argument("output", metavar="OUTPUT", help=options.FILE)
    options.weights(apply, "of the frozen network")
    apply.set_defaults(way=_apply)
    merge = ways.add_parser("merge", help="average adapters of one network")
    merge.add_argument("adapters", nargs="+", metavar="ADAPTER")
    merge.add_argument("--output", required=True, metavar="FILE")
    merge.set_defaults(way=_merge)
    for writing in (apply, merge):
        writing.add_argument("--overwrite", action="store_true", help="replace it")
    diff = ways.add_parser("diff", help="list where two adapters differ")
    diff.add_argument("first", metavar="ADAPTER")
    diff.add_argument("second", metavar="ADAPTER")
    diff.add_argument("--layers", type=int, default=0, metavar="N", help="default: all")
    options.json(diff)
    diff.set_defaults(way=_diff)
    explain = ways.add_parser("explain", help="show which filters an adapter uses")
    add = explain.add_argument
    add("adapter", metavar="ADAPTER", help=options.FILE)
    add("--images", nargs="+", required=True, metavar="IMAGE", help="files, folders")
    add("--output", default="filters", metavar="DIR", help="default: filters")
    options.weights(explain, "of the frozen network")
    add("--filters", type=int, default=8, metavar="N", help="of each kind, default: 8")
    options.white_level(explain)
    add("--overwrite", action="store_true", help="replace a previous report in DIR")
    explain.set_defaults(way=_explain)


def run(arguments: argparse.Namespace) -> int:
    """Do with adapters what was asked for."""
    return arguments.way(arguments)


def _apply(arguments: argparse.Namespace) -> int:
    """Write a network with an adapter folded in, in our layout."""
    import jax
    import numpy as np

    from unlir_jax import adapters, tree
    from unlir_jax.adapters import file
    from unlir_jax.models import pretrained
    from unlir_jax.weights import exported, readers

    output = file.output(arguments.output, arguments.overwrite)
    adapter = adapters.load(arguments.adapter)
    frozen = pretrained.load(
        arguments.name,
        arguments.weights,
        weights_key=arguments.weights_key,
        trunk_only=True,
    )
    network = adapters.apply(adapter, frozen)
    metadata = exported.metadata(pretrained.purpose(network)) | {
        "adapter": readers.sha256(arguments.adapter),
        "source": pretrained.provenance(network)["source"],
    }
    leaves = tree.flatten(jax.tree.map(np.asarray, network.variables))
    readers.write_safetensors(output, leaves, metadata, overwrite=arguments.overwrite)
    decides = adapters.decides(adapter, frozen)
    head = "its head" if decides else "the network's own classifier"
    count = tree.count(adapter.weights)
    console.say(f"Wrote {network.name} with {count:,} weights folded in and {head}.")
    return console.DONE


def _merge(arguments: argparse.Namespace) -> int:
    """Write the average of several adapters."""
    from unlir_jax import adapters
    from unlir_jax.adapters import file

    overwrite = arguments.overwrite
    output = file.output(arguments.output, overwrite)
    merged = adapters.merge([adapters.load(path) for path in arguments.adapters])
    adapters.save(output, **merged._asdict(), head_type="int8", overwrite=overwrite)
    head = "with their heads" if merged.head else "without heads"
    console.say(
        f"Wrote the average of {len(arguments.adapters)} adapters of "
        f"{merged.backbone}, {head}."
    )
    return console.DONE


def _diff(arguments: argparse.Namespace) -> int:
    """Tabulate how far two adapters differ, the layer that differs most in front."""
    from unlir_jax import adapters

    first, second = adapters.load(arguments.first), adapters.load(arguments.second)
    found = adapters.diff(first, second)[: arguments.layers or None]
    if arguments.json:
        keys = ("filter", "first", "second")
        return console.print_json(
            [
                row._asdict()
                | {"most": [dict(zip(keys, each, strict=True)) for each in row.most]}
                for row in found
            ]
        )
    rows = [
        (
            row.layer,
            str(row.filters),
            f"{row.distance:.4f}",
            f"{row.correlation:.3f}",
            "  ".join(f"{i} {one:.3f} {other:.3f}" for i, one, other in row.most),
        )
        for row in found
    ]
    head = ("layer", "weights", "distance", "correlation", "most: filter first second")
    return console.print_table(head, rows, right=(1, 2, 3))


def _explain(arguments: argparse.Namespace) -> int:
    """Show which filters an adapter uses."""
    from unlir_jax.filter_report import describe_filters

    with options.progress(arguments) as progress:
        outcome = describe_filters.run(
            arguments.adapter,
            arguments.images,
            arguments.output,
            weights=arguments.weights,
            weights_key=arguments.weights_key,
            count=arguments.filters,
            overwrite=arguments.overwrite,
            white_level=arguments.white_level,
            progress=progress,
        )
    code = options.complain(outcome.failed)
    page = outcome.folder / describe_filters.PAGE
    console.say(f"Explained {arguments.adapter}: open {page}")
    return code
