"""The report of `unlir explain` with several networks or layers, photo by photo."""

import json
from collections.abc import Mapping, Sequence

from unlir_jax.core.document_types import Document, Record
from unlir_jax.report import explanation_page, html, words


def page(document: Document, pieces: Sequence[Mapping[str, html.Markup]]) -> str:
    """Put the page together: for each photo a row for each network or layer.

    Args:
        document: All that `results.json` says, with a list `runs`.
        pieces: By run, `explanation_page.article` of each image by its name.

    Returns:
        HTML that loads nothing from elsewhere, see `explanation_page.page`.
    """
    runs: Sequence[Document] = document["runs"]
    models = list(dict.fromkeys(run["model"] for run in runs))
    photos = _photos(runs, pieces)
    every = [run["settings"] for run in runs]
    return html.render(
        "networks.html",
        title=f"What {words.enumerate_names(models)} looked at",
        document=document,
        what="networks" if len(models) > 1 else "layers",
        networks=[_network(run) for run in runs],
        facts=explanation_page.made(document),
        photos=photos,
        **explanation_page.about(
            document,
            _once(each["methods"] for each in every),
            _once(each["controls"] for each in every),
            len(photos),
        ),
        all_settings=json.dumps(
            {run["name"]: _settings(run) for run in runs}
            | {"versions": document["versions"]},
            indent=2,
            ensure_ascii=False,
        ),
    )


def _once(lists) -> list[str]:
    return list(dict.fromkeys(name for names in lists for name in names))


def _settings(run: Document) -> Record:
    return run["settings"] | {"weights": run["weights"]}


def _network(run: Document) -> Record:
    """Say of a run what stands at the top, and its means."""
    return {
        "name": run["name"],
        "model": run["model"],
        "layer": run["layer"],
        "side": run["settings"]["image_size"],
        "weights": explanation_page.weights(run["weights"]),
        "mean": run["mean"],
        "methods": run["settings"]["methods"],
        "controls": run["settings"]["controls"],
        "flat": explanation_page.flat(run),
    }


def _photos(
    runs: Sequence[Document], pieces: Sequence[Mapping[str, html.Markup]]
) -> list[Record]:
    """Group what all runs say of a photo, photos in the order of the first run."""
    found: dict[str, Record] = {}
    for run, own in zip(runs, pieces, strict=True):
        for entry, (name, piece) in zip(run["images"], own.items(), strict=True):
            title = explanation_page.base(entry["file"])
            anchor = explanation_page.anchor
            photo = found.setdefault(
                name, {"anchor": anchor(name), "title": title, "rows": []}
            )
            photo["rows"].append(
                {
                    "name": run["name"],
                    "anchor": anchor(f"{name}/{run['name']}"),
                    "label": entry["label"],
                    "first": entry["top5"][0],
                    "piece": piece,
                }
            )
    return list(found.values())
