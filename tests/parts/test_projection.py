"""Prototypes that move to cells, on maps made for it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unlir_jax.models import part_network as part_networks
from unlir_jax.models import zoo
from unlir_jax.parts import projection

CLASSES, PICTURES = 3, 70
RANDOM = np.random.default_rng(0)
MAPS = RANDOM.random((PICTURES, 2, 3, 64)).astype("f")
LABELS = RANDOM.integers(0, CLASSES, PICTURES)


@functools.cache
def network(name="prototypes"):
    settings = {"name": name}
    settings |= {"per_class": 2, "width": 4} if name == "prototypes" else {"parts": 4}
    backbone = zoo.networks()["cifar_resnet8"].build()
    module = part_networks.assemble(backbone, settings, CLASSES, 32)
    shapes = jax.eval_shape(
        lambda: module.init(jax.random.key(0), jnp.asarray(MAPS[:1]), method="head")
    )
    generator = np.random.default_rng(1)
    return module, jax.tree.map(
        lambda leaf: generator.normal(size=leaf.shape).astype("f") * 0.3, shapes
    )


def test_prototypes_move_to_the_nearest_cell_of_their_class():
    module, variables = network()
    found = projection.project(module, variables, MAPS, LABELS)
    cells = np.asarray(module.apply(variables, MAPS, method="describe_cells"))
    before = np.asarray(variables["params"]["classifier"]["parts"]["kernel"])
    after = found.variables["params"]["classifier"]["parts"]["kernel"]
    for part in range(2 * CLASSES):
        apart = np.linalg.norm(cells - before[:, part], axis=-1)
        apart[part // 2 != LABELS] = np.inf
        picture, row, column = np.unravel_index(apart.argmin(), apart.shape)
        assert found.picture[part] == picture
        assert tuple(found.cell[part]) == (row, column)
        np.testing.assert_allclose(after[:, part], cells[picture, row, column])
        np.testing.assert_allclose(found.distance[part], apart.min(), rtol=1e-4)
    # Where a prototype is a cell, nothing is more similar than that cell.
    reading = module.apply(found.variables, MAPS[found.picture], method="read")
    own = reading.scores[np.arange(6), found.cell[:, 0], found.cell[:, 1], np.arange(6)]
    np.testing.assert_allclose(own, np.log(1 / 1e-4), rtol=1e-2)


def test_only_prototypes_move_and_once_is_enough():
    module, variables = network()
    found = projection.project(module, variables, MAPS, LABELS)
    again = projection.project(module, found.variables, MAPS, LABELS)
    np.testing.assert_allclose(again.distance, 0, atol=1e-6)
    np.testing.assert_array_equal(again.picture, found.picture)
    same = jax.tree.map(
        lambda a, b: np.array_equal(a, b), found.variables, dict(variables)
    )
    assert not same["params"]["classifier"]["parts"]["kernel"]
    same["params"]["classifier"]["parts"]["kernel"] = True
    assert all(jax.tree.leaves(same))


def test_prototypes_start_among_the_cells_of_their_class():
    """Classes that are far apart: each prototype is nearest to its own class."""
    module, variables = network()
    maps = np.zeros((9, 2, 3, 64), "f")
    labels = np.arange(9) % CLASSES
    for label in range(CLASSES):
        maps[labels == label] = 10 * RANDOM.random(64)
    maps += 0.01 * RANDOM.random(maps.shape).astype("f")
    started = projection.seed(module, variables, maps, labels, key=jax.random.key(0))
    _, _, picture, distance = (
        getattr(projection.project(module, started, maps, labels), name)
        for name in ("variables", "cell", "picture", "distance")
    )
    assert (labels[picture] == np.arange(6) // 2).all()
    assert distance.max() < 0.05


@pytest.mark.parametrize("run", ["project", "seed"])
def test_what_cannot_be_is_refused(run):
    module, variables = network()
    more = {"key": jax.random.key(0)} if run == "seed" else {}
    go = functools.partial(getattr(projection, run), **more)
    with pytest.raises(ValueError, match="Class 1 has no training image"):
        go(module, variables, MAPS, np.where(LABELS == 1, 0, LABELS))
    with pytest.raises(ValueError, match="expected decision.name='prototypes'"):
        go(*network("landmarks"), MAPS, LABELS)
