"""The benchmark that prunes what was learnt from few pictures, on a toy."""

import importlib.util
import json
import sys
from pathlib import Path

import few_colours
import numpy as np
from PIL import Image

from unlir_jax import pruning
from unlir_jax.few_shot import adapt
from unlir_jax.models import pretrained

FILE = Path(__file__).parents[1] / "benchmarks" / "pruning_task.py"


def test_it_prunes_the_network_of_a_workdir(tmp_path, monkeypatch, capsys):
    data, work = few_colours.write(tmp_path / "colours"), tmp_path / "run"
    settings = few_colours.settings(
        data, "k=2,method=filters_single", draws=1, flips=False
    )
    accuracy = adapt.run(settings, work).summary["test/accuracy"]
    monkeypatch.syspath_prepend(FILE.parent)
    specification = importlib.util.spec_from_file_location("pruning_task", FILE)
    benchmark = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(benchmark)
    words = f"pruning_task {work} --shares 0.3 --steps 1 --keep-at-least 2"
    figure = tmp_path / "curves.png"
    words += f" --batch 2 --rounds 1 --on both --json --figure {figure}"
    monkeypatch.setattr(sys, "argv", words.split())
    benchmark.main()
    out = capsys.readouterr().out
    document = json.loads(out[out.index("{") :])
    assert np.asarray(Image.open(figure)).std() > 5
    # Of fifteen pictures to learn from six were drawn.
    assert document["pictures"] == {"held_out": 9, "test": 12}
    whole = pretrained.load("cifar_resnet8", "random").module
    channels = sum(pruning.graph(whole).channels.values())
    rows = document["rows"]
    assert [row["share"] for row in rows] == [0, 0.3]
    # As the run itself found, from the same view of each picture.
    assert rows[0]["accuracy"]["test"] == accuracy
    assert rows[0]["million_multiply_adds"] == pruning.flops(whole, 32) / 1e6
    costs = [row["multiply_adds_ratio"] for row in rows]
    assert costs[0] == 1 > costs[1]
    for row in rows:
        assert sum(row["widths"]) == round((1 - row["share"]) * channels)
        assert row["milliseconds_per_image"] > 0
