"""Places at which a module can be cut."""

from typing import Any

from flax import linen as nn

from unlir_jax.split import linen
from unlir_jax.types import Module, PyTree


def module_paths(module: Module, *example: PyTree, **arguments: object) -> list[str]:
    """List the paths of the submodules that a module calls, in call order.

    Args:
        module: A Linen module, or an NNX module.
        *example: Arrays or shapes that `__call__` takes, for example images. An NNX
            module lists all its submodules without, in the order of its attributes.
        **arguments: Further arguments of `__call__`.

    Raises:
        TypeError: It is another kind of module.

    Example:
        >>> from flax import nnx
        >>> from unlir_jax import split
        >>> layers = [nnx.Linear(2, 2, rngs=nnx.Rngs(0)) for _ in range(2)]
        >>> split.module_paths(nnx.Sequential(*layers))
        ['layers/0', 'layers/1']
    """
    if isinstance(module, nn.Module):
        return linen.module_paths(module, *example, **arguments)
    from flax import nnx  # Slow to import, and only NNX users need it.

    given: Any = module
    if isinstance(given, nnx.Module):
        from unlir_jax.split.nnx import module_paths as paths_of_nnx

        return paths_of_nnx(given, *example, **arguments)
    raise TypeError(
        f"`module` is a {type(module).__name__}; expected a Linen or NNX module: "
        "other networks are cut by `split.from_functions`."
    )
