"""Configs of studies on transformers and embeddings, run on tiny networks."""

import json
import sys
import types

import numpy as np
import pytest
import small_transformer
import small_transformers as small
from PIL import Image

import unlir_jax
from unlir_jax.evaluation import evaluate
from unlir_jax.models import backbone
from unlir_jax.runtime import config, programs
from unlir_jax.split import scores

NAME, CLASSES, COUNT, DIMENSIONS = "vit_small_patch8_32", 3, 4, 5
LEAST = {"batch_size": 4, "devices": 1, "gallery": 0, "statistics.resamples": 50}


@pytest.fixture
def boxed(tmp_path):
    """Write pictures of three classes, with a table of their boxes."""
    folder, random = tmp_path / "boxed", np.random.default_rng(0)
    folder.mkdir()
    lines = ["path,class,x0,y0,x1,y1"]
    for index in range(COUNT):
        pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((40, 40)).save(folder / f"{index}.png")
        lines.append(f"{index}.png,{index % CLASSES},5,5,30,35")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def vit(tmp_path, monkeypatch):
    """Register a small transformer, and write its weights."""
    monkeypatch.setattr(programs, "keep", lambda: None)
    small.register(NAME)
    np.savez(tmp_path / "weights.npz", **small.state("timm_plain"))
    yield tmp_path / "weights.npz"
    del backbone.NETWORKS[NAME]


def run(name, folder, workdir, **changed):
    given = LEAST | {"data.path": folder} | changed
    overrides = [f"--config.{setting}={value}" for setting, value in given.items()]
    return evaluate.run(config.load(f"configs/{name}", overrides), workdir).summary


# A method of each kind: all of them would be compiled.
@pytest.mark.parametrize(
    ("table", "metrics"),
    [
        ("opti_cam_table2.py", ["average_drop", "average_gain", "average_increase"]),
        ("opti_cam_table_a8.py", ["localization_error", "f1", "pointing_game"]),
    ],
)
def test_tables_of_transformers(vit, boxed, tmp_path, table, metrics):
    methods = "raw_attention+attention_rollout"
    what = f"{table}:model={NAME},methods={methods},metrics={'+'.join(metrics)}"
    given = {"model.weights": vit, "controls": False}
    found = run(what, boxed, tmp_path / "run", **given)
    assert found["about"]["methods"] == methods.split("+")
    for method in methods.split("+"):
        for metric in metrics:
            assert found[f"{method}/{metric}"]["n"] == COUNT
    if "a8" in table:
        settings = {m: found["contract"][m]["settings"] for m in metrics}
        assert settings["f1"] == {"scaling": "range"}
        assert settings["pointing_game"]["tolerance"] == 0


@pytest.mark.exhaustive
def test_all_methods_of_a_transformer_in_one_run(vit, boxed, tmp_path):
    given = {"model.weights": vit, "metric_options.insertion.steps": 2}
    given |= {"method_options.opti_cam.steps": 2, "method_options.lime.samples": 4}
    what = f"opti_cam_table2.py:model={NAME},metrics=average_drop+insertion"
    found = run(what, boxed, tmp_path / "run", **given)
    assert len(found["about"]["methods"]) == 12
    assert json.loads((tmp_path / "run" / evaluate.SUMMARY).read_text())


def embedding():
    """Wrap a transformer whose output is an embedding, of no classes."""
    module, model = small_transformer.network(DIMENSIONS)
    variables = small_transformer.variables(module)
    return unlir_jax.wrap(model, variables, image_size=16)


@pytest.mark.exhaustive
def test_a_backbone_without_classes_is_scored_by_similarity(
    boxed, tmp_path, monkeypatch
):
    means = np.random.default_rng(1).normal(size=(CLASSES, DIMENSIONS))
    mine = types.ModuleType("references_of_classes")
    mine.alike, mine.embedding = scores.similarity(means), embedding
    monkeypatch.setitem(sys.modules, mine.__name__, mine)
    given = {"score": f"{mine.__name__}:alike", "controls": False}
    given |= {"classes": "label+predicted+least"}
    what = "self_supervised_backbones.py:methods=layer_cam,metrics=average_drop+"
    what += f"energy_pointing_game,model={mine.__name__}:embedding"
    folder = tmp_path / "run"
    found = run(what, boxed, folder, **given)
    assert found["about"]["score"] == given["score"]
    assert found["layer_cam/energy_pointing_game"]["n"] == COUNT
    # The classes are the references: the most and the least similar one.
    lines = (folder / evaluate.store.COMMA).read_text().splitlines()[1:]
    labels = {
        explained: [
            int(line.split(",")[3])
            for line in lines
            if line.startswith(explained) and ",average_drop," in line
        ]
        for explained in ("label", "predicted", "least")
    }
    assert labels["label"] == [index % CLASSES for index in range(COUNT)]
    assert max(labels["predicted"]) < CLASSES
    pairs = zip(labels["predicted"], labels["least"], strict=True)
    assert all(one != other for one, other in pairs)
