"""Try variants of an adapter on pictures that a draw has left, and on the test.

    python benchmarks/few_shot_variants.py DIR --weights FILE --draw 0 \
        --variant trunk=filters,adapters=mixup,back=0.5 \
        --variant trunk=shifts,adapters=mixup,rate=3e-3 --join 0+1

DIR is that of configs/few_shot.py. A variant names fields of `methods.Method`
(`trunk`, `adapters` joined by /, `back`, `rate`) and of the settings (`steps`, `crops`,
`head_rate`, `after`). To choose by the training pictures that were not drawn leaves the
test for the report. `--join` lets variants vote: their log probabilities are added.
Prints accuracy on both in per cent, and seconds.
"""

import argparse
import time
from typing import Any

import numpy as np

from unlir_jax.few_shot import episodes, fitting, frozen_features, methods, setup
from unlir_jax.runtime import config

NUMBERS = {"back": float, "rate": float, "head_rate": float, "steps": int, "crops": int}
OF_METHOD = ("trunk", "adapters", "back", "rate")


def parse(text: str) -> dict[str, Any]:
    """Read `trunk=shifts,adapters=flips/mixup,rate=3e-3`."""
    fields: dict[str, Any] = {}
    for pair in text.split(","):
        name, _, value = pair.partition("=")
        if name not in (*NUMBERS, "trunk", "adapters", "after") or not value:
            raise SystemExit(f"`--variant` has {pair!r}; expected FIELD=VALUE.")
        fields[name] = NUMBERS.get(name, str)(value)
    fields["adapters"] = tuple(fields.get("adapters", "mixup").split("/"))
    return fields


def prepare(options: argparse.Namespace, fields: dict[str, Any]) -> setup.FewShotSetup:
    """Set up one variant as a method of its own."""
    own = {name: value for name, value in fields.items() if name in OF_METHOD}
    method = methods.Method(**own)
    # Only what is cut from the trunk depends on the name.
    name = "full" if method.trunk == "full" else "filters_single"
    words = [f"--config.data.path={options.data}"]
    words += [f"--config.model.weights={options.weights}"] if options.weights else []
    for setting, value in fields.items():
        if setting not in OF_METHOD:
            path = "model.after" if setting == "after" else setting
            words.append(f"--config.{path}={value}")
    text = f"configs/few_shot.py:k={options.k},method={name}"
    (found,) = setup.prepare(config.load(text, words))
    return found._replace(method=method)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="folder with train/CLASS and test/CLASS")
    parser.add_argument("--weights", help="of MobileNetV2; default: those at hand")
    parser.add_argument("--draw", type=int, default=0)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--variant", action="append", required=True)
    parser.add_argument("--join", action="append", default=[], help="such as 0+1")
    options = parser.parse_args()
    said = []
    for place, text in enumerate(options.variant):
        given = prepare(options, parse(text))
        every = np.asarray(given.data.train.labels)
        chosen, classes = episodes.draw(every, options.k, options.draw, 0)
        rest = np.setdiff1d(np.arange(given.data.train.size), chosen)
        seen = frozen_features.FrozenFeatures(given)
        seen.prepare(chosen, crops=methods.crops(given.method))
        seen.prepare(rest)
        begun = time.perf_counter()
        labels = np.searchsorted(classes, every[chosen])
        fitted = fitting.fit(given, seen, chosen, labels, len(classes), options.draw)
        seconds = time.perf_counter() - begun
        places = np.arange(len(seen.test_labels))
        shown = seen.trained(rest), seen.tested(places)
        said.append([fitted.classify(some) for some in shown])
        targets = every[rest], seen.test_labels
        report(f"{place} {text}", said[-1], targets, f"{seconds:.0f} s")
    for text in options.join:
        voices = [said[int(place)] for place in text.split("+")]
        report(text, [sum(each) for each in zip(*voices, strict=True)], targets)


def report(name: str, scores: Any, targets: Any, more: str = "") -> None:
    """Print how often the largest score is right."""
    rights = [
        100 * np.mean(own.argmax(1) == target)
        for own, target in zip(scores, targets, strict=True)
    ]
    print(f"{name}: {rights[0]:.1f} / {rights[1]:.1f} {more}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
