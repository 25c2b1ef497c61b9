"""Names, order and values of the standard deviations and correlations."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

import dense
import fits
from interlace.covariance.templates import Diagonal, Full
from interlace.estimation.parameters import variance_parameter_names, variance_parameters
from interlace.sums.crossprod import cross_products
from interlace.sums.terms import ReTerm
from reference import cases

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

PROFILES = sorted((cases.HERE / "golden").glob("*.profile.json"))


@pytest.mark.parametrize("path", PROFILES, ids=lambda p: p.name.split(".")[0])
def test_names_and_order_of_lme4(path) -> None:
    """Those of lme4's profiles, but for its spelling of columns and of nested groups."""
    expected = json.loads(path.read_text())["profile_ci_95_refined"]["param"]
    result = fits.of_case(path.name.split(".")[0])
    names = variance_parameter_names(result.estimate.A.terms)
    assert names[-1] == "sigma"
    found = [_r_spelling(name, expected) for name in names]
    assert found == expected[-len(found) :]
    assert len(expected) == len(found) + len(result.fe_params)


def _r_spelling(name: str, expected: list[str]) -> str:
    if "|" not in name:
        return name
    kind, rest = name.split("_", 1)
    columns, group = rest.split("|")
    columns = ".".join(cases.r_name(c) for c in columns.replace("[T.", "[").split("."))
    here = f"{kind}_{columns}|{group}"
    return here if here in expected else f"{kind}_{columns}|{':'.join(group.split(':')[::-1])}"


@pytest.mark.parametrize("name", dense.FORMULAS)
def test_values_are_those_of_the_covariances(name: str) -> None:
    """Read off ``sigma^2 T T'``, for one fit and for many at once."""
    terms = cross_products(dense.design(name)).terms
    rng = np.random.default_rng(3)
    sigma = rng.uniform(0.5, 2.0, 5)
    templates = [rng.normal(size=(5, t.k, t.k)) for t in terms]
    templates = [
        T if t.correlated else T * np.eye(t.k) for t, T in zip(terms, templates, strict=True)
    ]
    found = variance_parameters(terms, templates, sigma)
    assert found.shape == (5, len(variance_parameter_names(terms)))
    for r in range(5):
        values = []
        for t, T in zip(terms, templates, strict=True):
            C = sigma[r] ** 2 * T[r] @ T[r].T
            for a in range(t.k):
                values.append(np.sqrt(C[a, a]))
                if t.correlated:
                    values += [C[b, a] / np.sqrt(C[a, a] * C[b, b]) for b in range(a + 1, t.k)]
        assert_allclose(found[r], [*values, sigma[r]], rtol=1e-13)
        one = variance_parameters(terms, [T[r] for T in templates], sigma[r])
        assert_allclose(one, found[r], rtol=1e-13)


def test_three_columns() -> None:
    levels = np.array(["p", "q"])
    names = variance_parameter_names(
        [
            ReTerm("g", ("a", "b", "c"), levels, Full(3)),
            ReTerm("h", ("a", "b"), levels, Diagonal(2)),
        ]
    )
    first = ["sd_a|g", "cor_b.a|g", "cor_c.a|g", "sd_b|g", "cor_c.b|g", "sd_c|g"]
    assert names == [*first, "sd_a|h", "sd_b|h", "sigma"]


def test_no_correlation_with_nothing() -> None:
    term = ReTerm("g", ("a", "b"), np.array(["p", "q"]), Full(2))
    found = variance_parameters([term], [np.array([[2.0, 0.0], [0.0, 0.0]])], np.float64(3.0))
    assert_allclose(found, [6.0, np.nan, 0.0, 3.0])
