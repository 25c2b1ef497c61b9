"""Models with ``residual=``: what is refused, and what the result says."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import InterlaceError, StructuredLMEResult
from interlace.design.repeated import parse_residual
from reference.structures.cases import data


@pytest.fixture(scope="module")
def trial() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "id": np.repeat(np.arange(40), 4),
            "visit": np.tile([1, 2, 3, 4], 40),
            "arm": np.repeat(["a", "b"], 80),
            "x": rng.normal(size=160),
        }
    )
    frame["y"] = rng.normal(size=40)[frame["id"]] + rng.normal(size=160) + frame["visit"]
    return frame


@pytest.fixture(scope="module")
def result() -> StructuredLMEResult:
    return interlace.fit(
        "FEV1 ~ ARMCD * AVISIT", data("fev"), residual="us(AVISIT | USUBJID)", ddf="satterthwaite"
    )


# ------------------------------------------------------------------ text


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("us(visit | id)", "us(visit | id)"),
        ("  ar1 ( visit|id , hom = False ) ", "ar1h(visit | id)"),
        ("cs(visit | id, hom=True)", "cs(visit | id)"),
        ("csh(visit | id, hom=False)", "csh(visit | id)"),
        ("diag(visit | id, hom=True)", "id(visit | id)"),
        ("toep(`the visit` | a:b, by=`the arm`)", "toep(`the visit` | a:b, by=`the arm`)"),
    ],
)
def test_residual_is_read(text: str, read: str) -> None:
    assert str(parse_residual(text)) == read


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("us", "must be a structure over visits"),
        ("us(visit)", "needs one bar"),
        ("us(visit | a | b)", "needs one bar"),
        ("un(visit | id)", "unknown residual structure 'un'"),
        ("us(visit | arm / id)", "by="),
        ("us(visit | id, arm)", "by=column"),
        ("us(visit | id, by=arm, by=arm)", "each once"),
        ("us(f(visit) | id)", "not the name of a column"),
        ("us(visit | )", "not the name of a column"),
        ("us(visit | id, hom=True)", "cannot have hom=True"),
        ("csh(visit | id, hom=True)", "cannot have hom=True"),
        ("car1(visit | id, hom=False)", "cannot have hom=False"),
        ("cs(visit | id, hom=maybe)", "hom must be True or False"),
        ("varident(f(visit))", "not the name of a column"),
        ("ar1(visit | id) * ", "must be a structure over visits"),
        (3, "must be text"),
    ],
)
def test_what_cannot_be_read_is_refused(trial: pd.DataFrame, text: object, says: str) -> None:
    with pytest.raises(InterlaceError, match=says.replace("(", r"\(")):
        interlace.fit("y ~ x", trial, residual=text)  # type: ignore[call-overload]


# ------------------------------------------------------------------ rows


def test_two_rows_at_one_visit_are_both_named(trial: pd.DataFrame) -> None:
    twice = pd.concat([trial, trial.iloc[[9]]], ignore_index=True)
    with pytest.raises(
        InterlaceError, match=r"subject 2 has two rows at visit = 2: row 9.*row 160"
    ):
        interlace.fit("y ~ x", twice, residual="us(visit | id)")


def test_rows_are_named_as_the_data_counts_them(trial: pd.DataFrame) -> None:
    """Also where earlier rows were left out for missing values."""
    twice = pd.concat([trial, trial.iloc[[9]]], ignore_index=True)
    twice.loc[[0, 5], "y"] = np.nan
    with pytest.raises(InterlaceError, match=r"row 9 of the data .*row 160 of the data"):
        interlace.fit("y ~ x", twice, residual="ar1(visit | id)")


@pytest.mark.parametrize("structure", ["us", "ar1", "cs"])
def test_visits_that_have_no_order_are_refused(trial: pd.DataFrame, structure: str) -> None:
    uneven = trial.assign(visit=trial["visit"] * 1.0)
    uneven.loc[6, "visit"] = 2.5
    with pytest.raises(InterlaceError, match=r"whole numbers, but row 6 .* has 2\.5"):
        interlace.fit("y ~ x", uneven, residual=f"{structure}(visit | id)")
    dates = trial.assign(visit=pd.Timestamp("2024-01-01") + pd.to_timedelta(trial["visit"], "D"))
    with pytest.raises(InterlaceError, match="the visits 'visit' hold"):
        interlace.fit("y ~ x", dates, residual=f"{structure}(visit | id)")


def test_times_must_be_numbers(trial: pd.DataFrame) -> None:
    text = trial.assign(visit=trial["visit"].astype(str))
    with pytest.raises(InterlaceError, match=r"times 'visit' of car1 must be numbers.*row 0"):
        interlace.fit("y ~ x", text, residual="car1(visit | id)")


def test_text_in_another_order_than_its_numbers_is_refused_where_order_counts(
    trial: pd.DataFrame,
) -> None:
    weeks = trial["visit"].map({1: "week 2", 2: "week 4", 3: "week 8", 4: "week 12"})
    text = trial.assign(visit=weeks)
    with pytest.raises(InterlaceError, match="ordered categorical"):
        interlace.fit("y ~ x", text, residual="ar1(visit | id)")
    order = pd.CategoricalDtype(["week 2", "week 4", "week 8", "week 12"], ordered=True)
    same = interlace.fit("y ~ x", trial, residual="ar1(visit | id)")
    told = interlace.fit("y ~ x", text.astype({"visit": order}), residual="ar1(visit | id)")
    assert told.llf == pytest.approx(same.llf, abs=1e-9)
    interlace.fit("y ~ x", text, residual="us(visit | id)")


def test_a_subject_in_two_groups_is_refused(trial: pd.DataFrame) -> None:
    split = trial.copy()
    split.loc[14, "arm"] = "b"
    with pytest.raises(
        InterlaceError, match=r"subject 3 is in two groups.*'a' in row 12.*'b' in row 14"
    ):
        interlace.fit("y ~ x", split, residual="cs(visit | id, by=arm)")


def test_one_row_a_subject_and_one_visit_are_refused(trial: pd.DataFrame) -> None:
    with pytest.raises(InterlaceError, match="every subject of 'id' has one row"):
        interlace.fit(
            "y ~ x", trial.iloc[np.arange(40) * 4 + np.arange(40) % 4], residual="us(visit | id)"
        )
    with pytest.raises(InterlaceError, match="has one value"):
        interlace.fit("y ~ x", trial[trial["visit"] == 1], residual="us(visit | id)")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"formula": "y ~ x + (1 | id)"}, "room for all or some of the random effects"),
        ({"groups": "id"}, "room for all or some of the random effects"),
        ({"family": "poisson"}, "is for Gaussian responses"),
        ({"link": "log"}, "is for Gaussian responses"),
        ({"trials": "x"}, "is for other families"),
        ({"solver": "iterative"}, "leave solver out"),
        ({"theta0": [1.0]}, "theta0"),
        ({"ddf": "satterthwait"}, "ddf must be one of"),
        ({"ddf": "kenward-roger-linear", "method": "ML"}, "REML"),
        ({"method": "OLS"}, "method must be"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(
    trial: pd.DataFrame, arguments: dict[str, object], says: str
) -> None:
    wanted = {"formula": "y ~ x", "residual": "us(visit | id)"} | arguments
    with pytest.raises(InterlaceError, match=says):
        interlace.fit(data=trial, **wanted)  # type: ignore[call-overload]


@pytest.mark.parametrize("ddf", ["kenward-roger-linear", "between-within", "residual"])
def test_their_degrees_of_freedom_are_for_them_alone(trial: pd.DataFrame, ddf: str) -> None:
    with pytest.raises(InterlaceError, match="ddf must be"):
        interlace.fit("y ~ x + (1 | id)", trial, ddf=ddf)  # type: ignore[call-overload]


def test_other_results_do_not_become_one(trial: pd.DataFrame) -> None:
    mixed = interlace.fit("y ~ x + (1 | id)", trial)
    with pytest.raises(InterlaceError, match="another kind"):
        mixed.update(residual="us(visit | id)")
    structured = interlace.fit("y ~ x", trial, residual="us(visit | id)")
    with pytest.raises(InterlaceError, match="another kind"):
        structured.update(residual=None)


# ------------------------------------------------------------------ what the result says


def test_an_exchangeable_covariance_is_a_random_intercept(trial: pd.DataFrame) -> None:
    """Compound symmetry with a positive correlation is the model with ``(1 | id)``."""
    mixed = interlace.fit("y ~ x + arm + (1 | id)", trial, ddf="satterthwaite")
    same = interlace.fit("y ~ x + arm", trial, residual="cs(visit | id)", ddf="satterthwaite")
    assert same.criterion == pytest.approx(mixed.criterion, abs=1e-8)
    pd.testing.assert_frame_equal(same.coef_table(), mixed.coef_table(), rtol=1e-5)
    pd.testing.assert_frame_equal(
        same.anova(), mixed.anova()[["num_df", "den_df", "F", "p"]], rtol=1e-5
    )
    # Kenward-Roger takes the expected information there, as pbkrtest, and the observed one here, as
    # SAS and mmrm.
    pd.testing.assert_frame_equal(
        same.coef_table("kenward-roger"), mixed.coef_table("kenward-roger"), rtol=1e-2
    )
    total = mixed.scale + mixed.variance_components["id"]
    assert same.scale == pytest.approx(total, rel=1e-6)


def test_rows_in_any_order_and_a_new_name_of_visits(trial: pd.DataFrame) -> None:
    one = interlace.fit("y ~ x", trial, residual="toeph(visit | id)")
    mixed = trial.sample(frac=1.0, random_state=3)
    other = interlace.fit(
        "y ~ x", mixed.assign(visit=10 * mixed["visit"]), residual="toeph(visit | id)"
    )
    assert other.criterion == pytest.approx(one.criterion, abs=1e-9)
    np.testing.assert_allclose(
        other.normalized_resid, pd.Series(one.normalized_resid)[mixed.index], atol=1e-6
    )


def test_units_of_the_response_only_rescale(trial: pd.DataFrame) -> None:
    one = interlace.fit("y ~ x", trial, residual="us(visit | id)")
    other = interlace.fit("y ~ x", trial.assign(y=1e6 * trial["y"]), residual="us(visit | id)")
    np.testing.assert_allclose(other.residual_covariance, 1e12 * one.residual_covariance, rtol=1e-5)
    sds = one.residual_parameters.index.str.startswith("sd")
    ratio = (other.residual_parameters / one.residual_parameters).to_numpy()
    np.testing.assert_allclose(ratio, np.where(sds, 1e6, 1.0)[:, None] * [1, 1], rtol=1e-3)


def test_parameters_have_standard_errors_of_differences(result: StructuredLMEResult) -> None:
    table = result.residual_parameters
    S = result.residual_covariance
    assert table.loc["sd_VIS2", "estimate"] == pytest.approx(np.sqrt(S.loc["VIS2", "VIS2"]))
    size = np.sqrt(S.loc["VIS1", "VIS1"] * S.loc["VIS3", "VIS3"])
    assert table.loc["cor_VIS3.VIS1", "estimate"] == pytest.approx(S.loc["VIS3", "VIS1"] / size)
    assert (table["se"] > 0).all()
    np.testing.assert_allclose(np.sqrt(np.diag(result.vcov_residual)), table["se"])


def test_groups_have_frames_of_their_own() -> None:
    grouped = interlace.fit(
        "FEV1 ~ ARMCD * AVISIT", data("fev"), residual="ar1h(AVISIT | USUBJID, by=ARMCD)"
    )
    assert list(grouped.residual_covariance) == ["PBO", "TRT"]
    assert grouped.residual_parameters.loc[("TRT", "rho"), "se"] > 0
    assert "ARMCD = TRT" in str(grouped.summary())
    assert grouped.nparams == len(grouped.fe_params) + 10
    with pytest.raises(InterlaceError, match="several residual variances"):
        grouped.scale  # noqa: B018


def test_one_variance_is_the_scale(trial: pd.DataFrame) -> None:
    homogeneous = interlace.fit("y ~ x", trial, residual="ar1(visit | id)")
    assert homogeneous.scale == pytest.approx(
        homogeneous.residual_parameters.loc["sd", "estimate"] ** 2
    )
    with pytest.raises(InterlaceError, match="residual_covariance"):
        interlace.fit("y ~ x", trial, residual="ar1h(visit | id)").scale  # noqa: B018


def test_predictions_are_of_the_expected_response(result: StructuredLMEResult) -> None:
    new = pd.DataFrame({"ARMCD": ["PBO", "TRT"], "AVISIT": ["VIS1", "VIS4"]})
    table = result.predict(new, interval="confidence")
    assert isinstance(table, pd.DataFrame)
    means = result.emmeans("ARMCD * AVISIT").table.set_index(["ARMCD", "AVISIT"])
    wanted = means.loc[[("PBO", "VIS1"), ("TRT", "VIS4")], ["emmean", "se", "lower", "upper"]]
    np.testing.assert_allclose(table, wanted, rtol=1e-9)
    assert (result.predict(new, interval="prediction")["se"] > table["se"]).all()
    with pytest.raises(InterlaceError, match="interval must be"):
        result.predict(new, interval="both")


def test_reports(result: StructuredLMEResult) -> None:
    text = str(result.summary())
    assert "us(AVISIT | USUBJID)" in text and "Satterthwaite" in text and "197" in text
    assert max(map(len, text.splitlines())) <= 100
    tidy = result.tidy("all", conf_int=True)
    assert set(tidy["effect"]) == {"fixed", "ran_pars"}
    assert result.glance().loc[0, "nobs"] == 537
    assert "<table" in result._repr_html_()
    assert result.ngroups == {"USUBJID": 197}


def test_intervals_are_robust_as_the_coefficients_are(result: StructuredLMEResult) -> None:
    table = result.coef_table(robust="CR2", level=0.9)
    limits = result.conf_int(0.9, robust="CR2")
    assert (limits.to_numpy() == table[["lower", "upper"]].to_numpy()).all()
    with pytest.raises(InterlaceError, match="robust is for Wald intervals, not method='profile'"):
        result.conf_int(method="profile", robust="CR2")


def test_verbs_that_are_not_there_say_so(result: StructuredLMEResult) -> None:
    with pytest.raises(AttributeError, match="'r2' is not there for models with residual="):
        result.r2()
    with pytest.raises(AttributeError, match="has no attribute 'bootstraps'"):
        result.bootstraps  # noqa: B018
    with pytest.raises(InterlaceError, match=r"not built yet .*us\(AVISIT"):
        interlace.leverage(result)  # type: ignore[arg-type]
    with pytest.raises(InterlaceError, match="robust by subject so far"):
        result.coef_table(robust="CR2", cluster="ARMCD")
    with pytest.raises(InterlaceError, match="robust must be one of"):
        result.coef_table(robust="HC3")
    with pytest.raises(InterlaceError, match="method must be"):
        result.conf_int(method="exact")


def test_a_result_is_kept_and_fitted_again(result: StructuredLMEResult) -> None:
    again = pickle.loads(pickle.dumps(result))
    assert again.criterion == pytest.approx(result.criterion, abs=1e-12)
    pd.testing.assert_frame_equal(again.coef_table(), result.coef_table())
    other = result.update(residual="ar1h(AVISIT | USUBJID)", method="ML")
    assert isinstance(other, StructuredLMEResult)
    assert other.method == "ML" and other.nparams == result.nparams - 5


def test_redundant_columns_are_dropped(trial: pd.DataFrame) -> None:
    doubled = trial.assign(z=2.0 * trial["x"] + 1.0)
    with pytest.warns(interlace.RankDeficiencyWarning, match="dropped: z"):
        found = interlace.fit("y ~ x + z", doubled, residual="cs(visit | id)", ddf="kenward-roger")
    assert list(found.fe_params.index) == ["Intercept", "x"]
    same = interlace.fit("y ~ x", trial, residual="cs(visit | id)")
    assert found.criterion == pytest.approx(same.criterion, abs=1e-9)


def test_weights_and_offset(trial: pd.DataFrame) -> None:
    """A constant weight is one variance; an offset is a known part of the response."""
    one = interlace.fit("y ~ x", trial, residual="us(visit | id)")
    four = interlace.fit("y ~ x", trial, residual="us(visit | id)", weights=np.full(160, 4.0))
    np.testing.assert_allclose(four.residual_covariance, 4.0 * one.residual_covariance, rtol=1e-5)
    shifted = trial.assign(y=trial["y"] + 3.0 * trial["x"], three=3.0 * trial["x"])
    moved = interlace.fit("y ~ x", shifted, residual="us(visit | id)", offset="three")
    assert moved.criterion == pytest.approx(one.criterion, abs=1e-8)
    np.testing.assert_allclose(moved.fe_params, one.fe_params, atol=1e-6)


def test_a_likelihood_without_bound_says_so() -> None:
    """Three subjects alone were seen at all six visits: fewer than the directions of these."""
    rng = np.random.default_rng(3)
    pairs = [(0, 5), (1, 4), (2, 3), (0, 1), (2, 5), (3, 4)]
    frame = pd.DataFrame(
        [(i, v) for i in range(60) for v in (range(6) if i < 3 else pairs[i % 6])],
        columns=["id", "visit"],
    )
    frame["y"] = rng.normal(size=len(frame))
    with pytest.warns(interlace.ConvergenceWarning, match="grows without bound"):
        found = interlace.fit("y ~ 1", frame, residual="us(visit | id)")
    assert not found.converged
    assert interlace.fit("y ~ 1", frame, residual="ar1(visit | id)").converged


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize("structure", ["us(visit | id)", "csh(visit | id, by=arm)"])
def test_a_search_that_ends_at_a_singular_covariance_has_not_converged(
    structure: str, n: int
) -> None:
    """Rounding can end a search on the way to where there is no bound: standard errors of 1e-8."""
    rng = np.random.default_rng(n)
    visits = np.tile(np.arange(5), n)
    frame = pd.DataFrame(
        {"id": np.repeat(np.arange(n), 5), "visit": visits, "v": visits.astype(str)}
    )
    frame["y"] = rng.normal(size=len(frame)) + rng.normal(size=n)[frame["id"]]
    frame = frame.assign(x=rng.normal(size=len(frame)), arm=frame["id"] % 2)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = interlace.fit("y ~ x + v", frame, residual=structure, method="ML")
    least = np.linalg.eigvalsh(np.atleast_3d(found.estimate.residual_covariances)).min()
    assert not found.converged or least > 1e-6
    assert found.converged or any("structure with fewer parameters" in str(w.message) for w in seen)


def test_the_first_structure_that_converges_is_taken(trial: pd.DataFrame) -> None:
    rng = np.random.default_rng(3)
    pairs = [(0, 5), (1, 4), (2, 3), (0, 1), (2, 5), (3, 4)]
    frame = pd.DataFrame(
        [(i, v) for i in range(60) for v in (range(6) if i < 3 else pairs[i % 6])],
        columns=["id", "visit"],
    )
    frame["y"] = rng.normal(size=len(frame))
    found = interlace.fit("y ~ 1", frame, residual=["us(visit | id)", "ar1(visit | id)"])
    assert found.converged and str(found.residual) == "ar1(visit | id)"
    assert list(map(str, found.tried)) == ["us(visit | id)"]
    assert "did not converge: us(visit | id)" in str(found.summary())
    one = interlace.fit("y ~ x", trial, residual=["us(visit | id)", "ar1(visit | id)"])
    assert str(one.residual) == "us(visit | id)" and one.tried == ()
    with pytest.raises(InterlaceError, match="names no structure"):
        interlace.fit("y ~ x", trial, residual=[])
    with pytest.raises(InterlaceError, match="unknown residual structure"):
        interlace.fit("y ~ x", trial, residual=["us(visit | id)", "un(visit | id)"])
