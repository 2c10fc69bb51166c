"""Settings of the site: `make docs` builds it, and any warning is an error."""

import contextlib
import io

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import unlir_jax

project = "unlir_jax"
author = "The unlir_jax developers"
release = unlir_jax.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "jupyter_execute"]
html_theme = "furo"
html_title = "unlir_jax"

# Docstrings put code in single backticks.
default_role = "code"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 80
napoleon_use_rtype = False
napoleon_use_ivar = True

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# A test executes the notebooks; the site shows their stored outputs.
nb_execution_mode = "off"


class CommandHelp(SphinxDirective):
    """Show what `unlir … --help` prints."""

    optional_arguments = 9

    def run(self) -> list[nodes.Node]:
        from unlir_jax import cli

        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            cli.main([*self.arguments, "--help"])
        return [nodes.literal_block(text=text.getvalue(), language="text")]


def setup(app):
    app.add_directive("command-help", CommandHelp)
