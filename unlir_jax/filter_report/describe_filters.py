"""The job of `unlir adapters explain`: which filters a task uses, on one page."""

import datetime
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from unlir_jax import filters, saliency, split, tree
from unlir_jax.adapters import file
from unlir_jax.adapters import network as networks
from unlir_jax.core.document_types import Document, Record
from unlir_jax.data import image_files as files
from unlir_jax.data import preprocessing
from unlir_jax.features import receptive_field
from unlir_jax.filter_report import inspection
from unlir_jax.models import pretrained
from unlir_jax.report import filter_page, filter_sheet, overlay, part_page, part_sheet
from unlir_jax.storage import files as record
from unlir_jax.storage import paths

PAGE = "filters.html"
PICTURES = ("weights.png", "filters.png", "saliency.png")
CROP, LARGE, ASKED = 128, 448, 8
NOTABLE = 0.05

Progress = Callable[[str, float], None]
Row = tuple[Record, Image.Image, list[Image.Image]]
"""What is said of an image, the image, and its maps before and after."""


class FilterReportOutcome(NamedTuple):
    """Say what was done: where, all that is known, and what could not be read."""

    folder: Path
    document: Record
    failed: list[dict[str, str]]


class _Seen(NamedTuple):
    """Hold images as the network sees them, 8 bit, their files and names in records."""

    files: list[Path]
    names: list[str]
    pixels: np.ndarray

    def images(self, places: np.ndarray | slice) -> jax.Array:
        return jnp.asarray(self.pixels[places], jnp.float32) / 255


class _Task(NamedTuple):
    """Hold an adapter and its frozen network."""

    adapter: file.Adapter
    network: pretrained.Pretrained
    size: int
    crop: float
    interpolation: str
    white_level: int | float | str

    def frame(self, size: int) -> Callable[[Path], Image.Image]:
        return preprocessing.framing(
            size, self.crop, self.interpolation, white_level=self.white_level
        )


def run(
    adapter: str | os.PathLike[str],
    images: Sequence[str],
    output: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    weights_key: str = "",
    count: int = 8,
    best: int = 8,
    shown: int = 6,
    overwrite: bool = False,
    batch_size: int = 16,
    white_level: int | float | str = "auto",
    progress: Progress = lambda doing, share: None,
) -> FilterReportOutcome:
    """Show which filters an adapter uses, and write a page, images and results.

    Writes `filters.html`, the images `weights`, `filters`, `saliency`, and results.

    Args:
        adapter: A file.
        images: Files, folders and patterns.
        output: Folder to write to.
        weights: Weights of the frozen network, see `pretrained.load`.
        weights_key: Key in a checkpoint, see `pretrained.load`.
        count: Number of the most raised and of the most lowered filters.
        best: Regions of each.
        shown: Images whose saliency is shown.
        overwrite: Whether to replace a previous report.
        batch_size: Images that go through the network together.
        white_level: White of images of more than 8 bits, see `data.levels`.
        progress: Told how far the work is.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The adapter is of another network, no image can be read, a
            setting that makes no sense, or an output that may not be written to.
    """
    _check(count=count, best=best, shown=shown, batch_size=batch_size)
    found = files.find_pictures(images, outside=output)
    if not found.files:
        raise ValueError(
            f"No image is {', '.join(map(repr, images))}; expected files or folders."
        )
    record.check_folder(output, {PAGE, *PICTURES}, overwrite=overwrite)
    progress("loading the network", 0.0)
    chosen = file.load(adapter)
    network = pretrained.load(
        chosen.backbone, weights, weights_key=weights_key, trunk_only=True
    )
    file.check(chosen, network.name, network.variables)
    task = _Task(chosen, network, *networks.framed(chosen, network), white_level)
    failed = found.failures()
    seen = _read(found, task, failed)
    entries, crops = _filters(task, seen, count, best, batch_size, progress)
    progress("comparing saliency", 0.85)
    rows, own = _saliency(task, seen, shown)
    document = _document(task, adapter, seen, entries, rows, own, failed)
    progress("writing", 0.95)
    with record.new_folder(output, overwrite=overwrite) as folder:
        _write(folder, task, document, entries, crops, rows, own)
    return FilterReportOutcome(Path(output), document, failed)


def _check(**settings: int) -> None:
    for name, value in settings.items():
        if value < 1:
            raise ValueError(f"`{name}`={value}; expected 1 or more.")


def _read(found: files.Found, task: _Task, failed: list[dict[str, str]]) -> _Seen:
    """Read all images that can be read, at the size of the network."""
    frame = task.frame(task.size)
    kept, names, pixels = [], [], []
    for path, name in found.told().items():
        try:
            pixels.append(np.asarray(frame(path)))
            kept.append(path)
            names.append(record.readable(name))
        except (ValueError, OSError) as error:
            failed.append({"file": name, "error": str(error)})
    if not kept:
        raise ValueError(
            f"No image of {len(found.files)} can be read ({failed[0]['error']}); "
            "expected some."
        )
    return _Seen(kept, names, np.stack(pixels))


def _filters(
    task: _Task,
    seen: _Seen,
    count: int,
    best: int,
    batch_size: int,
    progress: Progress,
) -> tuple[dict[str, list[Record]], list[filter_page.Crops]]:
    """Choose filters and cut out where they fire; raised ones come first."""
    network = task.network
    module, variables = network.module, network.variables
    trunk = inspection.in_trunk(task.adapter.weights, module, task.size)
    raised, lowered = inspection.most(trunk, count)
    chosen = [*raised, *lowered]
    entries: dict[str, list[Record]] = {"raised": [], "lowered": []}
    if not chosen:
        return entries, []

    def batches() -> Iterator[jax.Array]:
        for first in range(0, len(seen.files), batch_size):
            progress("looking", 0.05 + 0.7 * first / len(seen.files))
            yield seen.images(slice(first, first + batch_size))

    spots = inspection.fire(module, variables, chosen, batches(), best)
    progress("finding where cells look", 0.75)
    asked = seen.images(inspection.evenly(len(seen.files), ASKED))
    centres = inspection.centres(module, variables, chosen, asked)
    every = []
    for number, own in enumerate(chosen):
        regions, crops = _regions(task, seen, spots, number, centres[number])
        kind = "raised" if number < len(raised) else "lowered"
        entries[kind].append(own._asdict() | {"regions": regions})
        every.append(crops)
    return entries, every


def _regions(
    task: _Task,
    seen: _Seen,
    spots: inspection.Spots,
    number: int,
    centres: receptive_field.Centres,
) -> tuple[list[Record], filter_page.Crops]:
    """Cut out where one filter responds most, and say where that is."""
    # People see more than the network does, but not other parts of the image.
    large = task.frame(max(LARGE, task.size))
    regions, crops = [], []
    for place, cell, value in zip(
        spots.pictures[number].tolist(),
        spots.cells[number].tolist(),
        spots.values[number].tolist(),
        strict=True,
    ):
        box = inspection.region(centres, cell, spots.grids[number].tolist())
        path = seen.files[place]
        crops.append((path.name, _cut(large(path), box)))
        regions.append(
            {
                "file": seen.names[place],
                "cell": cell,
                "box": [round(edge, 5) for edge in box],
                "value": round(value, 5),
            }
        )
    return regions, crops


def _cut(picture: Image.Image, box: Sequence[float]) -> Image.Image:
    """Cut out a square that is given in shares of the image."""
    far = picture.width
    edges = (box[0] * far, box[1] * far, min(box[2] * far, far), min(box[3] * far, far))
    return picture.resize((CROP, CROP), Image.Resampling.LANCZOS, box=edges)


def _saliency(task: _Task, seen: _Seen, shown: int) -> tuple[list[Row], bool]:
    """Explain some images before and after adapting, by one head."""
    model, names, own = inspection.decision(task.adapter, task.network)
    frozen = task.network.variables
    adapted = filters.apply(frozen, _on_device(task.adapter.weights))
    places = inspection.evenly(len(seen.files), shown)
    images, whole = seen.images(places), split.whole(model)
    shares = {
        when: np.asarray(jax.nn.softmax(whole(variables, images)))
        for when, variables in (("before", frozen), ("after", adapted))
    }
    labels = jnp.asarray(shares["after"].argmax(1), jnp.int32)
    explain = saliency.grad_cam(model)
    masks = [
        overlay.masks(explain(variables, images, labels), (task.size, task.size))
        for variables in (frozen, adapted)
    ]
    rows = []
    for number, place in enumerate(places):
        pair = [mask[number] for mask in masks]
        own_shares = {when: table[number] for when, table in shares.items()}
        entry = {
            "file": Path(seen.names[place]).name,
            "folder": Path(seen.names[place]).parent.name,
            **_classes(int(labels[number]), own_shares, names),
            "correlation": _correlation(*pair),
        }
        picture = Image.fromarray(seen.pixels[place])
        rows.append((entry, picture, [overlay.overlay(picture, m) for m in pair]))
    return rows, own


def _classes(
    label: int, shares: Mapping[str, np.ndarray], names: Sequence[str]
) -> Record:
    """Say what class is explained, and what is said of it before and after."""
    found: Record = {"label": {"index": label, "name": part_page.plain(names[label])}}
    for when, row in shares.items():
        first = int(row.argmax())
        found[when] = {
            "probability": round(float(row[label]), 6),
            "first": {"index": first, "name": part_page.plain(names[first])},
        }
    return found


def _on_device(weights: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Put weights on the device."""
    return {name: jnp.asarray(leaf) for name, leaf in weights.items()}


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Compare two maps; 0 where one is flat."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return round(float(np.corrcoef(one.ravel(), other.ravel())[0, 1]), 5)


def _document(
    task: _Task,
    adapter: str | os.PathLike[str],
    seen: _Seen,
    entries: Document,
    rows: Sequence[Row],
    own: bool,
    failed: list[dict[str, str]],
) -> Record:
    """Gather all that `results.json` says."""
    network, weights = task.network, task.adapter.weights
    every = np.concatenate([leaf.ravel() for leaf in weights.values()])
    ordered = inspection.by_depth(weights, network.module, task.size)
    return {
        "schema": record.SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "adapter": {
            "file": record.readable(Path(adapter).name),
            "select": task.adapter.select,
            "mode": task.adapter.mode,
        },
        "model": network.name,
        "source": {
            "weights": pretrained.provenance(network)["source"],
            "sha256": network.sha256,
        },
        **pretrained.prepared(network, *task[2:5]),
        "white_level": task.white_level,
        "count": tree.count(weights),
        "pictures": len(seen.files),
        "weights": {
            "least": float(every.min()),
            "largest": float(every.max()),
            "raised": float(np.mean(every >= 1 + NOTABLE)),
            "lowered": float(np.mean(every <= 1 - NOTABLE)),
        },
        "layers": [_layer(name, weights[name]) for name in ordered],
        **entries,
        "head": "adapter" if own else "network",
        "saliency": [entry for entry, _, _ in rows],
        "failed": paths.without_folders(failed),
        "versions": record.versions(),
        "files": sorted([PAGE, *PICTURES, record.RESULTS]),
    }


def _layer(name: str, leaf: np.ndarray) -> Record:
    low, middle, high = np.quantile(leaf, (0.25, 0.5, 0.75))
    figures = {
        "least": leaf.min(),
        "lower_quartile": low,
        "median": middle,
        "upper_quartile": high,
        "largest": leaf.max(),
        "deviation": leaf.std(),
    }
    return {"name": name, "filters": leaf.size} | {
        what: round(float(value), 5) for what, value in figures.items()
    }


def _write(
    folder: Path,
    task: _Task,
    document: Record,
    entries: Mapping[str, list[Record]],
    crops: Sequence[filter_page.Crops],
    rows: Sequence[Row],
    own: bool,
) -> None:
    """Write the page and its images."""
    weights = {
        row["name"]: task.adapter.weights[row["name"]] for row in document["layers"]
    }
    drawn = filter_sheet.draw_weights(weights)
    kinds = [kind for kind, some in entries.items() for _ in some]
    pairs = list(zip([*entries["raised"], *entries["lowered"]], crops, strict=True))
    split_at = len(entries["raised"])
    sections = [
        filter_page.layers(drawn),
        filter_page.filters("The most raised", pairs[:split_at]),
        filter_page.filters("The most lowered", pairs[split_at:]),
        filter_page.saliency(rows, own),
    ]
    name = document["adapter"]["file"]
    subtitle = f"{document['model']}  ·  {document['pictures']} images"
    lines = [
        (
            filter_sheet.filter_title(entry),
            [filter_sheet.weight_title(entry), kind],
            [crop for _, crop in own_crops],
        )
        for kind, (entry, own_crops) in zip(kinds, pairs, strict=True)
    ]
    sheets = (
        drawn,
        part_sheet.sheet_of_parts(f"Filters of {name}", subtitle, lines),
        filter_sheet.draw_saliency(f"Grad-CAM with {name}", subtitle, rows),
    )
    for file_name, image in zip(PICTURES, sheets, strict=True):
        record.write_png(folder / file_name, image)
    record.write_text(folder / PAGE, filter_page.page(document, sections))
    record.write_text(folder / record.RESULTS, record.to_json(document))
