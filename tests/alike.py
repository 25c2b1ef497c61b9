"""Cross-products compared, and those of a frame in memory."""

from __future__ import annotations

import pandas as pd
import pytest
from numpy.testing import assert_allclose

from dense import identity
from interlace.design.design import assemble
from interlace.design.formula import parse
from interlace.sums import crossprod
from interlace.sums.crossprod import CrossProducts


def assert_same(a: CrossProducts, b: CrossProducts) -> None:
    """The same terms, names and sums, in the user's columns."""
    assert (a.n, a.names, a.dropped) == (b.n, b.names, b.dropped)
    for one, two in zip(a.terms, b.terms, strict=True):
        assert (one.group, one.columns, one.backwards) == (two.group, two.columns, two.backwards)
        assert one.levels.tolist() == two.levels.tolist()
    a, b = a.rebase(identity(a)), b.rebase(identity(b))
    assert a.sum_log_w == pytest.approx(b.sum_log_w, abs=1e-10)
    for left, right in zip((a.vv, *a.zv, *a.zz), (b.vv, *b.zv, *b.zz), strict=True):
        assert_allclose(left, right, rtol=1e-9, atol=1e-9)
    for pair, cells in a.cells.items():
        assert cells.rows.tolist() == b.cells[pair].rows.tolist()
        assert cells.cols.tolist() == b.cells[pair].cols.tolist()
        assert_allclose(cells.values, b.cells[pair].values, rtol=1e-9, atol=1e-9)


def in_memory(formula: str, data: pd.DataFrame, **arguments: str) -> CrossProducts:
    return crossprod.cross_products(assemble(parse(formula), data, **arguments))
