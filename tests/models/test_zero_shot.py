"""CLIP and SigLIP choose between texts as transformers' own do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_transformers as small
from helpers import refused

import unlir_jax
from unlir_jax import cli, saliency, split
from unlir_jax.models import backbone, factories, pretrained, text_files, vit
from unlir_jax.storage import documents
from unlir_jax.weights import readers

FOLDER = small.FOLDER.parent / "zero_shot"
NAME = "vit_tiny_patch8_clip_32"
NAMES = ("a cat", "a dog", "a horse")
CASES = {"clip": "transformers_clip", "siglip": "transformers_siglip"}


@pytest.fixture
def tower(tmp_path):
    """Load the image half of a model, with or without the terms of its logits."""

    def loaded(kind, *, terms=True, **settings):
        backbone.NETWORKS.pop(NAME, None)
        attributes = small.attributes(CASES[kind])
        backbone.register(NAME, vit.network("tiny", 8, 32, 1.0, **attributes))
        path = tmp_path / f"{kind}.npz"
        np.savez(path, **weights(kind, terms=terms))
        return pretrained.load(NAME, path, **settings)

    yield loaded
    backbone.NETWORKS.pop(NAME, None)


def known(kind):
    with np.load(FOLDER / f"{kind}.npz") as file:
        return {name: file[name] for name in file.files}


def weights(kind, *, terms=True):
    found = known(kind)
    arrays = small.named_weights.state(found["names"], found["shapes"])
    kept = {name: found[name] for name in found if name.startswith("logit_")}
    return arrays | (kept if terms else {})


def images():
    one = small.images()
    return np.concatenate([one, one[:, ::-1]])


@pytest.mark.parametrize("kind", CASES)
def test_logits_are_those_of_transformers(kind, tower):
    found = known(kind)
    network = unlir_jax.zero_shot(tower(kind), found["texts"], NAMES)
    logits = split.whole(network.model)(network.variables, images())
    np.testing.assert_allclose(logits, found["logits"], atol=1e-5, rtol=0)
    assert network.class_names == NAMES and network.module.num_classes == 3
    attention = network.model.attention
    assert attention is not None
    attended = jax.jit(attention.run)(network.variables, images())
    np.testing.assert_allclose(attended.logits, found["logits"], atol=1e-5, rtol=0)


@pytest.mark.exhaustive
def test_every_kind_of_explainer_takes_texts(tower):
    for kind in CASES:
        network = unlir_jax.zero_shot(tower(kind), known(kind)["texts"], NAMES)
        given = network.variables, images(), jnp.asarray([0, 2])
        for method in ("grad_cam", "generic_attention", "legrad", "attn_lrp"):
            maps = saliency.METHODS[method](network.model)(*given)
            assert np.isfinite(maps).all() and np.ptp(maps) > 0, (kind, method)
            assert maps.shape[0] == 2 and maps.shape[1] == maps.shape[2]


def test_scale_and_bias_come_from_whoever_knows_them(tower, tmp_path):
    texts = known("clip")["texts"]
    bare = tower("clip", terms=False)

    def terms(network):
        found = network.variables["texts"]
        return float(found["scale"]), float(found["bias"])

    assert terms(unlir_jax.zero_shot(bare, texts, NAMES)) == (100, 0)
    own = tower("clip")
    assert terms(unlir_jax.zero_shot(own, texts, NAMES)) == pytest.approx(
        (np.exp(1.25), 0)
    )
    both = {"embeddings": texts, "class_names": NAMES, "logit_scale": np.log(7.0)}
    np.savez(tmp_path / "texts.npz", **both)
    found = unlir_jax.zero_shot(own, tmp_path / "texts.npz")
    assert terms(found) == pytest.approx((7, 0))
    assert terms(unlir_jax.zero_shot(own, texts, NAMES, scale=3.0, bias=1.0)) == (3, 1)
    texts = known("siglip")["texts"]
    assert terms(unlir_jax.zero_shot(tower("siglip"), texts, NAMES)) == pytest.approx(
        (np.exp(1.25), -1.5)
    )
    bare = tower("siglip", terms=False)
    wrong = "expected both, as SigLIP"
    refused(wrong, unlir_jax.zero_shot, bare, texts, NAMES)
    refused(wrong, unlir_jax.zero_shot, bare, texts, NAMES, scale=2.0)
    wrong = "`scale`=0.* positive number"
    refused(wrong, unlir_jax.zero_shot, bare, texts, NAMES, scale=0.0, bias=0.0)


def test_bad_texts_are_one_sentence(tower):
    network, texts = tower("clip"), known("clip")["texts"]
    for given, names, wrong in (
        (texts[:, :5], NAMES, r"float64 \[3, 5\]; expected .*\[classes, 16\]"),
        (texts[0], NAMES, r"float64 \[16\]"),
        (np.ones((3, 16), int), NAMES, "int64"),
        (texts * np.nan, NAMES, "not finite.* 'a cat'"),
        (texts * [[1], [0], [1]], NAMES, "all zero, for 'a dog'.*row 1"),
        (texts, NAMES[:2], "are 3, with 2 names"),
        (texts, None, "no names.*class_names"),
    ):
        refused(wrong, unlir_jax.zero_shot, network, given, names)


def test_files_of_texts(tmp_path):
    texts = known("clip")["texts"].astype(np.float32)
    np.savez(tmp_path / "a.npz", embeddings=texts, class_names=NAMES)
    np.save(tmp_path / "b.npy", texts)
    (tmp_path / "b.txt").write_text("\n".join(NAMES) + "\n")
    readers.write_safetensors(
        tmp_path / "c.safetensors",
        {"embeddings": texts, "logit_bias": np.full(1, -3, np.float32)},
        {"class_names": '["a cat", "a dog", "a horse"]'},
    )
    for name in ("a.npz", "b.npy", "c.safetensors"):
        found = text_files.read(tmp_path / name)
        np.testing.assert_array_equal(found.embeddings, texts)
        assert found.class_names == NAMES
    assert found.terms == {"logit_bias": -3}
    np.savez(tmp_path / "other.npz", rows=texts)
    refused(
        "no `embeddings`; expected an .npz", text_files.read, tmp_path / "other.npz"
    )
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 and nothing")
    refused("cannot be read", text_files.read, tmp_path / "d.npz")
    np.save(tmp_path / "e.npy", np.array([{}]), allow_pickle=True)
    refused("cannot be read", text_files.read, tmp_path / "e.npy")
    with pytest.raises(FileNotFoundError, match="texts.*is no file"):
        text_files.read(tmp_path / "none.npz")


def test_commands_explain_by_texts(tower, tmp_path, monkeypatch):
    tower("clip")
    both = {"embeddings": known("clip")["texts"], "class_names": NAMES}
    np.savez(tmp_path / "texts.npz", **both)
    loaded = factories.load(NAME, tmp_path / "clip.npz", texts=tmp_path / "texts.npz")
    assert loaded.class_names == NAMES and "3 texts" in loaded.source
    from PIL import Image

    pixels = (small.images()[0] * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    command = f"explain photo.png --model {NAME} --weights clip.npz --texts texts.npz"
    more = "--method generic_attention --no-controls --label horse --quiet".split()
    more[more.index("horse")] = "a horse"
    assert cli.main([*command.split(), *more, "--output", "report"]) == 0
    said = documents.read_json(tmp_path / "report" / "results.json", "the results")
    assert "3 texts (texts.npz)" in str(said) and "a horse" in str(said)
