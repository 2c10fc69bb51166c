"""Draw the maps of a family of explainers for one image.

    python docs/figures/draw.py cam cat.png docs/figures/cam.png

Every method has its defaults, on EfficientNet-Lite0 and its predicted class. Maps are
scaled by their range and laid over the image, as in reports. Gradients are drawn alone,
by magnitude up to the 99th percentile, and relevance by composites, blue below zero.
"""

import argparse
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

import unlir_jax
from unlir_jax import maps, saliency, split
from unlir_jax.report import overlay, words

# Too slow for a figure, and alike Score-CAM; or for networks that attend, of which no
# package brings the weights of a classifier; or one method of many rules.
ATTENTION = [n for n, spec in saliency.SPECS.items() if spec.family == "attention"]
RELEVANCE = [n for n, spec in saliency.SPECS.items() if spec.family == "relevance"]
LEFT_OUT = ("ss_cam", "is_cam", *ATTENTION, *RELEVANCE)
FAMILIES: dict[str, list[str]] = {}
for _name, _spec in saliency.SPECS.items():
    if _name not in LEFT_OUT:
        FAMILIES.setdefault(_spec.family, []).append(_name)
COLUMNS = {"cam": 6, "gradients": 6, "perturbation": 7, "controls": 5, "relevance": 5}
RULES = {
    name.replace("_", " "): functools.partial(saliency.lrp, composite=name)
    for name in ("epsilon", "epsilon_plus", "epsilon_gamma")
} | {"excitation": saliency.excitation_backpropagation}
"""Relevance by composites: it is one method of many rules."""
TILE, TITLE, GAP = 150, 20, 6
FONT = font_manager.findfont("DejaVu Sans")
COLOURS = 128
"""Of the file, which is half as large as with all."""


def tiles(family: str, picture: Path) -> list[tuple[str, Image.Image]]:
    """Explain the image by each method; the image itself comes first."""
    network = unlir_jax.load("efficientnet_lite0")
    pixels = np.asarray(network.preprocess(str(picture)))
    images = jnp.asarray(pixels)[None]
    logits = split.whole(network.model)(network.variables, images)
    labels = logits.argmax(1).astype(jnp.int32)
    shown = Image.fromarray(np.rint(255 * pixels).astype(np.uint8))
    found = [(network.class_names[int(labels[0])], shown)]
    for name in RULES if family == "relevance" else FAMILIES[family]:
        explain = (RULES if name in RULES else saliency.METHODS)[name](network.model)
        raw = explain(network.variables, images, labels, key=jax.random.key(0))
        if family == "gradients":
            drawn = alone(raw)
        else:
            drawn = (about_zero if name in RULES else over)(raw, shown)
        title = name if name in RULES else words.method_title(name)
        found.append((title, drawn))
        print(name, flush=True)
    return found


def over(raw: jax.Array, picture: Image.Image) -> Image.Image:
    """Lay a map over the image."""
    enlarged = maps.resize(raw, picture.size[::-1])
    return overlay.overlay(picture, maps.normalize(enlarged, "range")[0])


def alone(raw: jax.Array) -> Image.Image:
    """Draw the magnitudes of a map: a few pixels far above all others hide the rest."""
    size = np.abs(np.asarray(raw[0]))
    values = np.clip(size / max(np.percentile(size, 99), 1e-30), 0, 1)
    return Image.fromarray(np.rint(255 * overlay.colours(values)).astype(np.uint8))


def about_zero(raw: jax.Array, picture: Image.Image) -> Image.Image:
    """Draw a map with a sign over the image, as reports do."""
    values = overlay.signed_values(raw, picture.size[::-1])[0]
    return overlay.overlay(picture, values, signed=True)


def grid(panels: list[tuple[str, Image.Image]], columns: int) -> Image.Image:
    """Put panels side by side, with their titles above."""
    rows = -(-len(panels) // columns)
    across, down = TILE + GAP, TILE + TITLE + GAP
    page = Image.new("RGB", (columns * across - GAP, rows * down - GAP), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.truetype(FONT, 10)
    for index, (title, panel) in enumerate(panels):
        left, top = index % columns * across, index // columns * down
        pen.text((left, top + 3), title, "black", font)
        small = panel.resize((TILE, TILE), Image.Resampling.LANCZOS)
        page.paste(small, (left, top + TITLE))
    return page.quantize(COLOURS, dither=Image.Dither.NONE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=[*FAMILIES, "relevance"])
    parser.add_argument("picture", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    page = grid(tiles(given.family, given.picture), COLUMNS[given.family])
    page.save(given.output, optimize=True)
