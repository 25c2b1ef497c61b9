"""Probabilities of categories and of zeros with their errors, also of results from files."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import interlace
from glmm.test_part_means import categories
from glmm.test_wider import fitted
from interlace import InterlaceError


def test_errors_of_probabilities_count_modes_and_all_coefficients():
    """Beside differences of the probabilities, the modes found again at parameters nearby."""
    result = categories("wine_logit")
    estimate = result.estimate
    problem, found, h = estimate.problem, estimate.approximation, 1e-5

    def probabilities(x):
        point = found(problem, problem.unpack(x), estimate.u)
        return result.family.probabilities(point.mode.eta, problem.omega(point.at.gamma))

    J = np.stack(
        [
            (probabilities(estimate.x + step) - probabilities(estimate.x - step)) / (2.0 * h)
            for step in h * np.eye(len(estimate.x))
        ]
    )
    f = result.family.densities(estimate.eta, estimate.omega)
    d_eta = -np.diff(np.vstack((0.0 * f[:1], f, 0.0 * f[:1])), axis=0).T
    given = estimate.evaluation.leverages[:, None] * d_eta**2
    variance = given + np.einsum("inc,ij,jnc->nc", J, estimate.covariance, J)
    table = result.predict(type="probability", se=True, interval="confidence")
    assert table.index.names == ["row", "category"]
    assert_allclose(table["se"].to_numpy().reshape(variance.shape), np.sqrt(variance), rtol=1e-5)
    wide = result.predict(type="probability")
    assert_allclose(table["prediction"].to_numpy().reshape(wide.shape), wide)
    assert ((table["lower"] > 0.0) & (table["lower"] < table["prediction"])).all()
    assert ((table["upper"] < 1.0) & (table["upper"] > table["prediction"])).all()


def test_probabilities_of_a_typical_group_have_the_errors_of_means():
    result = categories("wine_probit")
    grid = {"temp": ["cold", "warm"], "contact": ["no", "no"], "judge": ["?", "?"]}
    table = result.predict(grid, include_re=False, type="probability", se=True)
    means = result.emmeans("temp", at={"contact": "no"}, mode="probability").table
    one = means.set_index(["temp", "rating"])
    for i, temp in enumerate(grid["temp"]):
        assert_allclose(table.loc[i, "se"], one.loc[temp, "se"])
    drawn = result.predict(grid, type="probability", se=True)
    assert (drawn["se"].to_numpy() > table["se"].to_numpy()).all()  # a new judge is a draw


def test_shares_of_zeros_have_errors():
    result = fitted("zinb2")
    table = result.predict(type="zero-probability", interval="confidence")
    means = result.emmeans(["ft", "sex"], component="zero", type="response").table
    data = result.data.reset_index(drop=True)
    for i in range(4):
        rows = (data["ft"] == means["ft"][i]) & (data["sex"] == means["sex"][i])
        own = table[rows.to_numpy()].iloc[0]
        assert_allclose(own, means.loc[i, ["response", "se", "lower", "upper"]].astype(float))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "category", "se": True}, "the likeliest category has no standard error"),
        ({"type": "probability", "interval": "prediction"}, "a new observation has no probability"),
    ],
)
def test_what_has_no_errors_is_refused(options, message):
    with pytest.raises(InterlaceError, match=message):
        categories("wine_logit").predict(**options)


NEW = {"temp": ["cold"], "contact": ["yes"], "judge": ["j3"]}
OWL = {"ft": ["Satiated"], "sex": ["Male"], "atime": [0.3], "Nest": ["Bochet"]}


@pytest.mark.parametrize(
    ("result", "new", "types"),
    [
        (lambda: categories("wine_logit"), NEW, ("probability", "response", "link")),
        (lambda: fitted("zinb2"), OWL, ("zero-probability", "response", "link")),
        (lambda: fitted("hurdle_nbinom2"), OWL, ("zero-probability", "response")),
        (lambda: fitted("disp_nbinom2_crossed"), OWL | {"tb": ["t0"]}, ("response", "link")),
    ],
)
def test_what_is_read_from_a_file_predicts_as_before(result, new, types, tmp_path):
    result = result()
    result.save(tmp_path / "result")
    found = interlace.load(tmp_path / "result")
    for kind in types:
        for rows in (new, None):
            one, other = (
                r.predict(rows, type=kind, se=True, interval="confidence") for r in (found, result)
            )
            assert_allclose(one, other, rtol=1e-7)
    assert_allclose(found.simulate(2, seed=3), result.simulate(2, seed=3))
    assert_allclose(found.component_table(), result.component_table(), rtol=1e-7)
    if "zero-probability" in types:
        one, other = (r.emmeans("ft", component="zero").table for r in (found, result))
        assert_allclose(one["se"], other["se"], rtol=1e-7)
        at = {"atime": 0.0}
        one, other = (r.emmeans("ft", component="mean", at=at).table for r in (found, result))
        assert_allclose(one["se"], other["se"], rtol=1e-7)
    if "probability" in types:
        one, other = (r.emmeans("temp", mode="probability").table for r in (found, result))
        assert_allclose(one["se"], other["se"], rtol=1e-7)
        assert_allclose(found.anova(), result.anova(), rtol=1e-7)
    again = found.refit(found.estimate.problem.y)
    assert again.criterion == pytest.approx(result.criterion, abs=1e-6)
