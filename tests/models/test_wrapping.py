"""A network of one's own becomes what `load` gives, or a sentence says why not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import own_networks
import pytest
from PIL import Image

import unlir_jax
from unlir_jax import saliency, split, tree
from unlir_jax.models import pretrained, reading_order

SIZE = own_networks.SIZE


def colours(**settings):
    """Make a network whose logits are the means of what it sees."""
    return split.from_functions(
        lambda variables, images: images * variables["scale"],
        lambda variables, maps: maps.mean((1, 2)),
        **settings,
    )


ONE = {"scale": jnp.ones(())}
wrap = functools.partial(unlir_jax.wrap, colours(), ONE, image_size=SIZE)


@pytest.fixture(scope="module")
def plain():
    return own_networks.plain_function()


def test_it_is_what_load_gives(plain, pictures):
    assert isinstance(plain, unlir_jax.Pretrained)
    assert (plain.name, plain.image_size, plain.crop) == ("own network", SIZE, 1.0)
    assert plain.class_names == tuple(f"class {index}" for index in range(5))
    assert plain.sha256 == tree.sha256(own_networks.plain_variables())
    slashed = {"mlp/~/linear": {"w": jnp.ones(())}}
    model = split.from_functions(lambda v, x: x, lambda v, x: x.mean((1, 2)))
    assert len(unlir_jax.wrap(model, slashed, image_size=8).sha256) == 64
    prepared = plain.preprocess(pictures[0])
    assert prepared.shape == (SIZE, SIZE, 3)
    assert pretrained.prepared(plain) == {
        "image_size": SIZE,
        "crop": 1.0,
        "interpolation": "bilinear",
        "mean": [0.0, 0.0, 0.0],
        "deviation": [1.0],
        "said_by": "unlir_jax.wrap",
    }
    images = jnp.asarray(prepared)[None]
    maps = saliency.grad_cam(plain.model)(plain.variables, images, jnp.asarray([3]))
    assert maps.shape == (1, SIZE // 2, SIZE // 2)


def test_images_are_standardised_inside(pictures):
    images = jnp.asarray(pictures[:2, :SIZE, :SIZE])
    network = wrap(mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.5))
    found = split.whole(network.model)(network.variables, images)
    expected = (images.mean((1, 2)) - np.float32([[0.5, 0.4, 0.3]])) / np.float32(
        [[0.1, 0.2, 0.5]]
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(network.model.mean, (0.5, 0.4, 0.3), atol=1e-7)
    assert wrap(mean=0.5).model.mean == (0.5, 0.5, 0.5)


def test_a_network_of_grey_images_takes_coloured_ones(pictures):
    network = wrap(grey=True, mean=0.5, std=0.5)
    assert len(network.class_names) == 1
    image = np.round(pictures[:1, :SIZE, :SIZE] * 255).astype(np.uint8)
    grey = np.asarray(Image.fromarray(image[0]).convert("L"), np.float32) / 255
    images = jnp.asarray(image, jnp.float32) / 255
    found = split.whole(network.model)(network.variables, images)
    # Pillow rounds every pixel.
    np.testing.assert_allclose(found[0, 0], (grey.mean() - 0.5) / 0.5, atol=2e-3)


def test_a_function_prepares_images(tmp_path):
    def corner(image):
        return np.asarray(image, np.float32)[:SIZE, :SIZE] / 255

    network = wrap(preprocess=corner)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = pixels[:SIZE, :SIZE]
    found = network.preprocess(tmp_path / "a.png")
    np.testing.assert_allclose(found, expected / np.float32(255), atol=1e-7)
    frame = pretrained.framing(network)
    np.testing.assert_array_equal(frame(tmp_path / "a.png"), expected)
    assert "corner" in pretrained.prepared(network)["said_by"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": None}, "`image_size` is missing; expected the side"),
        ({"image_size": 0}, "`image_size` is 0; expected the side"),
        ({"image_size": (32, 32)}, r"`image_size` is \(32, 32\); expected the side"),
        ({"class_names": ("a", "b")}, "has 2 names, but the network gives 3 logits"),
        ({"mean": (0.5, 0.5)}, r"`mean`=\(0.5, 0.5\); expected one number"),
        ({"mean": 123.7}, r"`mean`=123.7; expected values in \[0, 1\]: divide"),
        ({"std": 0}, "`std`=0; expected positive"),
        ({"std": "1"}, "`std`='1'; expected one number"),
        ({"crop": 0}, "`crop`=0 is a share"),
        ({"interpolation": "cubic"}, "`interpolation`='cubic' is not known"),
        ({"preprocess": np.asarray, "crop": 0.5}, "either the function, or the two"),
        ({"preprocess": np.asarray}, r"`preprocess` gives uint8 \[24, 32, 3\]"),
        (
            {"preprocess": lambda image: np.full((SIZE, SIZE, 3), -1.0)},
            "`preprocess` gives values from -1 to -1; .*standardisation is for `mean`",
        ),
        (
            {"preprocess": lambda image: image.nonsense},
            r"`preprocess` fails for an image of 32 x 24 pixels \(AttributeError: ",
        ),
    ],
)
def test_wrong_settings_are_a_sentence(unchecked, settings, message):
    with pytest.raises(ValueError, match=message):
        wrap(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_names": "abc"}, "`class_names` are not a list of names"),
        ({"class_names": (1, 2, 3)}, "`class_names` are not a list of names"),
        ({"preprocess": "resize"}, "`preprocess` is a str; expected a function"),
    ],
)
def test_settings_of_another_type_are_a_sentence(unchecked, settings, message):
    with pytest.raises(TypeError, match=message):
        wrap(**settings)


@pytest.mark.parametrize(
    ("model", "variables", "message"),
    [
        (colours(), {}, r"with these `variables` \(KeyError: 'scale'\)"),
        (colours(), {"scale": jnp.ones(7)}, "cannot look at images"),
        (colours(), {"scale": jnp.full((), jnp.nan)}, "not finite"),
        (colours(mean=(0.1, 0.2, 0.3)), ONE, "cut with the mean"),
        (
            split.from_functions(lambda v, x: x, lambda v, x: x.mean((1, 2, 3))),
            {},
            r"gives float32 \[1\] for one image; expected floating-point logits",
        ),
        (
            split.from_functions(lambda v, x: x, lambda v, x: x[:, 0, 0] > 0),
            {},
            "gives bool",
        ),
    ],
)
def test_a_network_that_gives_no_logits_is_a_sentence(
    unchecked, model, variables, message
):
    mean = {"mean": 0.5} if "mean" in message else {}
    with pytest.raises(ValueError, match=message):
        unlir_jax.wrap(model, variables, image_size=SIZE, **mean)


def test_a_module_must_be_cut_first(unchecked):
    with pytest.raises(TypeError, match=r"`model` is a LinenCNN; .*split.from_linen"):
        unlir_jax.wrap(own_networks.LinenCNN(), {}, image_size=SIZE)


def test_the_digest_of_the_code_is_that_of_the_code():
    def network(power, scale=1.0, closed=1.0):
        inner = np.full((1, 1, 1, 3), closed, np.float32)
        model = split.from_functions(
            lambda v, images: jax.nn.relu(images * inner) * v,
            lambda v, maps: (maps**power).mean((1, 2)),
        )
        return unlir_jax.wrap(model, jnp.asarray(scale), image_size=SIZE)

    one, same, other = network(2), network(2, 3.0), network(3)
    assert one.code == same.code != other.code
    # Arrays that functions close over are no variables.
    assert network(2, closed=2.0).code != one.code
    assert wrap(mean=(0.1, 0.2, 0.3)).code != wrap(mean=(0.1, 0.2, 0.4)).code
    assert one.sha256 == other.sha256 != same.sha256


def test_layers_come_in_the_order_in_which_they_are_read():
    network = own_networks.linen_cnn()
    order = reading_order.layers(network.model, network.variables, SIZE)
    own = [path.removeprefix("params/") for path in order if path[:6] == "params"]
    assert own == ["conv0", "norm0", "conv1", "norm1", "dense"]
    assert len(order) == 7  # The norms' statistics are layers of their own.
