"""Make a factory give the same compiled function for the same arguments."""

import functools
from collections.abc import Callable


def remember[**P, R](factory: Callable[P, R]) -> Callable[P, R]:
    """Cache what a factory returns, so that calling it again compiles nothing.

    A factory of this library returns a pure function, which makes this invisible but
    for the time saved. Arguments that cannot be hashed are passed through.
    """
    cached = functools.lru_cache(maxsize=128)(factory)

    @functools.wraps(factory)
    def remembered(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            hash((args, tuple(kwargs.items())))
        except TypeError:
            return factory(*args, **kwargs)
        return cached(*args, **kwargs)

    return remembered
