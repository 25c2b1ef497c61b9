"""Bad input of models with ``residual=``: what is said, and which rows are named."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import InterlaceError


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


def says(frame: pd.DataFrame, residual: object, formula: str = "y ~ x") -> str:
    with pytest.raises(InterlaceError) as caught:
        interlace.fit(formula, frame, residual=residual)  # type: ignore[call-overload]
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("un(visit | id)", "us"),
        ("Unstructured(visit | id)", "us"),
        ("AR(1)", "ar1"),
        ("arh1(visit | id)", "ar1h"),
        ("corAR1(visit | id)", "ar1"),
        ("corCompSymm(visit | id)", "cs"),
        ("sp_pow(visit | id)", "car1"),
        ("toeplitz(visit | id)", "toep"),
        ("varidnt(arm)", "varident"),
    ],
)
def test_names_of_other_programs_are_understood(trial: pd.DataFrame, text: str, meant: str) -> None:
    assert f"unknown residual structure {text.partition('(')[0]!r}: did you mean {meant!r}" in says(
        trial, text
    )


def test_names_in_capital_letters_are_those_that_they_mean(trial: pd.DataFrame) -> None:
    small = interlace.fit("y ~ x", trial, residual="ar1(visit | id)")
    large = interlace.fit("y ~ x", trial, residual="AR1(visit | id)")
    assert str(large.residual) == "ar1(visit | id)" and large.criterion == small.criterion
    assert interlace.fit("y ~ x", trial, residual="varIdent(arm)").criterion < np.inf


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("ar1(~ visit | id)", "columns are named without '~'"),
        ("cs(1 | id)", "'1' names no visits: name their column"),
        ("cs(~1 | id)", "'~1' names no visits: name their column"),
        ("us(visit | id, group=arm)", "asked for by 'by=', not 'group='"),
        ("us(visit | id) + ar1(visit | id)", "must be a structure over visits within subjects"),
        ("us(visit, x | id)", "us reads one column of visits; distances between points"),
        ("us(visit | id) * ar1(visit | id)", "one structure and one variance function"),
    ],
)
def test_texts_of_other_programs(trial: pd.DataFrame, text: str, what: str) -> None:
    assert what in says(trial, text)


def test_dates_are_no_times_and_no_visits(trial: pd.DataFrame) -> None:
    day = pd.Timestamp("2024-01-01") + pd.to_timedelta(trial["visit"] * 7, unit="D")
    message = says(trial.assign(visit=day), "car1(visit | id)")
    assert "row 0 of the data (counted from 0) has 2024-01-08" in message
    assert "count days, (data['visit'] - data['visit'].min()).dt.days" in message
    message = says(trial.assign(visit=day - day.min()), "sp_exp(visit | id)")
    assert "count days, data['visit'].dt.days" in message
    assert "make it a categorical" in says(trial.assign(visit=day), "us(visit | id)")


def test_visits_as_floats(trial: pd.DataFrame) -> None:
    whole = interlace.fit("y ~ x", trial, residual="us(visit | id)")
    same = interlace.fit(
        "y ~ x", trial.assign(visit=trial["visit"] * 1.0), residual="us(visit | id)"
    )
    assert same.criterion == whole.criterion
    message = says(trial.assign(visit=trial["visit"] + 0.5 * (trial.index == 9)), "us(visit | id)")
    assert "row 9 of the data (counted from 0) has 2.5" in message


def test_subjects_that_share_a_name_between_arms(trial: pd.DataFrame) -> None:
    frame = trial.assign(id=trial["id"] % 20)
    message = says(frame, "us(visit | id, by=arm)")
    assert "row 0 of the data (counted from 0) and row 80 of the data (counted from 0)" in message
    assert "and there are 79 more such pairs" in message
    assert "subjects of one name are apart by 'arm': write 'id:arm' in place of 'id'" in message
    assert "tell subjects apart (id:site)" in says(frame, "us(visit | id)")
    apart = interlace.fit("y ~ x", frame, residual="us(visit | id:arm)")
    assert apart.ngroups == {"id:arm": 40}


def test_repeated_rows_at_times_of_their_own(trial: pd.DataFrame) -> None:
    frame = trial.assign(t=np.random.default_rng(2).uniform(0, 9, 160).round(2))
    message = says(pd.concat([frame, frame.iloc[[5]]], ignore_index=True), "car1(t | id)")
    assert "the subject 1 has two rows at t = " in message
    assert "row 5 of the data (counted from 0) and row 160" in message


def test_what_is_ordinary(trial: pd.DataFrame) -> None:
    single = trial[(trial["visit"] == 1) | (trial["id"] < 20)]
    assert interlace.fit("y ~ x", single, residual="us(visit | id)").ngroups == {"id": 40}
    unused = trial.assign(visit=pd.Categorical(trial["visit"], [1, 2, 3, 4, 5]))
    frame = interlace.fit("y ~ x", unused, residual="us(visit | id)").residual_covariance
    assert frame.shape == (4, 4)  # type: ignore[union-attr]
    empty = trial.assign(y=trial["y"].where(trial["visit"] != 3))
    empty["visit"] = pd.Categorical(empty["visit"])
    found = interlace.fit("y ~ x", empty, residual="ar1h(visit | id)")
    assert list(found.residual_covariance.index) == [1, 2, 4]  # type: ignore[union-attr]
    assert found.n_dropped == 40
    gaps = trial.assign(t=trial["visit"].where(trial.index != 3).astype(float))
    assert interlace.fit("y ~ x", gaps, residual="car1(t | id)").n_dropped == 1


def test_more_parameters_than_rows(trial: pd.DataFrame) -> None:
    message = says(trial.assign(visit=np.arange(160)), "us(visit | id)")
    assert "has 12,880 parameters over 160 visits, for 160 rows" in message
    message = says(trial.assign(each=trial["id"]), "us(visit | id, by=each)")
    assert "has 400 parameters over 4 visits, for 160 rows" in message


def test_points_in_the_plane(trial: pd.DataFrame) -> None:
    rng = np.random.default_rng(4)
    frame = trial.assign(lon=rng.uniform(0, 5, 160), lat=rng.uniform(0, 5, 160))
    result = interlace.fit("y ~ x", frame, residual="sp_exp(lon, lat | id)", method="ML")
    assert str(result.residual) == "sp_exp(lon, lat | id)"
    sd, reach = result.residual_parameters["estimate"]
    points = frame[["lon", "lat"]].to_numpy()
    d = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
    same = frame["id"].to_numpy()[:, None] == frame["id"].to_numpy()[None]
    V = np.where(same, sd**2 * np.exp(-d / reach), 0.0)
    X = np.column_stack([np.ones(160), frame["x"]])
    beta = np.linalg.solve(X.T @ np.linalg.solve(V, X), X.T @ np.linalg.solve(V, frame["y"]))
    r = frame["y"].to_numpy() - X @ beta
    value = 160 * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r)
    assert result.criterion == pytest.approx(value, abs=1e-8)
    np.testing.assert_allclose(result.fe_params, beta, rtol=1e-8)
    new = result.predict(frame.head(2), conditional=True)
    np.testing.assert_allclose(new, np.asarray(result.predict(conditional=True))[:2])
    assert "must be numbers" in says(frame.assign(lat="here"), "sp_exp(lon, lat | id)")


def test_a_unit_of_time_does_not_matter(trial: pd.DataFrame) -> None:
    rng = np.random.default_rng(5)
    t = trial["visit"] + rng.uniform(0, 0.5, 160)
    found = [
        interlace.fit("y ~ x", trial.assign(t=t * unit), residual="car1(t | id)")
        for unit in (1.0, 1e3, 1e-3)
    ]
    for one in found[1:]:
        assert one.criterion == pytest.approx(found[0].criterion, abs=1e-7)
    rho = [one.residual_parameters.loc["rho", "estimate"] for one in found]
    assert rho[1] == pytest.approx(rho[0] ** 1e-3)
    assert rho[2] == pytest.approx(rho[0] ** 1e3, rel=1e-3)


@pytest.mark.parametrize("structure", ["ar1", "cs", "ad", "toep"])
def test_strata_that_are_visits_make_heterogeneous_structures(
    trial: pd.DataFrame, structure: str
) -> None:
    """Kenward and Roger's tests take second derivatives by the same parameters in both."""
    both = [f"{structure}(visit | id) * varident(visit)", f"{structure}h(visit | id)"]
    tables = [
        interlace.fit("y ~ x * arm", trial, residual=one).coef_table(ddf="kenward-roger")
        for one in both
    ]
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-5)


def test_what_is_linear_in_variances_has_one_kind_of_kenward_and_roger(trial: pd.DataFrame) -> None:
    result = interlace.fit("y ~ x * arm + (1 + visit | id)", trial, residual="varident(arm)")
    pd.testing.assert_frame_equal(
        result.coef_table(ddf="kenward-roger"), result.coef_table(ddf="kenward-roger-linear")
    )


# ------------------------------------------------------------------ random effects beside


def beside() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 80
    frame = pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "id": np.repeat(np.arange(20), 4),
            "v": np.tile(np.arange(4), 20),
            "site": np.repeat(np.arange(5), 16),
            "rater": rng.integers(0, 4, n),
            "f": rng.choice(list("abc"), n),
        }
    )
    frame["lonely"] = np.where(np.arange(n) == 7, "alone", "others")
    frame["date"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(frame["v"], unit="D")
    frame["label"], frame["half"] = frame["id"].astype(str), frame["v"] + 0.5
    frame["part"] = frame["id"] * 2 + frame["v"] // 2
    return frame


@pytest.mark.parametrize(
    ("effects", "residual", "says"),
    [
        ("(1 | site)", "ar1(half | id)", "row 0 of the data .* has 0.5"),
        ("(1 | site)", "ar1(f | site)", r"two rows at f = .*row \d+ of the data .* and row \d+"),
        ("(1 | site)", "us(v | id, by=f)", r"in two groups of by=f: 'b' in row 0 of the .* row 1"),
        ("(1 | site)", "car1(date | id)", r"row 0 of the data .*\.dt\.days"),
        ("(1 | site)", "ar1(v | id) * varident(lonely)", "has one row, row 7 of the data"),
        ("(1 | site)", "ar1(v | site)", "tell subjects apart by another|site:name"),
        ("(1 | label)", "us(v | id)", "room for all or some of the random effects of 'label'"),
        ("(1 | label)", "cs(v | id)", "room for all or some of the random effects of 'label'"),
        ("(1 | part)", "us(v | id)", "room for all or some of the random effects of 'part'"),
        ("(1 | id) + (1 | label)", "ar1(v | id)", "random effects of 'id', 'label'"),
    ],
)
def test_what_is_refused_beside_random_effects(effects: str, residual: str, says: str) -> None:
    with pytest.raises(InterlaceError, match=says):
        interlace.fit(f"y ~ x + {effects}", beside(), residual=residual)


def test_effects_within_subjects_that_a_structure_leaves_room_for() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", interlace.SingularFitWarning)
        assert interlace.fit("y ~ x + (1 | part)", beside(), residual="cs(v | id)").converged
        assert interlace.fit("y ~ x + (1 | label)", beside(), residual="ar1(v | id)").converged


@pytest.mark.parametrize(
    ("term", "says"),
    [
        ("toep(0 + f | site)", r"no structure of random effects: there are us, diag, cs, ar1"),
        ("ar1h(0 + f | site)", r"residual='ar1h\(visit \| subject\)'"),
        ("cs(0 + f, hom=True | site)", "hom= stands after the grouping columns"),
        ("cs(0 + f | site, hom=1)", "hom=True or hom=False"),
        ("cs(0 + f || site)", "it has one bar"),
        ("diag(0 | site)", "no column is left"),
    ],
)
def test_structures_of_random_effects_that_are_none(term: str, says: str) -> None:
    with pytest.raises(InterlaceError, match=says):
        interlace.fit(f"y ~ x + {term}", beside())


def test_an_update_to_another_family_is_refused() -> None:
    frame = interlace.datasets.load("orthodont")
    result = interlace.fit("distance ~ age", frame, residual="ar1(age | Subject)")
    with pytest.raises(InterlaceError, match="is for Gaussian responses, not family='poisson'"):
        result.update(family="poisson")
