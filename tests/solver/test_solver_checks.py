"""Criterion and exact gradient at fixed values of theta, singular ones included."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from interlace.design.design import assemble
from interlace.design.formula import parse
from interlace.estimation.criterion import Criterion
from interlace.sums.crossprod import CrossProducts, cross_products
from reference import cases

CHECKS = cases.solver_checks()


@functools.cache
def crossproducts(case: str) -> CrossProducts:
    reference = cases.load_case(case)
    return cross_products(assemble(parse(reference.formula), reference.data))


def criterion_and_gradient(case: str, theta: np.ndarray, reml: bool) -> tuple[float, np.ndarray]:
    evaluation = Criterion(crossproducts(case), reml).at_theta(theta)
    return evaluation.value, evaluation.theta_gradient


def label(check: dict[str, Any]) -> str:
    return f"{check['case']}-{'REML' if check['reml'] else 'ML'}-{check['theta']}"


@pytest.mark.parametrize("check", CHECKS, ids=label)
def test_criterion_and_gradient(check: dict[str, Any]) -> None:
    value, gradient = criterion_and_gradient(check["case"], np.array(check["theta"]), check["reml"])
    assert abs(value - check["criterion"]) <= max(1e-6, 1e-8 * abs(check["criterion"]))
    # Relative to the largest entry, so that exact zeros on the boundary are checked too.
    size = max(1.0, np.abs(check["gradient"]).max())
    assert_allclose(gradient / size, np.array(check["gradient"]) / size, rtol=0, atol=1e-7)


def test_table_has_singular_templates() -> None:
    assert any(0.0 in check["theta"] for check in CHECKS)
