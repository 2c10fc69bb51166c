"""A network is found wherever all its names lie, and nobody has to guess which."""

import ml_dtypes
import numpy as np
import pytest

from unlir_jax.weights import averages, selection
from unlir_jax.weights.contents import Contents

EXPECTED = (
    "params/stem/conv/kernel",
    "params/stem/norm/scale",
    "params/stem/norm/bias",
    "batch_stats/stem/norm/mean",
    "batch_stats/stem/norm/var",
    "params/classifier/kernel",
    "params/classifier/bias",
)
LAYOUTS = {
    "torchvision": {"stem/conv": "conv1", "stem/norm": "bn1", "classifier": "fc"},
    "timm": {"stem/conv": "stem.c", "stem/norm": "stem.n", "classifier": "head.fc"},
}
NAMES = (
    *("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean"),
    *("bn1.running_var", "fc.weight", "fc.bias"),
)
TRUNK = NAMES[:5]


def network(prefix="", value=1.0, names=NAMES):
    return {prefix + name: np.full(3, value, np.float32) for name in names}


def contents(*parts, unnamed=None, **more):
    arrays = {name: array for part in parts for name, array in part.items()} | more
    shapes = {name: array.shape for name, array in arrays.items()}
    return Contents(shapes, lambda n: {k: arrays[k] for k in n}, unnamed or {})


def select(found, key=""):
    return selection.select(found, EXPECTED, LAYOUTS, key=key, source="FILE")


def value(found, key=""):
    """Give the one value that all arrays of what is taken have."""
    chosen = select(found, key)
    arrays = selection.take(found, chosen, "FILE")
    assert set(arrays) == set(NAMES), arrays.keys()
    (only,) = {number for array in arrays.values() for number in array.tolist()}
    return only


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "module.", "_orig_mod.", "model.", "net.", "backbone.", "student."),
        *("teacher.", "module._orig_mod.", "model.net.", "anything.at_all.3."),
        *("state_dict/", "state_dict/model.", "a/b/c/module.backbone."),
    ],
)
def test_any_one_prefix_comes_off(prefix):
    found = contents(network(prefix))
    chosen = select(found)
    assert chosen.key == (prefix.rstrip("./") or ".")
    assert chosen.complete and chosen.head and not chosen.others and not chosen.beside
    assert value(found) == 1


def test_what_lies_beside_is_left_out_and_said():
    beside = {
        "n_seen": np.array(3),
        "model.bn1.num_batches_tracked": np.array(3),
        "loss.weight": np.ones(10),
        "decoder.conv1.weight": np.ones(10),
        "optimizer/state/0/exp_avg": np.ones(10),
    }
    chosen = select(contents(network("model."), beside))
    assert set(chosen.names) == set(network("model."))
    assert chosen.remark == " (without loss.weight, decoder.conv1.weight)"


def test_what_a_network_has_too_much_is_not_left_out():
    """A layer more is another network; only what names itself a bystander is none."""
    extra = {"model.layer9.weight": np.ones(3), "model.loss.weight": np.ones(3)}
    chosen = select(contents(network("model."), extra))
    assert chosen.names["model.layer9.weight"] == "layer9.weight"
    assert "model.loss.weight" not in chosen.names
    scalar = {"layer9.gain": np.array(1.0), "step": np.array(7)}
    chosen = select(contents(network(), scalar))
    assert "layer9.gain" in chosen.names and "step" not in chosen.names


@pytest.mark.parametrize(
    ("raw", "averaged"),
    [
        ("state_dict/", "state_dict_ema/"),
        ("model/", "model_ema/module."),
        ("model/", "ema/"),
        ("model/", "ema_state_dict/"),
        ("params/", "params_ema/"),
        ("state_dict/model.", "state_dict/ema_model."),
        ("state_dict/model.", "state_dict/model_ema.module."),
        ("state_dict/model.", "callbacks/EMACallback/model."),
        ("", "swa."),
        ("net.", "averaged_model.module."),
        # Lightning's WeightAveraging and MMEngine's EMAHook exchange the two.
        ("current_model_state/model.", "state_dict/model."),
    ],
)
def test_averaged_weights_are_taken_and_others_can_be_asked_for(raw, averaged):
    found = contents(network(raw, 1.0), network(averaged, 2.0))
    assert value(found) == 2
    chosen = select(found)
    assert chosen.averaged and f"{averaged.rstrip('./')}, averaged" in chosen.remark
    assert chosen.others == (raw.rstrip("./") or ".",)
    for key, expected in ((raw.rstrip("./") or ".", 1), (averaged, 2)):
        assert value(found, key) == expected
    other = select(found, raw.rstrip("./") or ".")
    assert not other.averaged and "as trained" in other.remark


def test_mmengine_keeps_the_raw_weights_under_ema_state_dict():
    found = contents(
        network("state_dict/backbone.", 2.0),
        network("ema_state_dict/module.backbone.", 1.0),
        {"ema_state_dict/steps": np.array(5)},
    )
    assert value(found) == 2 and select(found).averaged
    assert value(found, "ema_state_dict") == 1
    assert not select(found, "ema_state_dict").averaged


def test_an_average_alone_is_taken_and_said():
    assert select(contents(network("state_dict_ema/"))).averaged
    counted = contents(network("module."), {"n_averaged": np.array(2)})
    assert select(counted).remark == " (module, averaged)"
    assert not select(contents(network("module."))).averaged


def test_equal_weights_are_no_question():
    assert value(contents(network("model/"), network("best/"))) == 1
    mean = contents(network("a_ema/", 2.0), network("b_ema/", 2.0), network("c/"))
    assert value(mean) == 2


@pytest.mark.parametrize(
    ("prefixes", "kind"),
    [
        (("student.", "teacher."), "networks"),
        (("encoder_q.", "encoder_k."), "networks"),
        (("model/", "state_dict/", "best/"), "networks"),
        (("ema_0.99/", "ema_0.999/", "model/"), "averages of the weights"),
    ],
)
def test_what_cannot_be_told_is_asked(prefixes, kind):
    parts = [network(prefix, number) for number, prefix in enumerate(prefixes)]
    found = contents(*parts)
    with pytest.raises(ValueError, match=f"{kind} that have all.*weights_key") as error:
        select(found)
    assert prefixes[0].rstrip("./") in str(error.value)
    for number, prefix in enumerate(prefixes):
        assert value(found, prefix) == number


def test_a_key_may_be_a_part_and_leaves_the_choice_among_the_rest():
    found = contents(
        network("state_dict/model.", 1.0),
        network("state_dict/ema_model.", 2.0),
        network("other/model.", 3.0),
    )
    assert value(found, "state_dict") == 2
    assert value(found, "other") == 3
    assert value(found, "state_dict/model") == 1
    with pytest.raises(
        ValueError, match="`weights_key`='mode' is not in 'FILE'.*model"
    ):
        select(found, "mode")
    with pytest.raises(ValueError, match="expected one of 'conv1', 'other'"):
        select(contents({"conv1.x": np.ones(2), "other.y": np.ones(2)}), "model")


@pytest.mark.parametrize(
    "average",
    [
        {f"model_ema.{name.replace('.', '')}": np.ones(3) for name in NAMES},
        {f"ema_{name.replace('.', '_')}": np.ones(3) for name in NAMES},
        network("ema.", 2.0, NAMES[:3]),
        network("ema.", 2.0, TRUNK),
    ],
)
def test_averages_that_are_no_whole_network_are_not_passed_over(average):
    found = contents(network("model."), average)
    with pytest.raises(
        ValueError, match="averaged weights under .*weights_key='model'"
    ):
        select(found)
    assert value(found, "model") == 1
    one = contents(network("model."), {"loss.ema_centre": np.ones(3)})
    assert value(one) == 1


def test_averages_without_names_are_not_passed_over():
    found = contents(network("model."), unnamed={"ema/shadow_params": 5})
    with pytest.raises(ValueError, match="'ema/shadow_params'.*weights_key='model'"):
        select(found)
    assert value(contents(network(), unnamed={"optimizer/params": 5})) == 1


def test_without_a_classifier_its_projection_is_left_out_and_said():
    head = {"model.fc.0.weight": np.ones(3), "model.projector.2.bias": np.ones(3)}
    chosen = select(contents(network("model.", names=TRUNK), head))
    assert chosen.complete and not chosen.head
    assert set(chosen.names.values()) == set(TRUNK)
    assert set(chosen.beside) == set(head)
    # Beside a classifier, they are layers of another network.
    chosen = select(contents(network("model."), head))
    assert set(head) <= set(chosen.names)


def test_what_fits_nowhere_is_handed_back_with_its_best_prefix():
    found = contents(network("model.", names=NAMES[1:]), network("x.", names=NAMES[:1]))
    chosen = select(found)
    assert not chosen.complete and chosen.key == "model"
    nothing = select(contents({"blocks.0.w": np.ones(2)}))
    assert nothing.key == "." and nothing.names == {"blocks.0.w": "blocks.0.w"}


@pytest.mark.parametrize("dtype", ["int8", "uint8", "bool", "complex64"])
def test_whole_numbers_are_no_weights(dtype):
    arrays = network() | {"conv1.weight": np.ones(3, dtype)}
    found = contents(arrays)
    with pytest.raises(ValueError, match=f"holds {dtype} in 1 arrays .conv1.weight"):
        selection.take(found, select(found), "FILE")
    small = contents(network() | {"conv1.weight": np.ones(3, ml_dtypes.float8_e5m2)})
    selection.take(small, select(small), "FILE")


def test_words_of_keys():
    assert averages.words("EMAWeightAveraging{'decay': 0.9}") >= {"ema", "weight"}
    assert averages.words("state_dict_ema") == {"state", "dict", "ema"}
    assert averages.words("schema.emanet") == {"schema", "emanet"}
