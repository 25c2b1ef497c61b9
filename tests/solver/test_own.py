"""Rows that equations were made of, against their inverse: laid out once."""

from __future__ import annotations

import pytest
from numpy.testing import assert_allclose

from dense import FORMULAS, design, random_templates
from interlace.solver import own, plan
from interlace.solver.exact import factorize
from interlace.solver.own import OwnRows
from interlace.solver.rows import quadratic_forms
from interlace.sums.crossprod import cross_products
from plans import PLANS


@pytest.fixture(params=PLANS)
def forced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every model of the test is eliminated in this order."""
    monkeypatch.setattr(plan, "_choose", PLANS[request.param])
    return request.param


@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_own_rows_are_what_any_rows_are(
    name: str, singular: bool, forced: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "_ROWS", 32)
    full = design(name)
    A = cross_products(full)
    rows, laid_out = full.in_basis(A.basis, A.names), plan.make_plan(A)
    made = OwnRows(rows, laid_out)
    for seed in (3, 4):
        templates = random_templates(A, seed, singular=singular)
        factor = factorize(A, plan.refill(laid_out, A), templates)
        inverse = factor.inverse(fixed=False)
        found = made.forms(factor, inverse[0], factor.reverse(inverse))
        wanted = quadratic_forms(factor, rows, fixed=False)
        assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)
