"""Profile likelihood: reference limits, derivatives, invariants, bad input."""

from __future__ import annotations

import functools
import itertools
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize as scipy_minimize

import fits
import interlace
from dense import FORMULAS, Dense, design, frame, identity
from interlace.design.design import assemble
from interlace.design.formula import parse
from interlace.errors import InterlaceError
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import estimate_theta
from interlace.inference.profiles import constrained, held
from interlace.inference.profiles.profile import parameter_names, profile, profile_limits
from interlace.plots import plot_profile
from interlace.plots import profile as profile_plot
from interlace.sums.crossprod import cross_products
from reference import cases

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

SHAPES = ["slope", "uncorrelated", "crossed slopes", "nested in three levels", "factor slopes"]
CASES = sorted(p.name.split(".")[0] for p in (cases.HERE / "golden").glob("*.profile.json"))


@functools.cache
def golden(name: str):
    """Limits by parameter, in lme4's names and order."""
    stored = json.loads((cases.HERE / "golden" / f"{name}.profile.json").read_text())
    limits = stored["profile_ci_95_refined"]
    return limits["param"], np.array([limits["lower"], limits["upper"]], dtype=float).T


@functools.cache
def fitted(name: str, method: str = "REML"):
    return fits.of_case(name, method).estimate


@functools.cache
def sleep_profile():
    return profile(fitted("sleepstudy_slope"))


# ------------------------------------------------------------------ reference values


@pytest.mark.parametrize("name", CASES)
def test_limits_are_those_of_direct_root_finding_on_lme4s_deviance(name):
    names, expected = golden(name)
    expected = expected.copy()
    correlations = [i for i, n in enumerate(names) if n.startswith("cor_")]
    capped = np.abs(expected[correlations]) >= 0.9999  # the reference stops short of 1
    ends = np.sign(expected[correlations])
    expected[correlations] = np.where(capped, ends, expected[correlations])
    limits = profile_limits(fitted(name))
    n_fixed = fitted(name).A.p
    assert [cases.r_name(n) for n in limits.index[:n_fixed]] == names[:n_fixed]
    kinds = [n.split("_")[0] for n in limits.index[n_fixed:]]
    assert kinds == [n.split("_")[0] for n in names[n_fixed:]]
    width = np.diff(expected, axis=1)
    difference = (limits.to_numpy() - expected) / width
    present = np.isfinite(difference)
    assert present.any()
    assert np.abs(difference[present]).max() < 1e-4


@pytest.mark.parametrize("name", ["sleepstudy_slope", "orthodont", "pastes", "machines_slopes"])
@pytest.mark.parametrize("level", [0.3, 0.8, 0.98])
def test_interpolated_limits_are_those_found_directly(name, level):
    curves = stored_profile(name)
    direct = profile_limits(fitted(name), level=level)
    difference = (curves.conf_int(level) - direct).to_numpy()
    assert np.abs(difference / np.diff(direct.to_numpy(), axis=1)).max() < 1e-4


@functools.cache
def stored_profile(name):
    return profile(fitted(name))


# ------------------------------------------------------------------ derivatives


def paths(name: str, *, weighted: bool):
    """Every path of a small model at its ML estimate."""
    A = cross_products(design(name, weighted=weighted))
    estimate = estimate_theta(Criterion(A, reml=False))
    found = [constrained.CoefficientPath(estimate, j) for j in range(A.p)]
    for t, term in enumerate(A.terms):
        found += [held.deviation_path(estimate, t, a) for a in range(term.k)]
        pairs = [(a, b) for a in range(term.k) for b in range(a + 1, term.k) if term.correlated]
        found += [held.correlation_path(estimate, t, a, b) for a, b in pairs]
    return estimate, [p for p in (*found, held.sigma_path(estimate)) if p is not None]


def away(path, seed: int = 0):
    """A point off the estimate."""
    rng = np.random.default_rng(seed)
    return path.start + 0.5 * path.unit, path.free + 0.2 * rng.normal(size=len(path.free))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_paths_start_at_the_estimate(name, weighted):
    estimate, found = paths(name, weighted=weighted)
    for path in found:
        point = path.at(path.start, path.free)
        assert_allclose(point.value, estimate.value, rtol=1e-12)
        assert abs(point.slope) * path.unit < 1e-4


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_gradient_and_slope_are_derivatives(name, weighted):
    for path in paths(name, weighted=weighted)[1]:
        psi, phi = away(path)
        point, h = path.at(psi, phi), 1e-5

        def along(d, path=path, psi=psi, phi=phi, h=h):
            return (path.at(psi, phi + d).value - path.at(psi, phi - d).value) / (2 * h)

        differences = np.array([along(h * d) for d in np.eye(len(phi))])
        assert_allclose(point.gradient, differences, atol=1e-6 * np.abs(differences).max())
        step = h * path.unit
        slope = (path.at(psi + step, phi).value - path.at(psi - step, phi).value) / (2 * step)
        assert_allclose(point.slope, slope, rtol=1e-5, atol=1e-5 / path.unit)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_second_derivatives_of_a_coefficients_path(name, weighted):
    estimate, _ = paths(name, weighted=weighted)
    path = constrained.CoefficientPath(estimate, 0)
    psi, phi = away(path)
    point, step = path.at(psi, phi), 1e-5 * path.unit
    above, below = path.at(psi + step, phi), path.at(psi - step, phi)
    cross = (above.gradient - below.gradient) / (2 * step)
    assert_allclose(point.cross, cross, rtol=1e-5, atol=1e-6 * np.abs(cross).max())
    assert_allclose(point.curvature, (above.slope - below.slope) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", [n for n in SHAPES if n != "factor slopes"])
def test_a_held_coefficient_is_a_model_without_its_column(name, weighted):
    """Value, gradient and Newton matrix: those of ``y - psi x_j`` on the other columns."""
    estimate, _ = paths(name, weighted=weighted)
    path = constrained.CoefficientPath(estimate, 1)
    psi, phi = away(path)
    formula = FORMULAS[name].replace("x", "1", 1)
    data = frame().assign(moved=lambda d: psi * d["x"])
    offset_design = assemble(
        parse(formula), data, weights="w" if weighted else None, offset="moved"
    )
    other = Criterion(cross_products(offset_design), reml=False)
    # The responses differ in scale only by the working basis; the templates do not feel it.
    expected, point = other(phi), path.at(psi, phi)
    assert_allclose(point.value, expected.value, rtol=1e-11)
    assert_allclose(point.gradient, expected.gradient, rtol=1e-6, atol=1e-8)
    assert_allclose(point.newton_matrix, expected.newton_matrix, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_the_deviance_of_absolute_templates_is_that_of_the_dense_covariance(name, weighted):
    d = design(name, weighted=weighted)
    estimate, _ = paths(name, weighted=weighted)
    path = held.sigma_path(estimate)
    psi, phi = away(path)
    point = path.at(psi, phi)
    A, scale = estimate.A, estimate.A.basis.response_scale
    bases = A.basis.random
    users = [B @ T for B, T in zip(bases, point.evaluation.factor.templates, strict=True)]
    dense = Dense(d, A, identity(A), users, reml=False)
    sigma = np.exp(psi) / scale
    log_w = 0.0 if d.weights is None else np.log(d.weights).sum()
    expected = np.linalg.slogdet(dense.V)[1] - log_w + dense.r2 / sigma**2
    expected += A.n * np.log(2 * np.pi * sigma**2)
    assert_allclose(point.value, expected, rtol=1e-11)


@pytest.mark.parametrize("name", SHAPES)
def test_newton_matrix_is_that_of_the_profiled_deviance_once_sigma_is_eliminated(name):
    """At the best sigma, the Schur complement of ``log sigma`` is the criterion's matrix."""
    estimate, _ = paths(name, weighted=True)
    path = held.sigma_path(estimate)
    rng = np.random.default_rng(3)
    templates = [T + 0.2 * rng.normal(size=T.shape) for T in estimate.templates]
    templates = estimate.criterion.unpack(estimate.criterion.pack(templates))
    evaluation = estimate.criterion.at(templates)
    sigma = np.sqrt(evaluation.factor.r2 / estimate.A.n)
    unit = path.map.J[0, 0]
    phi = estimate.criterion.pack(templates) * sigma / unit
    point = path.at(float(np.log(sigma)), phi)
    M, shrink = point.outer_newton_matrix, sigma
    schur = M[:-1, :-1] - np.outer(M[:-1, -1], M[-1, :-1]) / M[-1, -1]
    # tau = sigma T and the profiled sigma moves with T; at zero slope nothing else enters.
    J = np.diag(np.append(np.full(len(phi), shrink), 1.0))
    J[:-1, -1] = estimate.criterion.pack(templates) * sigma
    g = point.outer_gradient
    T = J.T @ M @ J
    T[:-1, -1] += shrink * g[:-1]
    T[-1, :-1] += shrink * g[:-1]
    T[-1, -1] += float(g[:-1] @ J[:-1, -1])
    profiled = T[:-1, :-1] - np.outer(T[:-1, -1], T[-1, :-1]) / T[-1, -1]
    assert_allclose(profiled, evaluation.newton_matrix, rtol=1e-8, atol=1e-8)
    assert schur.shape == profiled.shape


@pytest.mark.parametrize("name", ["slope", "factor slopes", "nested slopes"])
def test_maps_hold_what_they_say(name):
    """Standard deviations and correlations of the user's columns, whatever ``phi``."""
    A = cross_products(design(name))
    estimate = estimate_theta(Criterion(A, reml=False))
    for t, term in enumerate(A.terms):
        for a in range(term.k):
            path = held.deviation_path(estimate, t, a)
            psi, phi = away(path, seed=a)
            point = path.at(psi, phi)
            rows = A.basis.random[t] @ point.evaluation.factor.templates[t]
            size = np.linalg.norm(rows[a]) * np.exp(point.log_sigma)
            assert_allclose(size, path.map.length * np.sinh(psi), rtol=1e-9, atol=1e-15)
            for b in range(a + 1, term.k):
                path = held.correlation_path(estimate, t, a, b)
                if path is None:
                    continue
                psi, phi = away(path, seed=b)
                factor = path.at(psi, phi).evaluation.factor
                first, second = (A.basis.random[t] @ factor.templates[t])[[a, b]]
                cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
                assert_allclose(cosine, np.sin(psi), rtol=1e-9)


@pytest.mark.parametrize("name", SHAPES)
def test_map_derivatives(name):
    for path in paths(name, weighted=False)[1][:-1]:
        if not isinstance(path, constrained.TemplatePath):
            continue
        psi, phi = away(path)
        xi, h = np.append(phi, psi), 1e-6
        g = np.random.default_rng(5).normal(size=len(path.map(xi)))
        eye = h * np.eye(len(xi))
        J = np.array([path.map(xi + d) - path.map(xi - d) for d in eye]).T / (2 * h)
        assert_allclose(path.map.jacobian(xi), J, atol=1e-8)
        second = [g @ (path.map.jacobian(xi + d) - path.map.jacobian(xi - d)) for d in eye]
        found = np.zeros((len(xi), len(xi))) + path.map.second(xi, g)
        assert_allclose(found, np.array(second) / (2 * h), atol=1e-7)


# ------------------------------------------------------------------ invariants


def test_the_table_is_what_it_says():
    table = sleep_profile().table
    assert list(table.columns) == ["parameter", "value", "zeta", "deviance", "at_estimate"]
    for name, rows in table.groupby("parameter"):
        assert (np.diff(rows["value"]) > 0).all()
        assert (np.diff(rows["zeta"]) > 0).all()
        assert rows["zeta"].iloc[0] < -2.57 and rows["zeta"].iloc[-1] > 2.57
        best = rows[rows["at_estimate"]]
        assert len(best) == 1
        assert_allclose(best["value"].iloc[0], sleep_profile().estimates[name])
    assert_allclose(table["deviance"], sleep_profile().min_deviance + table["zeta"] ** 2)
    assert (table["deviance"] >= sleep_profile().min_deviance).all()


def test_after_reml_the_ml_estimates_are_in_the_middle():
    ml = fitted("sleepstudy_slope", "ML")
    assert_allclose(sleep_profile().min_deviance, ml.value, rtol=1e-11)
    assert_allclose(sleep_profile().estimates["sigma"], ml.sigma, rtol=1e-6)
    assert_allclose(sleep_profile().estimates["Days"], ml.beta[1], rtol=1e-6)


def test_wider_levels_give_wider_intervals():
    levels = (0.5, 0.9, 0.95, 0.99)
    widths = [np.diff(sleep_profile().conf_int(level), axis=1) for level in levels]
    assert all((b > a).all() for a, b in itertools.pairwise(widths))


def test_units_and_origins_do_not_matter():
    data = interlace.datasets.load("sleepstudy")
    moved = data.assign(Reaction=10 * data["Reaction"] + 1e4, Days=1000 * data["Days"] + 1e5)
    formula = "Reaction ~ Days + (Days | Subject)"
    before = profile_limits(interlace.fit(formula, data).estimate)
    after = profile_limits(interlace.fit(formula, moved).estimate)
    for name, factor in {"Days": 0.01, "sd_Days|Subject": 0.01, "sigma": 10.0}.items():
        width = np.diff(before.loc[name])[0] * factor
        assert_allclose(after.loc[name], before.loc[name] * factor, atol=2e-5 * width)


def test_scaling_a_column_scales_its_limits():
    data = interlace.datasets.load("sleepstudy")
    scaled = data.assign(Reaction=10 * data["Reaction"], Days=1000 * data["Days"])
    formula = "Reaction ~ Days + (Days | Subject)"
    before = profile_limits(interlace.fit(formula, data).estimate)
    after = profile_limits(interlace.fit(formula, scaled).estimate)
    factors = np.array([10.0, 0.01, 10.0, 1.0, 0.01, 10.0])[:, None]
    width = np.diff(before, axis=1) * factors
    assert (np.abs(after - before * factors) < 1e-5 * width).all(axis=None)


def test_a_variance_estimated_as_zero_has_its_lower_limit_there():
    curves = profile(fitted("dyestuff2"), parm="theta_")
    assert curves.conf_int().iloc[0, 0] == 0.0
    assert curves.estimates["sd_Intercept|Batch"] == 0.0
    assert curves.conf_int(0.2).iloc[0, 0] == 0.0


def test_a_correlation_without_variance_can_be_anything():
    data = frame().assign(y=lambda d: d["y"] + 0 * d["x"])
    rng = np.random.default_rng(8)
    data["y"] = rng.normal(size=len(data))
    fit = interlace.fit("y ~ x + (1 + x | h)", data, method="ML")
    degenerate = profile_limits(fit.estimate, parm="theta_")
    assert degenerate.loc["cor_x.Intercept|h"].tolist() == [-1.0, 1.0]


def limits_and_checks(seed: int, n: int, name: str, *, weighted: bool, parm: str):
    """Limits of one parameter, the ML fit, and the path and scale of the parameter."""
    data = frame(n=n, seed=seed)
    A = cross_products(assemble(parse(FORMULAS[name]), data, weights="w" if weighted else None))
    estimate = estimate_theta(Criterion(A, reml=True))
    limits = profile_limits(estimate, parm=parm).loc[parm].to_numpy()
    return limits, profile(estimate, parm=parm)


def least_rise(seed: int, n: int, name: str, *, weighted: bool, rho: float) -> float:
    """Least rise of the dense deviance over both deviations at a correlation, by brute force."""
    data = frame(n=n, seed=seed)
    d = assemble(parse(FORMULAS[name]), data, weights="w" if weighted else None)
    A = cross_products(d)
    best = estimate_theta(Criterion(A, reml=False)).value

    def deviance(sds):
        a, b = sds
        T = np.array([[a, 0.0], [b * rho, b * np.sqrt(1.0 - rho**2)]])
        return Dense(d, A, identity(A), [T], reml=False).value

    starts = [(0.5, 0.5), (1.0, 0.1), (0.4, 0.25), (0.5, 0.0)]
    bounds = [(0.0, 5.0), (0.0, 5.0)]
    return min(scipy_minimize(deviance, s, bounds=bounds).fun for s in starts) - best


def test_where_a_correlation_has_two_minima_the_lower_one_counts():
    """Far out a standard deviation of zero fits best: the deviance is level from there on."""
    case = {"seed": 1, "n": 100, "name": "slope", "weighted": True}
    limits, curve = limits_and_checks(**case, parm="cor_x.Intercept|g")
    assert limits[0] == -1.0
    assert_allclose(least_rise(**case, rho=limits[1]), 1.959964**2, atol=1e-4)
    zeta = curve.table["zeta"].to_numpy()
    assert (np.diff(zeta) > -1e-5).all()


def test_a_local_minimum_of_the_fit_is_left_when_profiling_finds_a_lower_one():
    estimate = fitted("pastes", "ML")
    criterion = estimate.criterion
    stuck = replace(estimate, templates=(estimate.templates[0], np.zeros((1, 1))))
    assert stuck.value > estimate.value + 0.1
    assert stuck.criterion is criterion
    limits, expected = (profile_limits(e, parm="theta_") for e in (stuck, estimate))
    assert_allclose(limits, expected, rtol=1e-5)


def test_a_profile_survives_pickling():
    again = pickle.loads(pickle.dumps(sleep_profile()))
    assert again.conf_int(0.9).equals(sleep_profile().conf_int(0.9))


# ------------------------------------------------------------------ choosing parameters


def test_parm_takes_names_and_groups():
    estimate = fitted("dyestuff")
    names = parameter_names(estimate)
    assert names == ["Intercept", "sd_Intercept|Batch", "sigma"]
    assert list(profile_limits(estimate, parm="beta_").index) == names[:1]
    assert list(profile_limits(estimate, parm="theta_").index) == names[1:]
    both = profile_limits(estimate, parm=["sigma", "Intercept"])
    assert list(both.index) == ["Intercept", "sigma"]
    curves = profile(estimate, parm="theta_")
    assert curves.names == names[1:]
    assert list(curves.conf_int(parm="sigma").index) == ["sigma"]


def test_an_unknown_parameter_is_refused():
    with pytest.raises(InterlaceError, match=r"unknown parameter 'Day': choose among 'Intercept'"):
        profile(fitted("sleepstudy_slope"), parm="Day")
    with pytest.raises(InterlaceError, match=r"unknown parameter 'sd': .* 'theta_' for all"):
        sleep_profile().conf_int(parm=["Days", "sd"])


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, 95])
def test_a_level_that_is_no_probability_is_refused(level):
    message = f"level must be strictly between 0 and 1, not {level}"
    for call in (
        lambda: profile(fitted("dyestuff"), level=level),
        lambda: profile_limits(fitted("dyestuff"), level=level),
        lambda: sleep_profile().conf_int(level),
    ):
        with pytest.raises(InterlaceError, match=message):
            call()


def test_a_level_beyond_the_profile_is_refused():
    with pytest.raises(InterlaceError, match=r"out to level 0\.99, not to 0\.999: profile again"):
        sleep_profile().conf_int(0.999)


# ------------------------------------------------------------------ figure


def test_the_figure_has_a_facet_a_parameter_and_marks_limits_and_estimates():
    figure = plot_profile(sleep_profile())
    assert list(figure.data["parameter"].cat.categories) == sleep_profile().names
    limits = profile_plot._limits(sleep_profile(), 0.95, 1.959964)
    stored = np.sort(sleep_profile().conf_int().to_numpy().ravel())
    assert_allclose(np.sort(limits["value"]), stored)
    figure.draw()


def test_limits_that_are_ends_of_the_range_are_not_marked():
    limits = profile_plot._limits(profile(fitted("dyestuff2"), parm="theta_"), 0.95, 1.959964)
    assert len(limits) == 3  # the lower limit of the standard deviation is 0, no crossing


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("sd_Intercept|Subject", "sd_Intercept|Subject"),
        ("sd_Intercept|recipe:replicate", "sd_Intercept\n|recipe:replicate"),
        ("recipe[T.B]:temperature[T.185]", "recipe[T.B]:\ntemperature[T.185]"),
        ("cor_Machine[T.C].Machine[T.B]|Worker", "cor_Machine[T.C].\nMachine[T.B]\n|Worker"),
    ],
)
def test_long_labels_are_broken_where_names_end(name, label):
    assert profile_plot._wrapped(name) == label


# ------------------------------------------------------------------ progress


def test_progress_is_shown_when_asked_for_and_only_then(capsys):
    profile_limits(fitted("dyestuff"), progress=True)
    assert "profile" in capsys.readouterr().err
    profile_limits(fitted("dyestuff"))
    assert capsys.readouterr().err == ""
