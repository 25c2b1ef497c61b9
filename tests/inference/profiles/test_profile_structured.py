"""Profiles of models with ``residual=``."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

import interlace
from interlace import InterlaceError
from reference.structures.cases import data


def test_an_exchangeable_structure_has_the_profiles_of_a_random_intercept() -> None:
    frame = interlace.datasets.load("orthodont")
    cs = interlace.fit("distance ~ age * Sex", frame, residual="cs(age | Subject)")
    plain = interlace.fit("distance ~ age * Sex + (1 | Subject)", frame)
    names = list(plain.fe_params.index)
    pd.testing.assert_frame_equal(
        cs.conf_int(method="profile").loc[names],
        plain.conf_int(method="profile").loc[names],
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["sd_VIS2", "rho_2"])
def test_limits_are_where_the_constrained_deviance_is_reached(name: str) -> None:
    fev = data("fev")
    result = interlace.fit("FEV1 ~ AVISIT", fev, residual="toeph(AVISIT | USUBJID)", method="ML")
    low, high = result.conf_int(method="profile", parm=name).loc[name]
    stack, unit = result.estimate.criterion.stack, result.estimate.unit
    i = result.parameter_names.index(name)
    for limit in (low, high):
        found = minimize(
            lambda x: result.estimate.criterion(x).value,
            result.estimate.x,
            jac=lambda x: result.estimate.criterion(x).gradient,
            constraints={
                "type": "eq",
                "fun": lambda x, limit=limit: stack.reported(x, unit)[0][i] - limit,
                "jac": lambda x: stack.reported(x, unit)[1][i],
            },
            method="SLSQP",
            options={"ftol": 1e-10, "maxiter": 300},
        )
        assert found.fun - result.criterion == pytest.approx(chi2.ppf(0.95, 1), abs=1e-4)


def test_random_effects_beside_strata() -> None:
    frame = interlace.datasets.load("orthodont")
    result = interlace.fit(
        "distance ~ age + (1 | Subject)", frame, residual="varident(Sex)", method="ML"
    )
    profile = result.profile(level=0.95)
    assert profile.names == ["Intercept", "age", "sd_Intercept|Subject", "sd", "ratio_Female"]
    np.testing.assert_allclose(profile.estimates[2:], result.bootstrap(2, seed=1).estimate[2:])
    limits = profile.conf_int()
    assert ((limits.iloc[:, 0] < profile.estimates) & (profile.estimates < limits.iloc[:, 1])).all()
    assert limits.loc["ratio_Female"].iloc[1] < 1.0
    for one in interlace.plot_profile(profile), interlace.plot_profile(result.profile("beta_")):
        assert one is not None


def test_unknown_names_and_zeros() -> None:
    frame = interlace.datasets.load("orthodont")
    result = interlace.fit("distance ~ age", frame, residual="ar1(age | Subject)")
    with pytest.raises(InterlaceError, match="rho"):
        result.profile("nothing")
    with pytest.raises(InterlaceError, match="method must be"):
        result.conf_int(method="exact")
