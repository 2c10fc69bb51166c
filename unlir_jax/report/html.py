"""Pages of one file: templates in which every text is escaped, and images in them."""

import base64
import functools
import hashlib
import importlib.resources
import io
from typing import Any, NamedTuple

from PIL import Image

from unlir_jax.core import extras
from unlir_jax.report import words

with extras.needed("report"):
    import jinja2
    from markupsafe import Markup

QUALITY = 86
"""Of WebP: no loss that an eye finds, at a tenth of PNG's size."""


def render(template: str, **values: Any) -> Markup:
    """Fill a template of `templates/`; what is markup already is not escaped again."""
    return Markup(_environment().get_template(template).render(values))


def image(picture: Image.Image, text: str) -> Markup:
    """Write an image into the page; `text` says what is to be seen."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    tag = '<img src="data:image/webp;base64,{}" width="{}" height="{}" alt="{}">'
    return Markup(tag).format(data, picture.width, picture.height, text)


def coded(text: str) -> Markup:
    """Write a text whose code stands between backticks."""
    pieces = enumerate(text.split("`"))
    return Markup().join(
        Markup("<code>{}</code>").format(piece) if place % 2 else piece
        for place, piece in pieces
    )


class Script(NamedTuple):
    """Hold a script of a page, and the hash by which its browser knows it."""

    text: Markup
    hash: str


@functools.cache
def script(name: str) -> Script:
    """Read a script of `templates/`, which no text of a user ever enters."""
    file = importlib.resources.files("unlir_jax.report") / "templates" / name
    text = file.read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest())
    return Script(Markup(text), f"sha256-{digest.decode('ascii')}")


def made(created: str) -> str:
    """Print the time at which a report was made."""
    return created.replace("T", " ").replace("+00:00", " UTC")


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("unlir_jax.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"words": words, "image": image, "made": made}
    environment.filters["coded"] = coded
    return environment
