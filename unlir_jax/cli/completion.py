"""`unlir completion`."""

import argparse

from unlir_jax.core import console

SHELLS = ("bash", "zsh", "fish")
SUMMARY = "print a script that completes commands"
EPILOG = """\
examples:
  unlir completion bash > ~/.unlir.bash        and `source` it in ~/.bashrc
  unlir completion zsh > ~/.unlir.zsh          and `source` it in ~/.zshrc
  unlir completion fish > ~/.config/fish/completions/unlir.fish

The Tab key then completes commands, options, and names of methods, metrics, networks
and configs. The script holds all names: print it anew after an update.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "shell", choices=SHELLS, metavar="SHELL", help="bash, zsh, fish"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the script of a shell."""
    from unlir_jax.cli import completion_scripts, program

    commands = completion_scripts.commands(program.parser_of_all()[0])
    print(completion_scripts.script(arguments.shell, commands))
    return console.DONE
