"""Many responses of other families: every one is what ``fit`` gives, and what is wrong is named."""

import warnings

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import ConvergenceWarning, InterlaceError, SeparationWarning, fit, fit_many

ROWS = 90


@pytest.fixture(scope="module")
def design() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    return pd.DataFrame(
        {
            "x": rng.normal(size=ROWS),
            "z": np.tile(list("abc"), ROWS // 3),
            "g": np.repeat(np.arange(10), ROWS // 10),
            "h": rng.integers(0, 5, ROWS),
            "size": rng.integers(4, 9, ROWS),
            "w": rng.uniform(0.5, 1.5, ROWS),
        }
    )


def drawn(design: pd.DataFrame, family: str, R: int, seed: int) -> pd.DataFrame:
    """Responses of a family."""
    rng, found = np.random.default_rng(seed), {}
    for i in range(R):
        b, c = 0.5 * rng.normal(size=10), 0.4 * rng.normal(size=5)
        eta = (0.6 + 0.3 * design.x + b[design.g] + c[design.h]).to_numpy()
        mean, share = np.exp(eta), 1.0 / (1.0 + np.exp(-eta))
        found[f"r{i}"] = {
            "binomial": lambda share=share: rng.binomial(design["size"], share),
            "poisson": lambda mean=mean: rng.poisson(mean),
            "negative-binomial": lambda mean=mean: rng.poisson(mean * rng.gamma(1, 1, ROWS)),
            "gamma": lambda mean=mean: rng.gamma(3.0, mean / 3.0),
            "beta": lambda share=share: rng.beta(5 * share, 5 * (1 - share)),
            "student-t": lambda eta=eta: eta + 0.5 * rng.standard_t(4, ROWS),
            "ordinal": lambda eta=eta: np.digitize(eta + rng.logistic(size=ROWS), [-0.5, 1.0]) + 1,
        }[family]()
    return pd.DataFrame(found)


def check_equal(many, name: str, one) -> None:
    """The rows of one response are those of its fit."""
    rows = many.table[many.table["response"] == name]
    fixed = rows[(rows["effect"] == "fixed") & rows["term"].isin(one.fe_params.index)]
    se = one.fe_bse.to_numpy()
    assert fixed["term"].tolist() == list(one.fe_params.index)
    assert (np.abs(fixed["estimate"].to_numpy() - one.fe_params.to_numpy()) < 1e-5 * se).all()
    np.testing.assert_allclose(fixed["std.error"], se, rtol=1e-4)
    np.testing.assert_allclose(fixed["p.value"], one.fe_pvalues, rtol=1e-3, atol=1e-12)
    tidy = one.tidy("ran_pars")
    pars = rows[rows["effect"] == "ran_pars"]
    assert pars["term"].tolist() == tidy["term"].tolist()
    assert pars["group"].tolist() == tidy["group"].tolist()
    np.testing.assert_allclose(pars["estimate"], tidy["estimate"], rtol=1e-4, atol=2e-4)
    beside = rows[(rows["effect"] == "fixed") & ~rows["term"].isin(one.fe_params.index)]
    table = one.component_table()
    np.testing.assert_allclose(beside["estimate"], table["estimate"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(beside["std.error"], table["se"], rtol=1e-3)
    row = many.glance().set_index("response").loc[name]
    for column, value in one.glance().iloc[0].items():
        if isinstance(value, str):
            assert row[column] == value
        else:
            np.testing.assert_allclose(row[column], value, rtol=1e-5, err_msg=column)
    assert (row["converged"], row["singular"]) == (one.converged, one.is_singular)
    assert row["separated"] == bool(one.separated)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("binomial", {"trials": "size"}),
        ("poisson", {"exposure": "w", "weights": "w"}),
        ("poisson", {"zero_inflation": "~ x"}),
        ("poisson", {"quadrature": 5}),
        ("poisson", {"method": "REML"}),
        ("negative-binomial", {"offset": "w"}),
        ("negative-binomial", {"dispersion": "~ z"}),
        ("gamma", {"link": "log"}),
        ("beta", {}),
        ("student-t", {}),
        ("ordinal", {}),
    ],
    ids=str,
)
def test_responses_have_the_answers_of_fit(design, family, options):
    """By column name, whatever the options; a family of units or categories is fitted alone."""
    Y = drawn(design, family, 3, 1)
    if "zero_inflation" in options:  # so many zeros in excess that their share has an estimate
        Y = Y.where(np.random.default_rng(2).random(Y.shape) > 0.4, 0)
    data = pd.concat([design, Y], axis=1)
    if family == "ordinal":
        data[Y.columns] = data[Y.columns].apply(lambda y: pd.Categorical(y, ordered=True))
    many = fit_many("~ x + (1 | g)", data, list(Y), family=family, **options)
    assert many.family == family and not many.errors
    assert many.method == options.get("method", "ML")
    for name in many:
        check_equal(many, name, fit(f"{name} ~ x + (1 | g)", data, family=family, **options))


@pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")
def test_rows_are_those_in_which_a_response_is_known(design):
    """Two patterns of missing values, vector and crossed terms, an array as responses."""
    Y = drawn(design, "poisson", 4, 2).to_numpy(dtype=float, copy=True)
    Y[3:9, 1], Y[3:9, 2] = np.nan, np.nan
    many = fit_many("~ x + z + (1 + x | g) + (1 | h)", design, Y, family="poisson")
    assert many.glance()["nobs"].tolist() == [90, 84, 84, 90]
    for i, name in enumerate(many):
        one = fit(
            f"{name} ~ x + z + (1 + x | g) + (1 | h)",
            design.assign(**{name: Y[:, i]}),
            family="poisson",
        )
        check_equal(many, name, one)
    result = many.result("y2")
    assert isinstance(result, interlace.CrossedGLMMResult) and result.nobs == 84


def test_what_is_wrong_with_one_response_is_said_in_the_words_of_fit(design):
    Y = drawn(design, "poisson", 2, 3).assign(none=0, half=0.5, text="a")
    with pytest.warns(ConvergenceWarning, match="3 of 5 responses could not be fitted"):
        many = fit_many("~ x + (1 | g)", design, Y, family="poisson")
    assert list(many.errors) == ["none", "half", "text"]
    assert many.errors["none"] == (
        "the response 'none' is 0 in every row: nothing can be estimated"
    )
    assert "the response 'half' holds 0.5 in row 0" in many.errors["half"]
    assert many.table[many.table["response"] == "none"]["estimate"].isna().all()
    glance = many.glance().set_index("response")
    assert not glance.loc["none", "converged"] and not glance.loc["none", "separated"]
    assert "5 responses, 3 failed" in repr(many)
    with pytest.raises(InterlaceError, match="'none' is 0 in every row"):
        many.result("none")


def test_separated_responses_are_named(design):
    """All rows of one level are 0: its coefficient has no finite estimate."""
    Y = drawn(design, "poisson", 2, 3)
    Y["apart"] = np.where(design["z"] == "c", 0, Y["r0"])
    with pytest.warns(SeparationWarning, match="of 1 of 3 responses have no finite .* apart;"):
        many = fit_many("~ z + (1 | g)", design, Y, family="poisson")
    assert many.glance()["separated"].tolist() == [False, False, True]
    assert "1 separated" in repr(many)


def test_what_belongs_to_other_families_is_refused(design):
    data = design.assign(y=1.0 + design["g"], k=1)
    for options, message in (
        ({"trials": "size"}, "trials= is for other families than 'gaussian'"),
        ({"family": "poisson", "trials": "size"}, "trials= belongs to family='binomial'"),
        ({"family": "binomial", "exposure": "w"}, "exposure= is the offset"),
        ({"family": "poison"}, "unknown family 'poison'"),
        ({"family": "poisson", "zero_inflation": "~ u"}, "'u'"),
        ({"family": "poisson", "dispersion": "~ x"}, "dispersion= needs a family"),
        ({"family": "poisson", "quadrature": 0}, "quadrature must be a number of nodes"),
    ):
        with pytest.raises(InterlaceError, match=message):
            fit_many("~ x + (1 | g)", data, ["y"], **options)
    with pytest.raises(InterlaceError, match="grouping factor 'k' has one level"):
        fit_many("~ x + (1 | k)", data, ["y"], family="poisson")


def test_processes_and_neighbours_change_nothing(design):
    Y = drawn(design, "negative-binomial", 5, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = fit_many("~ x + (1 | g)", design, Y, family="negative-binomial")
        part = fit_many("~ x + (1 | g)", design, Y[["r3"]], family="negative-binomial", n_jobs=2)
    own = whole.table[whole.table["response"] == "r3"].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, part.table, rtol=1e-5)
