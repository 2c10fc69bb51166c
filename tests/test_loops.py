from math import prod

import jax
import jax.numpy as jnp
import pytest

from unlir_jax.core import loops


def test_auto_means_the_host_on_cpu_and_the_device_under_a_transformation():
    assert loops.place("auto", jnp.ones(3)) == "host"
    seen = []
    jax.jit(lambda x: seen.append(loops.place("auto", {"x": x})) or x)(jnp.ones(3))
    assert seen == ["device"]


def test_an_accelerator_keeps_the_loop(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert loops.place("auto", jnp.ones(3)) == "device"
    assert loops.place("host", jnp.ones(3)) == "host"


@pytest.mark.parametrize("loop", ["host", "device"])
def test_steps_are_stacked_in_order(loop):
    function = jax.jit(lambda step, offset: step**2 + offset)
    found = loops.map_steps(function, jnp.arange(4), jnp.asarray(10), loop=loop)
    assert found.tolist() == [10, 11, 14, 19]


def test_unknown_and_impossible_loops_are_refused(unchecked):
    with pytest.raises(ValueError, match="'auto', 'host', 'device'"):
        loops.place("gpu")
    with pytest.raises(ValueError, match="cannot run inside"):
        jax.jit(lambda x: loops.place("host", x) and x)(jnp.ones(2))


@pytest.mark.parametrize(
    ("size", "loop", "expected"),
    [
        ((224, 224), "auto", 2),
        ((320, 320), "host", 1),
        ((1000, 1000), "host", 1),
        ((32, 32), "host", 32),
        ((224, 224), "device", 32),
    ],
)
def test_few_large_images_at_once_where_the_host_drives(
    monkeypatch, size, loop, expected
):
    """As many as have the pixels of 2 images of 224 x 224 a core, but one at least."""
    monkeypatch.setattr(loops, "cores", lambda: 1)
    assert loops.few_enough(32, size, loop) == expected
    assert loops.few_enough(1, size, loop) == 1
    cells = [side // 8 for side in size]  # As many cells as 8 maps of 28 x 28.
    most = loops.CACHED_CELLS
    found = loops.few_enough(32, cells, loop, most=most)
    assert found == (32 if expected == 32 else min(32, max(1, 6272 // prod(cells))))
    monkeypatch.setattr(loops, "cores", lambda: 3)
    if expected == 2:
        assert loops.few_enough(32, size, loop) == 6
