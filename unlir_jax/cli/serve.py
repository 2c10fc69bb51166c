"""`unlir serve`."""

import argparse
import contextlib
import secrets

from unlir_jax.cli import options
from unlir_jax.core import console

SUMMARY = "explain photos that are dropped on a local page"
EPILOG = """\
examples:
  unlir serve
  unlir serve --model runs/birds,nets:small --open
  unlir serve --model mobilenet_v2 --weights mobilenet_v2-b0353104.pth
  unlir serve --output reports         reports stay there

Prints an address, which holds a secret and works on this machine alone. Photos are
removed once they are explained, and reports at the end. Ctrl+C ends it.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    help = "offered next to networks with weights at hand; module:factory, or a workdir"
    add("--model", metavar="A,B", help=help)
    options.preparation(parser)
    add("--port", type=int, default=0, metavar="N", help="default: one that is free")
    add("--output", metavar="DIR", help="where reports stay")
    add("--open", action="store_true", help="open a browser")
    options.quiet(parser)


def check(arguments: argparse.Namespace) -> None:
    """Refuse what can be refused at once."""
    from unlir_jax.cli import early

    asked = options.listed(arguments.model) or []
    for name in asked:
        early.network(name)
    for option in ("weights", "crop", "interpolation"):
        if getattr(arguments, option) is not None and len(asked) != 1:
            raise ValueError(
                f"`--{option}` belongs to one network, but --model names "
                f"{len(asked)}; expected --model NAME with it."
            )


def run(arguments: argparse.Namespace) -> int:
    """Serve the page until it is interrupted."""
    import webbrowser

    from unlir_jax.explanation import server, wishes

    asked = options.listed(arguments.model) or []
    networks = wishes.networks(asked, options.prepared(arguments))

    def say(address: str) -> None:
        console.say(f"Open {address} (Ctrl+C ends it)")
        if arguments.open:
            webbrowser.open(address)

    token = secrets.token_urlsafe(24)
    settings = {"port": arguments.port, "folder": arguments.output, "say": say}
    # The server may end by itself when it is interrupted.
    with contextlib.suppress(KeyboardInterrupt):
        server.serve(networks, token, **settings)
    if not arguments.quiet:
        console.say("Ended.")
    return console.DONE
