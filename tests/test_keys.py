import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax.core import random_keys


def data(key, images):
    return np.asarray(
        jax.random.key_data(random_keys.per_image(key, jnp.asarray(images)))
    )


def test_a_key_belongs_to_the_picture_not_to_its_place(pictures):
    key = jax.random.key(1)
    together = data(key, pictures)
    assert (data(key, pictures[::-1]) == together[::-1]).all()
    for index in range(len(pictures)):
        assert (data(key, pictures[index : index + 1])[0] == together[index]).all()


def test_keys_differ_between_pictures_seeds_and_permuted_pixels(pictures):
    key = jax.random.key(1)
    together = data(key, pictures)
    assert len({tuple(row) for row in together}) == len(pictures)
    assert (data(jax.random.key(2), pictures) != together).any(axis=1).all()
    turned = pictures.transpose(0, 2, 1, 3)
    assert (data(key, turned) != together).any(axis=1).all()


def test_a_missing_key_is_asked_for(pictures):
    with pytest.raises(ValueError, match=r"key=jax\.random\.key"):
        random_keys.per_image(None, jnp.asarray(pictures))
