"""The parametric bootstrap of generalised models."""

import warnings

import numpy as np
import pandas as pd
import pytest

import interlace
from glmm.cases import CASES, fitted, load
from interlace import ConvergenceWarning, InterlaceError
from interlace.model.simulate import blocks, seed_sequence


@pytest.mark.parametrize("index", [3, 6], ids=lambda i: CASES[i].file)
def test_replicates_depend_on_their_number_and_the_seed_alone(index):
    result = fitted(index)
    boot = result.bootstrap(17, seed=3)
    shorter = result.bootstrap(5, seed=3)
    pd.testing.assert_frame_equal(boot.replicates.head(5), shorter.replicates)
    own = [result.family.auxiliary] if result.family.auxiliary else []
    assert list(boot.replicates)[: len(result.fe_params)] == list(result.fe_params.index)
    assert list(boot.replicates)[-1 - len(own)] == f"sd_Intercept|{next(iter(result.ngroups))}"
    np.testing.assert_allclose(boot.estimate[: len(result.fe_params)], result.fe_params)
    first = result.refit(result.simulate(1, seed=3)[:, 0])
    np.testing.assert_allclose(boot.replicates.iloc[0, :2], first.fe_params.iloc[:2], rtol=1e-6)


def test_errors_are_near_those_of_the_second_derivatives():
    result = fitted(3)
    boot = result.bootstrap(60, seed=1)
    ratio = boot.se[result.fe_params.index] / result.fe_bse
    assert ((ratio > 0.7) & (ratio < 1.4)).all()
    limits = result.conf_int(method="bootstrap", n_bootstrap=10, seed=1, parm="theta_")
    assert list(limits.index) == ["sd_Intercept|herd"]


def test_statistics_of_the_user():
    result = fitted(3)
    boot = result.bootstrap(4, seed=2, statistic=lambda r: r.predict({"period": ["p1"]}, False))
    assert boot.replicates.shape == (4, 1)
    assert np.isfinite(boot.replicates.to_numpy()).all()


def test_replicates_that_fail_are_counted_with_their_reason():
    data = pd.DataFrame({"g": np.repeat(list("abcdef"), 3), "y": [0] * 3 + [1] * 3 + [0] * 12})
    data.loc[[13, 17], "y"] = 1
    result = interlace.fit("y ~ 1", data, groups="g", family="binomial")
    with pytest.warns(ConvergenceWarning, match="replicates failed and are left out"):
        boot = result.bootstrap(60, seed=1)
    assert boot.n_failed == len(boot.failures) > 0
    assert len(boot.replicates) == 60 - boot.n_failed
    assert boot.n_singular > 0


@pytest.mark.parametrize("index", [3, 7, 10], ids=lambda i: CASES[i].file)
def test_cases_are_levels_with_their_rows(index):
    """A replicate is the fit of the rows drawn, levels drawn twice counted as two."""
    result = fitted(index)
    boot = result.bootstrap(3, "cases", seed=5)
    group, case = next(iter(result.ngroups)), CASES[index]
    block = next(iter(blocks(seed_sequence(5), 3)))
    drawn = np.floor(block.rng.random((3, result.ngroups[group])) * result.ngroups[group])
    levels = result.random_effects[group].index
    data = load(case.data)
    for i, picks in enumerate(drawn.astype(int)):
        parts = [
            data[data[group].astype(str) == str(levels[one])].assign(**{group: f"copy {j}"})
            for j, one in enumerate(picks)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            again = interlace.fit(case.formula, pd.concat(parts), **case.options)
        found = boot.replicates.loc[i]
        p = len(result.fe_params)
        np.testing.assert_allclose(found.iloc[:p], again.fe_params, rtol=1e-4, atol=1e-5)
        sd = float(np.sqrt(np.asarray(again.variance_components[group]).flat[0]))
        assert found[f"sd_Intercept|{group}"] == pytest.approx(sd, rel=1e-3, abs=1e-4)


def test_cases_of_rows_and_of_all_factors():
    result = fitted(11)
    for group in ("observation", "all"):
        boot = result.bootstrap(3, "cases", seed=1, group=group)
        assert np.isfinite(boot.replicates.to_numpy()).all() and len(boot.replicates) == 3
    with pytest.raises(InterlaceError, match="unknown grouping factor 'herd'"):
        result.bootstrap(3, "cases", group="herd")
    one = fitted(3).bootstrap(4, "cases", seed=1, statistic=lambda r: r.fe_params)
    same = fitted(3).bootstrap(4, "cases", seed=1).replicates[list(fitted(3).fe_params.index)]
    np.testing.assert_allclose(one.replicates, same, rtol=1e-12)


def test_what_is_refused():
    result = fitted(3)
    for kind in ("residual", "wild"):
        with pytest.raises(InterlaceError, match=f"kind='{kind}' is for linear models"):
            result.bootstrap(5, kind)
    with pytest.raises(InterlaceError, match="n must be an integer of at least 2"):
        result.bootstrap(1)
    with pytest.raises(InterlaceError, match="method must be"):
        result.conf_int(method="exact")
