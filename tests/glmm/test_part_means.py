"""Means of zeros, of all responses and of ordered categories beside glmmTMB, clmm and emmeans."""

import functools
import warnings

import numpy as np
import pandas as pd
import pytest

import interlace
from glmm.cases import golden, load
from glmm.test_wider import GOLDEN, fitted
from interlace import InterlaceError

ZEROS = [n for n, c in GOLDEN.items() if n != "versions" and "offset" not in c["formula"]]
ZEROS = [name for name in ZEROS if GOLDEN[name].get("emmeans")]
ORDINAL = golden("ordinal")
CATEGORIES = [name for name in ORDINAL if name != "versions"]
MEANS = [name for name in CATEGORIES if "emmeans" in ORDINAL[name]]
EXACT = ("wine_logit", "wine_probit")  # others as clmm leaves them
# With a complementary log-log link clmm's second derivatives are off by several per cent: those of
# the own gradients are in a test of their own.
ROUGH = ("wine_cloglog", "soup_cloglog")
MODES = ("latent", "linear.predictor", "cum.prob", "exc.prob", "prob", "mean.class")


def ordered(case):
    data = load(case["data"]).copy()
    for name, levels in (("rating", "r1 r2 r3 r4 r5"), ("sure", "c1 c2 c3 c4 c5 c6")):
        if name in data:
            data[name] = pd.Categorical(data[name], levels.split(), ordered=True)
    if "prod" in data:
        data["prod"] = pd.Categorical(data["prod"], ["Ref", "Test"])
    return data


@functools.cache
def categories(name):
    case = ORDINAL[name]
    options = {"weights": case["weights"]} if case.get("weights") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return interlace.fit(
            case["formula"], ordered(case), family="ordinal", link=case["link"], **options
        )


def aligned(table, part, name):
    """Values and standard errors of a table in the order of a stored one."""
    keys = list(part["labels"])
    plain = table[keys].astype(str).replace(r"\b[rc](?=\d)", "", regex=True)
    wanted = list(zip(*(part["labels"][k] for k in keys), strict=True))
    rows = [list(map(tuple, plain.to_numpy())).index(one) for one in wanted]
    assert len(table) == len(rows)
    return table[name].to_numpy()[rows], table["se"].to_numpy()[rows]


def close(table, part, name, rtol=1e-5, errors_too=True):
    value, se = aligned(table, part, name)
    errors = np.array(part["se"], dtype=float)
    assert np.abs((value - np.array(part["estimate"], dtype=float)) / errors).max() < rtol
    if errors_too:
        np.testing.assert_allclose(se, errors, rtol=rtol)


# ------------------------------------------------------------------ zeros


@pytest.mark.parametrize("name", ZEROS)
def test_means_of_parts_are_glmm_tmb_s(name):
    result, stored = fitted(name), GOLDEN[name]["emmeans"]
    specs = stored["specs"].replace("~", "").strip()
    close(result.emmeans(specs, component="mean").table, stored["mean"], "response")
    for component in ("cond", "zi"):
        if component in stored:
            link = result.emmeans(specs, component=component)
            close(link.table, stored[component], "emmean")
            mapped = result.emmeans(specs, component=component, type="response")
            close(mapped.table, stored[f"{component}_response"], "response")


def test_means_of_zeros_are_compared_as_odds():
    result = fitted("hurdle_nbinom2")
    table = result.component_table().loc["zero-inflation"]
    pairs = result.emmeans("ft", by="sex", component="zero", type="response").contrasts()
    female = table.loc["ft[T.Satiated]"]
    assert pairs.table.loc[0, "ratio"] == pytest.approx(np.exp(-female["estimate"]))
    assert "Odds ratios" in str(pairs)
    tests = result.emmeans(["ft", "sex"], component="zero").joint_tests()
    interaction = table.loc["ft[T.Satiated]:sex[T.Male]"]
    assert tests.loc["ft:sex", "F"] == pytest.approx(interaction["statistic"] ** 2)


def test_a_mean_of_all_responses_is_their_prediction():
    result = fitted("zip_plain")
    grid = {"ft": ["Deprived"], "sex": ["Male"], "atime": [0.5], "Nest": ["none"]}
    mean = result.emmeans(["ft", "sex"], at={k: v for k, v in grid.items() if k != "Nest"},
                          component="mean").table  # fmt: skip
    predicted = result.predict(grid, include_re=False, se=True)
    assert mean["response"].item() == pytest.approx(predicted["prediction"].item())
    assert mean["lower"].item() > 0.0


def test_only_what_the_zeros_read_is_in_their_grid():
    result = fitted("zip_plain")
    assert len(result.emmeans("ft", component="zero").table) == 2
    with pytest.raises(InterlaceError, match="do not read 'sex'"):
        result.emmeans("sex", component="zero")


# ------------------------------------------------------------------ ordered categories


@pytest.mark.parametrize("name", CATEGORIES)
def test_fits_of_ordered_categories_are_clmm_s(name):
    """clmm stops up to 1e-5 above the optimum, and its second derivatives are differences."""
    result, case = categories(name), ORDINAL[name]
    above = 2.0 * (result.llf - case["logLik"])
    assert -1e-7 < above < 1e-5
    own = np.concatenate((result.thresholds, result.fe_params))
    errors = np.concatenate((result.component_table()["se"], result.fe_bse))
    estimate, se = (np.array(list(case[k].values())) for k in ("coefficients", "se"))
    exact = name in EXACT
    assert np.abs((own - estimate) / se).max() < (1e-5 if exact else 1e-3)
    if name not in ROUGH:
        np.testing.assert_allclose(errors, se, rtol=1e-5 if exact else 1e-2)


def test_second_derivatives_are_differences_of_the_gradient():
    estimate = categories("wine_cloglog").estimate
    found, x, h = estimate.approximation, estimate.x, 1e-4
    columns = []
    for step in h * np.eye(len(x)):
        ends = [found(estimate.problem, estimate.problem.unpack(x + s * step), estimate.u).gradient
                for s in (1.0, -1.0)]  # fmt: skip
        columns.append((ends[0] - ends[1]) / (2.0 * h))
    assert np.abs(np.array(columns) - estimate.hessian).max() < 1e-6 * np.abs(columns).max()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MEANS)
def test_modes_of_means_are_emmeans_s(name, mode):
    result, stored = categories(name), ORDINAL[name]["emmeans"][mode]
    if name in ROUGH and mode not in ("latent", "linear.predictor"):
        pytest.skip("emmeans takes the other of the two links")
    rtol = 1e-5 if name in EXACT else 1e-2
    for part in stored.values():
        factors = [k for k in part["labels"] if k not in ("cut", "rating", "sure")]
        table = result.emmeans(factors, mode=mode).table
        value = next(k for k in ("emmean", "probability", "mean_class") if k in table)
        close(table, part, value, rtol, name not in ROUGH)


@pytest.mark.parametrize("name", [n for n in MEANS if n not in ROUGH])
def test_tests_of_terms_are_emmeans_s(name):
    result, stored = categories(name), ORDINAL[name]["joint"]
    rtol = 1e-5 if name in EXACT else 1e-2
    terms = [term.strip() for term in stored["model term"]]
    joint = result.joint_tests().loc[terms]
    np.testing.assert_allclose(joint["F"], stored["F.ratio"], rtol=1e-4, atol=1e-3)
    table = result.anova(3)
    factors = [t for t in terms if "age" not in t]
    ratio = (table["Chisq"] / table["Df"]).loc[factors]
    np.testing.assert_allclose(ratio, joint.loc[factors, "F"], rtol=rtol)
    second = result.anova(2)
    largest = terms[-1] if ":" in terms[-1] else None
    if largest:
        assert second.loc[largest, "Chisq"] == pytest.approx(table.loc[largest, "Chisq"])


def test_tests_of_terms_do_not_depend_on_contrasts():
    data = ordered(ORDINAL["wine_logit"])
    text = "rating ~ C(temp, contr.sum) * C(contact, contr.helmert) + (1 | judge)"
    other = interlace.fit(text, data, family="ordinal")
    for kind in (2, 3):
        np.testing.assert_allclose(
            other.anova(kind)["Chisq"], categories("wine_logit").anova(kind)["Chisq"], rtol=1e-5
        )
    smaller = categories("wine_logit").update("rating ~ temp + contact + (1 | judge)")
    second = categories("wine_logit").anova(2)
    # Type II of main effects: nearly the test in the model without the interaction.
    np.testing.assert_allclose(
        second.loc[["temp", "contact"], "Chisq"], smaller.anova(2)["Chisq"], rtol=0.2
    )


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
def test_likelihoods_are_integrals_over_the_groups(link):
    """By quadrature here, beside Simpson's rule over every judge's effect."""
    data = ordered(ORDINAL["wine_logit"])
    result = interlace.fit(
        "rating ~ temp + contact + (1 | judge)", data, family="ordinal", link=link, quadrature=25
    )
    sd = result.variance_components["judge"] ** 0.5
    eta = result.predict(include_re=False, type="link")
    u = np.linspace(-9.0, 9.0, 2001)
    total = 0.0
    for judge in data["judge"].unique():
        rows = np.flatnonzero(data["judge"] == judge)
        omega = np.broadcast_to(result.thresholds.to_numpy()[:, None], (4, len(u)))
        P = [result.family.probabilities(eta[i] + sd * u, omega) for i in rows]
        code = data["rating"].cat.codes.to_numpy()
        product = np.prod([p[:, code[i]] for p, i in zip(P, rows, strict=True)], axis=0)
        density = np.exp(-0.5 * u**2) / np.sqrt(2.0 * np.pi)
        total += np.log((product * density).sum() * (u[1] - u[0]))
    assert result.llf == pytest.approx(total, abs=1e-7)


def test_categories_make_groups_unless_they_are_named():
    result = categories("wine_logit")
    found = result.emmeans("temp", mode="probability")
    assert found.by == ("rating",)
    np.testing.assert_allclose(found.table.groupby("temp")["probability"].sum(), 1.0)
    pairs = found.contrasts().table
    assert list(pairs["rating"]) == ["r1", "r2", "r3", "r4", "r5"]
    np.testing.assert_allclose(pairs["estimate"].sum(), 0.0, atol=1e-12)
    within = result.emmeans("rating | temp", mode="probability")
    assert within.by == ("temp",)
    assert list(within.table["rating"][:5]) == ["r1", "r2", "r3", "r4", "r5"]
    assert ((found.table["lower"] > 0.0) & (found.table["upper"] < 1.0)).all()
    with pytest.raises(InterlaceError, match="do not read 'nothing'"):
        result.emmeans("nothing", mode="probability")


def test_probabilities_of_means_are_predictions():
    result = categories("soup_logit")
    grid = {"prod": ["Ref", "Test"], "day": ["d1", "d2"], "age": [30.0, 30.0], "resp": ["?", "?"]}
    predicted = result.predict(grid, include_re=False, type="probability").to_numpy()
    found = result.emmeans(["prod", "day"], at={"age": 30}, mode="probability").table
    for i in range(2):
        rows = (found["prod"] == grid["prod"][i]) & (found["day"] == grid["day"][i])
        np.testing.assert_allclose(found.loc[rows, "probability"], predicted[i])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"component": "mean"}, "component= is for other families"),
        ({"type": "response"}, "is mode='probability' of each"),
        ({"mode": "chances"}, "mode must be one of 'latent'"),
        ({"mode": "probability", "robust": "CR0"}, "robust= is for means of the linear"),
        ({"mode": "probability", "integrate": True}, "whose means are those of a typical group"),
        ({"robust": "CR0"}, "have no robust= covariance"),
    ],
)
def test_what_means_of_categories_do_not_have(options, message):
    with pytest.raises(InterlaceError, match=message):
        categories("wine_logit").emmeans("temp", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "response"}, "may be of all responses, component='mean'"),
        ({"mode": "latent"}, "mode= is for ordered categories"),
        ({"component": "all"}, "component must be 'conditional', 'zero' or 'mean'"),
        ({"component": "mean", "mode": "latent"}, "of different families: give one"),
    ],
)
def test_what_means_of_zeros_do_not_have(options, message):
    with pytest.raises(InterlaceError, match=message):
        fitted("zip_plain").emmeans("ft", **options)
    with pytest.raises(InterlaceError, match="needs a model with zero_inflation"):
        fitted("disp_beta").emmeans("period", component="zero")


# ------------------------------------------------------------------ tests of other coefficients


def test_tests_and_intervals_have_auxiliary_coefficients():
    result = fitted("zinb2")
    table = result.component_table().loc["zero-inflation"]
    name = "zero-inflation:ft[T.Satiated]"
    one = result.wald_test(f"{name} = 0")
    assert one.statistic == pytest.approx(table.loc["ft[T.Satiated]", "statistic"] ** 2)
    joint = result.wald_test([{name: 1.0}, {"ft[T.Satiated]": 1.0}])
    J = np.zeros((2, len(result.fe_params) + 5))
    J[0, len(result.fe_params) + 2] = J[1, 1] = 1.0
    V = J @ result.estimate.joint_covariance @ J.T
    b = np.array([table.loc["ft[T.Satiated]", "estimate"], result.fe_params["ft[T.Satiated]"]])
    assert joint.num_df == 2
    assert joint.statistic == pytest.approx(b @ np.linalg.solve(V, b) / 2.0)
    limits = result.conf_int(parm=["size", name, "sex[T.Male]"])
    assert list(limits.index) == ["sex[T.Male]", "size", name]
    np.testing.assert_allclose(limits.loc[name], table.loc["ft[T.Satiated]", ["lower", "upper"]])
    assert np.sqrt(limits.loc["size"].prod()) == pytest.approx(result.dispersion)
    with pytest.raises(InterlaceError, match="robust= is for fixed effects"):
        result.wald_test(f"{name} = 0", robust="CR0")


def test_thresholds_are_tested_and_have_profiles():
    result = categories("wine_probit")
    names = [f"threshold:{a}" for a in result.thresholds.index]
    equal = result.wald_test(f"{names[1]} - 2*{names[2]} + {names[3]} = 0")
    assert 0.0 < equal.p_value < 1.0
    wald = result.conf_int(parm=names)
    table = result.component_table()
    np.testing.assert_allclose(wald, table[["lower", "upper"]])
    profile = result.conf_int(method="profile", parm=names[0])
    width = wald.loc[names[0]].diff().iloc[1]
    assert abs(profile.loc[names[0]].diff().iloc[1] / width - 1.0) < 0.3
