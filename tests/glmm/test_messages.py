"""Bad input of generalised models: a message with the row, the value and the way out."""

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import InterlaceError, families


def frame(n=60, seed=1):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n // 6), 6)
    x = rng.normal(size=n)
    eta = 0.3 * x + 0.5 * rng.normal(size=n)[g]
    return pd.DataFrame(
        {
            "g": g.astype(str),
            "h": (np.arange(n) % 5).astype(str),
            "x": x,
            "yes": (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int),
            "size": rng.integers(2, 9, n),
            "count": rng.poisson(np.exp(eta + 1.0)),
            "cost": np.exp(eta) * rng.gamma(5.0, 0.2, n),
            "share": np.clip(0.5 + 0.1 * eta, 0.05, 0.95),
            "three": np.array(["a", "b", "c"])[np.arange(n) % 3],
            "hours": rng.uniform(1.0, 5.0, n),
        }
    )


def changed(column, row, value):
    d = frame()
    d[column] = d[column].astype(float)
    d.loc[row, column] = value
    return d


def rare(mean):
    return np.random.default_rng(1).poisson(np.clip(mean, 0.0, 50.0))


BINOMIAL, POISSON = {"family": "binomial"}, {"family": "poisson"}
BAD = {
    "half an event": (
        "count ~ x",
        changed("count", 17, 3.5),
        POISSON,
        r"'count' holds 3\.5 in row 17.*exposure=",
    ),
    "fewer than none": (
        "count ~ x",
        changed("count", 3, -1),
        {"family": "nbinom"},
        r"holds -1 in row 3.*counts events",
    ),
    "no events": ("count ~ x", frame().assign(count=0), POISSON, "is 0 in every row"),
    "neither 0 nor 1": ("yes ~ x", changed("yes", 5, 2), BINOMIAL, r"holds 2 in row 5.*trials="),
    "all yes": ("yes ~ x", frame().assign(yes=1), BINOMIAL, "is 1 in every row"),
    "all no": ("yes ~ x", frame().assign(yes=0), BINOMIAL, "is 0 in every row"),
    "three answers": ("three ~ x", frame(), BINOMIAL, r"3 categories \(a, b, c\)"),
    "more than trials": (
        "yes ~ x",
        frame().assign(size=1).assign(yes=lambda d: d.yes + 1),
        {**BINOMIAL, "trials": "size"},
        r"'yes' \(2\) exceeds trials 'size' \(1\) in row",
    ),
    "half a trial": (
        "yes ~ x",
        changed("size", 4, 2.5),
        {**BINOMIAL, "trials": "size"},
        r"trials must be positive whole numbers.*row 4",
    ),
    "no trial": (
        "yes ~ x",
        changed("size", 4, 0),
        {**BINOMIAL, "trials": "size"},
        r"trials must be positive whole",
    ),
    "uneven share": (
        "share ~ x",
        frame(),
        {**BINOMIAL, "trials": "size"},
        "not a whole number of successes",
    ),
    "trials of counts": (
        "count ~ x",
        frame(),
        {**POISSON, "trials": "size"},
        "trials= belongs to family='binomial'",
    ),
    "exposure of answers": (
        "yes ~ x",
        frame(),
        {**BINOMIAL, "exposure": "hours"},
        "exposure= is the offset",
    ),
    "exposure without log": (
        "count ~ x",
        frame(),
        {**POISSON, "exposure": "hours", "link": "sqrt"},
        "exposure= is the offset",
    ),
    "no exposure": (
        "count ~ x",
        changed("hours", 9, 0.0),
        {**POISSON, "exposure": "hours"},
        r"exposure must be positive, but row 9",
    ),
    "cost of nothing": (
        "cost ~ x",
        changed("cost", 2, 0.0),
        {"family": "gamma"},
        r"'cost' is 0 in 1 rows.*row 2.*hurdle",
    ),
    "negative cost": (
        "cost ~ x",
        changed("cost", 2, -1.0),
        {"family": "inverse-gaussian"},
        "is 0 or below in 1 rows",
    ),
    "whole share": (
        "share ~ x",
        changed("share", 8, 1.0),
        {"family": "beta"},
        r"holds 1 in row 8.*below 1",
    ),
    "negative mean": (
        "x ~ hours",
        frame().assign(x=lambda d: d.x - 9),
        {"family": "gaussian", "link": "log"},
        "needs a positive mean",
    ),
    "unknown family": ("count ~ x", frame(), {"family": "poison"}, "unknown family 'poison'"),
    "unknown link": ("count ~ x", frame(), {**POISSON, "link": "logit"}, "link='logit' is none of"),
    "one level": ("yes ~ x", frame().assign(g="a"), BINOMIAL, "has one level"),
    "degrees of freedom": (
        "yes ~ x",
        frame(),
        {**BINOMIAL, "ddf": "satterthwaite"},
        "ddf='satterthwaite' is for Gaussian",
    ),
    "theta0": ("yes ~ x", frame(), {**BINOMIAL, "theta0": [1.0]}, "theta0 is for Gaussian"),
    "iterative": (
        "yes ~ x",
        frame(),
        {**BINOMIAL, "solver": "iterative", "quadrature": 5},
        "quadrature is exact, one level at a time: leave solver='iterative' out",
    ),
    "REML iterative": (
        "yes ~ x",
        frame(),
        {**BINOMIAL, "solver": "iterative", "method": "REML"},
        "REML of generalised models needs solver='exact'",
    ),
    "no solver": ("yes ~ x", frame(), {**BINOMIAL, "solver": "fast"}, "solver must be"),
    "no tolerance": ("yes ~ x", frame(), {**BINOMIAL, "mc_tolerance": 0.0}, "mc_tolerance must"),
    "no prior": (
        "yes ~ x",
        frame(),
        {**BINOMIAL, "fixed_prior": 0.0},
        "fixed_prior must be a positive",
    ),
    "no nodes": (
        "yes ~ x",
        frame(),
        {**BINOMIAL, "quadrature": 0},
        "quadrature must be a number of nodes",
    ),
    "half a node": (
        "yes ~ x",
        frame(),
        {**BINOMIAL, "quadrature": 2.5},
        "quadrature must be a number of nodes",
    ),
    "negative weights": (
        "yes ~ x",
        frame().assign(hours=-1.0),
        {**BINOMIAL, "weights": "hours"},
        "weights must be positive",
    ),
    "trials of numbers": ("cost ~ x", frame(), {"trials": "size"}, "trials= is for other families"),
    "nodes of numbers": (
        "cost ~ x",
        frame(),
        {"quadrature": 5},
        "quadrature= is for other families",
    ),
    "pure groups": (
        "pure ~ x",
        frame().assign(pure=lambda d: d.g.isin(["1", "4"])),
        BINOMIAL,
        "every level of 'g' is all 0 or all 1",
    ),
    "an answer a level": (
        "yes ~ x",
        frame().assign(g=lambda d: np.arange(len(d))),
        BINOMIAL,
        "every level of 'g' is all 0 or all 1",
    ),
    "trials of three rows": (
        "yes ~ x",
        frame(),
        {**BINOMIAL, "trials": np.ones(3)},
        "trials has 3 values, but the data 60 rows",
    ),
    "trials misspelt": ("yes ~ x", frame(), {**BINOMIAL, "trials": "sise"}, "did you mean 'size'"),
    "trials in words": (
        "yes ~ x",
        frame().assign(size="many"),
        {**BINOMIAL, "trials": "size"},
        "trials= must be numeric",
    ),
    "words for counts": ("three ~ x", frame(), POISSON, "'three' must be numeric"),
    "endless cost": (
        "cost ~ x",
        changed("cost", 4, np.inf),
        {"family": "gamma"},
        "'cost' is infinite in row 4",
    ),
    "endless offset": (
        "count ~ x",
        changed("hours", 4, np.inf),
        {**POISSON, "offset": "hours"},
        "'hours' is infinite in row 4",
    ),
    "endless weight": (
        "yes ~ x",
        changed("hours", 4, np.inf),
        {**BINOMIAL, "weights": "hours"},
        "'hours' is infinite in row 4",
    ),
    "weight of nothing": (
        "yes ~ x",
        changed("hours", 4, 0.0),
        {**BINOMIAL, "weights": "hours"},
        "weights must be positive, but row 4",
    ),
    "complex answers": ("yes ~ x", frame().assign(yes=1j), BINOMIAL, "holds complex numbers"),
    "one answer": (
        "answer ~ x",
        frame().assign(answer=pd.Categorical(["yes"] * 60)),
        BINOMIAL,
        r"has one category \(yes\): a binomial response has two",
    ),
    "one cost": ("cost ~ x", frame().assign(cost=2.0), {"family": "gamma"}, "is constant"),
    "shares without trials": ("share ~ x", frame(), BINOMIAL, "give counts or proportions with"),
    "a coefficient a row": (
        "yes ~ C(i)",
        frame().assign(i=lambda d: np.arange(len(d))),
        BINOMIAL,
        "60 coefficients for 60 rows",
    ),
    "a class for a family": (
        "count ~ x",
        frame(),
        {"family": families.NegativeBinomial},
        "family must be a name",
    ),
    "a number for a link": ("yes ~ x", frame(), {**BINOMIAL, "link": 3}, "link=3 is none of"),
    "a number for a family's link": (
        "count ~ x",
        frame(),
        {"family": families.NegativeBinomial(link=3)},
        "link=3 is none of",
    ),
    "prior in words": (
        "yes ~ x",
        frame(),
        {**BINOMIAL, "fixed_prior": "2"},
        "fixed_prior must be a positive standard deviation, not '2'",
    ),
    "true nodes": (
        "yes ~ x",
        frame(),
        {**BINOMIAL, "quadrature": True},
        "quadrature must be a number of nodes",
    ),
    "too many nodes": (
        "yes ~ x",
        frame(),
        {**BINOMIAL, "quadrature": 200},
        "from 1 .Laplace. to 100, not 200",
    ),
    "no mean below the bound": (
        "count ~ x",
        frame().assign(count=lambda d: rare(np.exp(3.0 * d.x - 2.0))),
        {**POISSON, "link": "sqrt"},
        "link='sqrt' the random effects .* use another link",
    ),
    "a level a row": (
        "cost ~ x",
        frame().assign(g=lambda d: np.arange(len(d))),
        {"link": "log"},
        "as many levels",
    ),
}


BAD |= {
    "more events than digits": (
        "count ~ x",
        changed("count", 2, 2e12),
        POISSON,
        r"holds 2e\+12 in row 2.*counts above 1e\+12 leave a likelihood no digits",
    ),
    "more trials than digits": (
        "yes ~ x",
        changed("size", 2, 1e15),
        {**BINOMIAL, "trials": "size"},
        r"trials must be 1e\+12 at most, but row 2.*family='beta'",
    ),
    "R's pairs of counts": (
        "cbind(yes, size - yes) ~ x",
        frame(),
        BINOMIAL,
        "calls 'cbind'.*: write the successes as the response, and name the column of trials",
    ),
    "residuals of counts": (
        "count ~ x",
        frame(),
        {**POISSON, "residual": "ar1(h | g)"},
        "not family='poisson': leave it out",
    ),
    "R's name of zero inflation": (
        "count ~ x",
        frame(),
        {**POISSON, "ziformula": "~ 1"},
        'write zero_inflation="~ z"',
    ),
}


@pytest.mark.parametrize("case", BAD.values(), ids=list(BAD))
def test_bad_input_is_refused_in_words(case):
    formula, data, options, message = case
    with pytest.raises(InterlaceError, match=message):
        interlace.fit(formula, data, groups=None if "|" in formula else "g", **options)


def test_quadrature_needs_one_factor_and_few_columns():
    with pytest.raises(InterlaceError, match=r"quadrature=9 needs one grouping factor; .*has two"):
        interlace.fit("yes ~ x", frame(), groups=["g", "h"], family="binomial", quadrature=9)
    with pytest.raises(InterlaceError, match="at most 3 random effects a level; 'g' has 4"):
        interlace.fit(
            "count ~ x + (1 + x + hours + size | g)", frame(), family="poisson", quadrature=3
        )


def test_separated_rows_are_named():
    d = frame(240)
    d["arm"] = np.array(["a", "b", "c"])[np.arange(240) % 3]
    d.loc[d.arm == "c", "yes"] = 0
    with pytest.warns(interlace.SeparationWarning, match=r"every row with arm\[T\.c\] has yes = 0"):
        result = interlace.fit("yes ~ arm", d, groups="g", family="binomial")
    assert [one.name for one in result.separated] == ["arm[T.c]"]
    assert "arm[T.c] is -infinity" in str(result.summary())
    held = interlace.fit("yes ~ arm", d, groups="g", family="binomial", fixed_prior=2.5)
    assert abs(held.fe_params["arm[T.c]"]) < 10 and "prior" in str(held.summary())


@pytest.mark.filterwarnings("ignore:singular fit")
@pytest.mark.parametrize(
    ("formula", "make", "options", "message"),
    [
        (
            "yes ~ x",
            {"yes": lambda d: (d.x > 0).astype(int)},
            BINOMIAL,
            "along 'Intercept' and 'x': their",
        ),
        (
            "count ~ arm",
            {"count": lambda d: np.where(d.arm == "b", 0, d["count"])},
            POISSON,
            r"every row with arm\[T.b\] has count = 0",
        ),
        (
            "yes ~ arm",
            {"yes": lambda d: np.where(d.arm == "b", 1, d.yes)},
            {**BINOMIAL, "link": "probit"},
            r"every row with arm\[T.b\] has yes = 1",
        ),
    ],
    ids=["a number", "no events", "all yes"],
)
def test_separation_of_every_kind_is_named(formula, make, options, message):
    d = frame(120).assign(arm=np.array(["a", "b", "c"])[np.arange(120) % 3]).assign(**make)
    with pytest.warns(interlace.SeparationWarning, match=message):
        fit = interlace.fit(formula, d, groups="g", **options)
    assert fit.separated


@pytest.mark.filterwarnings("ignore:singular fit")
def test_an_optimum_at_the_bound_of_a_link_says_so():
    d = frame().assign(z=lambda d: 50.0 * d.x, count=lambda d: rare(np.exp(2.0 * d.x)))
    with pytest.warns(interlace.ConvergenceWarning, match=r"link='identity' means come to the bo"):
        interlace.fit("count ~ z", d, groups="g", family="poisson", link="identity")


@pytest.mark.filterwarnings("ignore:singular fit")
def test_what_is_legal_is_fitted():
    d = frame()
    answers = d.assign(yes=np.where(d.yes == 1, "yes", "no"))
    a = interlace.fit("yes ~ x", answers, groups="g", family="binomial")
    b = interlace.fit("yes ~ x", d.assign(yes=d.yes == 1), groups="g", family="binomial")
    assert a.llf == b.llf
    gaps = d.assign(hours=d.hours.where(d.index != 7))
    assert interlace.fit("yes ~ x", gaps, groups="g", family="binomial", weights="hours").nobs == 59
    huge = d.assign(count=d["count"] * 10_000_000)
    assert interlace.fit("count ~ x", huge, groups="g", family="nbinom").converged
    row = d.assign(i=np.arange(len(d)))
    assert interlace.fit("count ~ x", row, groups=["i", "g"], family="poisson").converged
    rate = interlace.fit("count ~ x", d, groups="g", family="poisson", exposure="hours")
    offset = interlace.fit("count ~ x + offset(log(hours))", d, groups="g", family="poisson")
    assert rate.llf == pytest.approx(offset.llf, abs=1e-9)
    np.testing.assert_allclose(rate.predict(d), rate.fittedvalues, rtol=1e-9)
    with pytest.raises(InterlaceError, match="has no scale"):
        assert rate.scale
    assert (
        interlace.fit("count ~ x", d, groups="g", family=families.NegativeBinomial(kind=1)).nparams
        == 4
    )


@pytest.mark.filterwarnings("ignore:singular fit")
def test_links_with_bounded_domains_begin_inside_them():
    d = frame().assign(count=lambda d: d["count"] + 4)
    for link in ("sqrt", "identity"):
        assert interlace.fit("count ~ x", d, groups="g", family="poisson", link=link).converged
    for family, link in (("gamma", "inverse"), ("gamma", "identity"), ("inverse-gaussian", "log")):
        assert interlace.fit("cost ~ x", d, groups="g", family=family, link=link).converged


@pytest.mark.filterwarnings("ignore:singular fit")
def test_separation_at_the_reference_level_names_the_level():
    """All coefficients are infinite then, though one level alone is at fault."""
    d = frame(120).assign(arm=np.array(["a", "b", "c"])[np.arange(120) % 3])
    d["yes"] = np.where(d.arm == "a", 0, d.yes)
    with pytest.warns(interlace.SeparationWarning, match="every row with arm = a has yes = 0: "):
        fit = interlace.fit("yes ~ arm", d, groups="g", family="binomial")
    assert {one.name for one in fit.separated} == {"Intercept", "arm[T.b]", "arm[T.c]"}
    with pytest.warns(interlace.SeparationWarning, match="every row with arm = a has yes = 1: "):
        interlace.fit("yes ~ arm", d.assign(yes=1 - d.yes), groups="g", family="binomial")


@pytest.mark.filterwarnings("ignore:the fit did not converge")
def test_a_slope_that_separates_every_level_says_that_its_variance_runs_off():
    d = frame(120)
    d["yes"] = ((d.x > 0) ^ (d.g.astype(int) % 2 == 0)).astype(int)
    with pytest.warns(interlace.SeparationWarning, match="'x' by 'g' has grown to .* leave 'x'"):
        interlace.fit("yes ~ 1 + (0 + x | g)", d, family="binomial")
    d["yes"] = (d.g.astype(int) % 2).where(d.index > 0, 1)  # one row alone is not like its level
    with pytest.warns(interlace.SeparationWarning, match="'Intercept' by 'g' has grown to"):
        interlace.fit("yes ~ 1", d, groups="g", family="binomial")


@pytest.mark.parametrize("size", [1e6, 1e8])
def test_rounding_of_large_counts_is_no_failure(size):
    """Where rounding hides what steps gain, the derivatives say that there is no more."""
    rng, g = np.random.default_rng(0), np.repeat(np.arange(30), 10)
    x = rng.normal(size=300)
    eta = 0.3 * x + 0.4 * rng.normal(size=30)[g] + 0.2 * rng.normal(size=300)
    d = pd.DataFrame({"g": g, "x": x, "y": np.round(size * np.exp(eta)), "log": eta})
    found = interlace.fit("y ~ x + (1 | g)", d, family="negative-binomial")
    assert found.converged
    small = interlace.fit(
        "y ~ x + (1 | g)", d.assign(y=np.round(1e4 * np.exp(eta))), family="negative-binomial"
    )
    assert found.fe_params["x"] == pytest.approx(small.fe_params["x"], abs=1e-3)
