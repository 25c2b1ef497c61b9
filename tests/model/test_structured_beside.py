"""Structures over visits beside random effects that subjects share: fits and verbs."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import InterlaceError, StructuredLMEResult
from interlace.sums.terms import Floats
from reference.structures.cases import golden

HERE = Path(__file__).parent.parent / "reference" / "structures" / "data"
CASES = [name for name in golden("beside") if name != "versions"]
# Formula, structure, and arguments of the models whose verbs are held to dense definitions.
MODELS: dict[str, tuple[str, str, dict[str, str]]] = {
    "crossed": ("y ~ x + arm + (1 | site) + (1 | rater)", "ar1", {}),
    "weights": ("y ~ x + arm + (1 | site) + (1 | rater)", "us", {"weights": "w"}),
    "subject": ("y ~ x + arm + (1 | subject)", "ar1", {"weights": "w"}),
    "all": ("y ~ x + arm + (1 | subject) + (1 | site) + (1 | rater)", "ar1", {"weights": "w"}),
}
EVERY = pytest.mark.parametrize("name", MODELS)


@functools.cache
def frame() -> pd.DataFrame:
    return pd.read_csv(HERE / "raters.csv")


@functools.cache
def fitted(name: str) -> StructuredLMEResult:
    formula, structure, more = MODELS[name]
    some = frame()[frame()["subject"] <= 30].reset_index(drop=True)
    return interlace.fit(formula, some, residual=f"{structure}(visit | subject)", **more)


class Dense:
    """Covariances of the rows of a fit, and of others with them, from what the result reports."""

    def __init__(self, result: StructuredLMEResult) -> None:
        self.result, self.rows = result, pd.DataFrame(result.data)
        self.S = np.asarray(result.residual_covariance)
        self.effects = list(result.variance_components)
        self.V = self.noise(self.rows) + self.shared(self.rows, self.effects)
        self.X = self.columns(self.rows)
        self.inverse = np.linalg.inv(self.V)
        self.C = np.linalg.inv(self.X.T @ self.inverse @ self.X)
        self.b = result.fe_params.to_numpy()
        self.r = self.rows["y"].to_numpy() - self.X @ self.b

    def columns(self, rows: pd.DataFrame) -> Floats:
        return np.column_stack([np.ones(len(rows)), rows["x"], rows["arm"]])

    def weights(self, rows: pd.DataFrame) -> Floats:
        used = self.result.options.weights is not None
        return rows["w"].to_numpy() if used else np.ones(len(rows))

    def same(self, rows: pd.DataFrame, column: str) -> Floats:
        return rows[column].to_numpy()[:, None] == self.rows[column].to_numpy()

    def noise(self, rows: pd.DataFrame) -> Floats:
        size = np.outer(self.weights(rows), self.weights(self.rows))
        visits = np.ix_(rows["visit"].to_numpy() - 1, self.rows["visit"].to_numpy() - 1)
        return self.S[visits] * self.same(rows, "subject") / np.sqrt(size)

    def shared(self, rows: pd.DataFrame, names: list[str]) -> Floats:
        found = np.zeros((len(rows), len(self.rows)))
        for name in names:
            found += self.result.variance_components[name] * self.same(rows, name)
        return found

    def prior(self, names: list[str]) -> float:
        return sum(self.result.variance_components[name] for name in names)

    def given(
        self, rows: pd.DataFrame, K: Floats, own: Floats, without: Floats | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """Centre, variance by the coefficients, and what is left, given rows with covariances."""
        found = []
        for i, (x, k) in enumerate(zip(self.columns(rows), K, strict=True)):
            used = np.full(len(k), True) if without is None else ~without[i]
            t = np.linalg.solve(self.V[np.ix_(used, used)], k[used])
            a = x - t @ self.X[used]
            found.append((x @ self.b + t @ self.r[used], a @ self.C @ a, own[i] - t @ k[used]))
        return tuple(np.array(column) for column in zip(*found, strict=True))  # type: ignore[return-value]


@pytest.mark.parametrize("case", CASES)
def test_fits_are_those_of_other_programs(case: str) -> None:
    known = golden("beside")[case]
    result = interlace.fit(
        known["formula"],
        frame(),
        residual=known["residual"],
        method=known["method"],
        weights=known.get("weights"),
    )
    assert result.converged
    assert result.criterion == pytest.approx(known["minus2logLik"], abs=1e-6)
    beta = np.array(list(known["fixef"].values()))
    assert (np.abs(result.fe_params - beta) < 1e-5 * result.fe_bse).all()
    if "se" in known:
        np.testing.assert_allclose(result.fe_bse, list(known["se"].values()), rtol=1e-5)
    for group, variance in known["variances"].items():
        found = result.variance_components[group]
        assert found == pytest.approx(variance, rel=1e-5)


@EVERY
def test_the_likelihood_is_the_dense_one(name: str) -> None:
    result, of = fitted(name), Dense(fitted(name))
    nu = len(of.r) - 3
    value = np.linalg.slogdet(of.V)[1] - np.linalg.slogdet(of.C)[1] + of.r @ of.inverse @ of.r
    assert result.criterion == pytest.approx(value + nu * np.log(2 * np.pi), abs=1e-8)
    np.testing.assert_allclose(result.fe_cov, of.C, rtol=1e-8)
    np.testing.assert_allclose(of.X.T @ of.inverse @ of.r, 0.0, atol=1e-8)


@EVERY
def test_effects_are_their_conditional_means(name: str) -> None:
    result, of = fitted(name), Dense(fitted(name))
    for group, effects in result.random_effects.items():
        variance = result.variance_components[group]
        Z = (of.rows[group].to_numpy()[:, None] == effects.index.to_numpy()).astype(float)
        np.testing.assert_allclose(effects, variance * Z.T @ of.inverse @ of.r, atol=1e-9)
        left = variance - variance**2 * np.diag(Z.T @ of.inverse @ Z)
        np.testing.assert_allclose(result.random_effects_se[group] ** 2, left, atol=1e-9)


@EVERY
def test_rows_of_the_fit_are_predicted_from_all_others(name: str) -> None:
    result, of = fitted(name), Dense(fitted(name))
    alone = np.eye(len(of.rows), dtype=bool)
    center, fixed, left = of.given(of.rows, of.V, np.diag(of.V), alone)
    for rows in (None, of.rows):
        found = result.predict(rows, conditional=True, interval="prediction")
        sure = result.predict(rows, conditional=True, interval="confidence")
        np.testing.assert_allclose(found["prediction"], center, atol=1e-9)
        np.testing.assert_allclose(found["se"], np.sqrt(fixed + left), atol=1e-9)
        np.testing.assert_allclose(sure["se"], np.sqrt(fixed), atol=1e-9)


@EVERY
def test_predictions_with_effects_know_how_well_these_are_known(name: str) -> None:
    result, of = fitted(name), Dense(fitted(name))
    for some in [of.effects, *([n] for n in of.effects if n != "subject")]:
        K = of.shared(of.rows, some)
        center, fixed, left = of.given(of.rows, K, np.diag(K))
        found = result.predict(include_re=some, se=True)
        np.testing.assert_allclose(found["prediction"], center, atol=1e-9)
        np.testing.assert_allclose(found["se"], np.sqrt(fixed + left), atol=1e-9)
        np.testing.assert_allclose(result.predict(include_re=some), center, atol=1e-9)
    new = result.predict(include_re=False, interval="prediction")
    variance = np.einsum("ij,jk,ik->i", of.X, of.C, of.X) + np.diag(of.V)
    np.testing.assert_allclose(new["se"], np.sqrt(variance), atol=1e-9)


@EVERY
def test_new_rows_of_known_and_new_subjects_sites_and_raters(name: str) -> None:
    result, of = fitted(name), Dense(fitted(name))
    new = of.rows.sample(20, random_state=1).reset_index(drop=True)
    every = np.arange(20)
    new = new.assign(x=new["x"] + 1.0, w=1.5 * new["w"], rater=new["rater"] % 6 + 1)
    new["subject"] = np.where(every < 5, 999, new["subject"])
    new["site"] = np.where(every % 4 == 0, 77, new["site"])
    noise = np.diag(of.S)[new["visit"] - 1] / of.weights(new)
    there = of.same(new, "subject") & of.same(new, "visit")
    K = of.noise(new) + of.shared(new, of.effects)
    center, fixed, left = of.given(new, K, noise + of.prior(of.effects), there)
    found = result.predict(new, conditional=True, interval="prediction")
    np.testing.assert_allclose(found["prediction"], center, atol=1e-9)
    np.testing.assert_allclose(found["se"], np.sqrt(fixed + left), atol=1e-9)
    some = [n for n in of.effects if n != "subject"]
    if some:  # a new subject at these sites and raters
        K = of.shared(new, some)
        center, fixed, left = of.given(new, K, noise + of.prior(of.effects))
        found = result.predict(new, include_re=some, interval="prediction")
        np.testing.assert_allclose(found["prediction"], center, atol=1e-9)
        np.testing.assert_allclose(found["se"], np.sqrt(fixed + left), atol=1e-9)


def test_draws_have_the_covariance_of_the_model() -> None:
    result, of = fitted("all"), Dense(fitted("all"))
    draws = result.simulate(6000, seed=1)
    np.testing.assert_allclose(np.cov(draws), of.V, atol=0.08 * of.V.max())
    kept = result.simulate(2000, seed=1, include_re=True)
    np.testing.assert_allclose(kept.mean(axis=1), result.fittedvalues, atol=0.2)
    np.testing.assert_allclose(np.cov(kept), of.noise(of.rows), atol=0.12 * of.V.max())


def test_normalised_residuals_take_shared_effects_off() -> None:
    result, of = fitted("crossed"), Dense(fitted("crossed"))
    order = np.lexsort((of.rows["visit"], of.rows["subject"]))
    L = np.linalg.cholesky(of.noise(of.rows)[np.ix_(order, order)])
    np.testing.assert_allclose(
        result.normalized_resid[order], np.linalg.solve(L, result.resid[order]), atol=1e-9
    )
    sd = np.sqrt(np.diag(of.S))[of.rows["visit"] - 1]
    np.testing.assert_allclose(result.pearson_resid, result.resid / sd, atol=1e-9)


def test_tables_tests_and_intervals() -> None:
    result = fitted("crossed")
    assert result.ngroups == {"subject": 30, "site": 8, "rater": 6}
    assert "site 8, rater 6" in str(result.summary())
    kinds = ("satterthwaite", "kenward-roger", "kenward-roger-linear")
    df = {ddf: result.coef_table(ddf=ddf)["df"] for ddf in kinds}
    assert (df["satterthwaite"]["x"] > df["satterthwaite"]["Intercept"]).all()
    np.testing.assert_allclose(df["kenward-roger"], df["satterthwaite"])
    assert result.anova(ddf="kenward-roger").loc["x", "p"] < 0.05
    means = result.emmeans("arm", ddf="satterthwaite").table
    assert np.isfinite(means.select_dtypes("number").to_numpy()).all()
    profile = result.conf_int(method="profile")
    assert (profile.iloc[:, 0] < profile.iloc[:, 1]).all()
    assert list(profile.index)[3:] == ["sd_Intercept|site", "sd_Intercept|rater", "sd", "rho"]
    less = result.update(". ~ . - (1 | rater)")
    assert interlace.anova(less, result).table["p"].iloc[1] < 0.01
    with pytest.raises(InterlaceError, match="share effects of 'site'"):
        result.cov_params(robust="CR2")


def test_profiles_of_coefficients_are_where_the_likelihood_says() -> None:
    """The deviance with a coefficient held at its limit rises by the quantile of chi squared."""
    result = fitted("crossed").update(method="ML")
    low = result.conf_int(method="profile", parm="x").iloc[0, 0]
    rows = pd.DataFrame(result.data)
    held = interlace.fit(
        "y ~ arm + (1 | site) + (1 | rater)",
        rows.assign(y=rows["y"] - low * rows["x"]),
        residual="ar1(visit | subject)",
        method="ML",
    )
    assert held.criterion - result.criterion == pytest.approx(3.841458820694124, abs=1e-5)


def test_other_responses_files_and_pickles(tmp_path: Path) -> None:
    result = fitted("all")
    again = result.refit(np.asarray(result.data["y"]) * 2.0)  # type: ignore[index]
    np.testing.assert_allclose(again.fe_params, 2.0 * result.fe_params, rtol=1e-6)
    assert result.bootstrap(2, seed=1).n_failed == 0
    result.save(tmp_path / "fit")
    for other in (interlace.load(tmp_path / "fit"), pickle.loads(pickle.dumps(result))):
        assert other.criterion == pytest.approx(result.criterion, rel=1e-12)
        np.testing.assert_allclose(other.theta, result.theta, rtol=1e-10)
        np.testing.assert_allclose(other.fittedvalues, result.fittedvalues, rtol=1e-10)


def test_structures_by_group_beside_effects_of_the_subject(tmp_path: Path) -> None:
    residual = "ar1h(visit | subject, by=arm)"
    result = interlace.fit("y ~ x + (1 | subject) + (1 | rater)", frame(), residual=residual)
    assert result.converged and set(result.residual_covariance) == {0, 1}
    assert result.residual_parameters.shape == (10, 2)
    rows = frame()
    n, V = len(rows), np.zeros((len(rows), len(rows)))
    for name in ("subject", "rater"):
        code = rows[name].to_numpy()
        V += result.variance_components[name] * (code[:, None] == code)
    same = rows["subject"].to_numpy()[:, None] == rows["subject"].to_numpy()
    visits = rows["visit"].to_numpy() - 1
    for arm, S in result.residual_covariance.items():
        mine = (rows["arm"] == arm).to_numpy()
        V += np.asarray(S)[np.ix_(visits, visits)] * same * np.outer(mine, mine)
    X, Vi = np.column_stack([np.ones(n), rows["x"]]), np.linalg.inv(V)
    r = rows["y"].to_numpy() - X @ result.fe_params.to_numpy()
    value = np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ Vi @ X)[1] + r @ Vi @ r
    assert result.criterion == pytest.approx(value + (n - 2) * np.log(2 * np.pi), abs=1e-8)
    new = rows.assign(subject=999)
    sizes = result.predict(new, include_re=False, interval="prediction")["se"] ** 2
    own = [
        result.residual_covariance[a].iloc[v, v] for a, v in zip(rows["arm"], visits, strict=True)
    ]
    fixed = np.einsum("ij,jk,ik->i", X, result.fe_cov, X)
    np.testing.assert_allclose(sizes - fixed, own + V[0, 0] - own[0], atol=1e-9)
    given = result.predict(rows, conditional=True, se=True)
    np.testing.assert_allclose(given, result.predict(conditional=True, se=True), atol=1e-9)
    result.save(tmp_path / "fit")
    loaded = interlace.load(tmp_path / "fit")
    assert loaded.criterion == pytest.approx(result.criterion, rel=1e-12)


@pytest.mark.filterwarnings("ignore::interlace.SingularFitWarning")
@pytest.mark.parametrize("asked", ["us(v | s)", "cs(v | s)", "toep(v | s)", "us(v | s, by=arm)"])
def test_structures_that_have_room_for_effects_already(asked: str) -> None:
    residual = asked.replace("v |", "visit |").replace("| s", "| subject")
    with pytest.raises(InterlaceError, match="room for all or some of the random effects"):
        interlace.fit("y ~ x + (1 | subject)", frame(), residual=residual)
    # A slope along what differs between subjects is nothing that a structure has room for.
    assert interlace.fit("y ~ x + (0 + x | subject)", frame(), residual=residual).converged


def test_too_many_shared_effects_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from interlace.model import structured_sums

    monkeypatch.setattr(structured_sums, "_MOST_SHARED", 10)
    with pytest.raises(InterlaceError, match="site: 8 levels x 1, rater: 6 levels x 1"):
        fitted("crossed").update(method="ML")
