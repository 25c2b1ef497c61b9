"""How many threads the linear algebra may use.

On matrices of a few hundred rows a second thread costs more than it brings: it is woken for every
product.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

# Rows of a matrix from which several threads pay.
_MANY = 300


@cache
def _controller() -> ThreadpoolController:
    """The numerical libraries of this process; numpy and scipy have loaded theirs by now."""
    return ThreadpoolController()


@contextmanager
def threads_for(rows: int) -> Iterator[None]:
    """One thread for the linear algebra while matrices of few ``rows`` are worked on."""
    if rows >= _MANY or all(lib.num_threads == 1 for lib in _controller().lib_controllers):
        yield
        return
    with _controller().limit(limits=1, user_api="blas"):
        yield


def blas_threads() -> int:
    """Threads that the linear algebra may use now."""
    found = [lib["num_threads"] for lib in _controller().info() if lib["user_api"] == "blas"]
    return max(found, default=1)
