"""Families with several auxiliary predictors: derivatives, sums to one, gradients, extremes."""

import numpy as np
import pytest
from scipy.integrate import quad

from glmm.models import STRUCTURES, gradient_error, point, rows_of
from glmm.test_families import close
from interlace.glmm.counted import BetaBinomial
from interlace.glmm.families import Binomial, Gamma, NegativeBinomial, Poisson
from interlace.glmm.heavy import StudentT
from interlace.glmm.laplace import Laplace
from interlace.glmm.links import Logit, LogLog, Probit
from interlace.glmm.mixed_laws import law_at
from interlace.glmm.ordinal import Ordinal
from interlace.glmm.parts import parts_of
from interlace.glmm.problem import problem_of, unit_of
from interlace.glmm.quadrature import Quadrature
from interlace.glmm.tweedie import Tweedie
from interlace.glmm.working import working_rows
from interlace.glmm.zeros import Hurdle, Inflated, Truncated

COUNTS, SOME = np.array([0.0, 1.0, 4.0, 40.0]), np.array([0.0, 1.0, 3.0, 5.0])
LABELS = ("low", "some", "more", "high")
CASES = [
    *((Truncated(b), COUNTS[1:]) for b in (Poisson(), NegativeBinomial(), NegativeBinomial(1))),
    *((Inflated(b), COUNTS) for b in (Poisson(), NegativeBinomial(), NegativeBinomial(1))),
    *((Inflated(b), SOME) for b in (Binomial(), BetaBinomial())),
    *((Hurdle(b), COUNTS) for b in (Truncated(), Truncated(NegativeBinomial()), Gamma())),
    *((StudentT(df), COUNTS - 2.0) for df in (None, 5.0)),
    *((BetaBinomial(link), SOME) for link in (Logit(), Probit(), LogLog())),
    *((Tweedie(power), np.array([0.0, 0.3, 2.0, 30.0])) for power in (None, 1.3)),
    *((Ordinal(link, LABELS), np.arange(1.0, 5.0)) for link in (Logit(), Probit(), LogLog())),
]
ETA = np.array([-2.1, -0.4, 0.6, 1.3])


def trials_of(family):
    return 5.0 if "binomial" in family.name.replace("negative-binomial", "") else 1.0


def name(case):
    family = case[0]
    extra = [getattr(family, k, None) for k in ("df", "power")]
    return f"{family.name}-{family.link.name}{''.join(str(e) for e in extra if e)}"


@pytest.mark.parametrize("start", [-1.2, 0.7])
@pytest.mark.parametrize("case", CASES, ids=map(name, CASES))
def test_derivatives_are_those_of_the_likelihood(case, start):
    family, values = case
    y, eta = (m.ravel() for m in np.meshgrid(values, ETA))
    trials, K = np.full_like(y, trials_of(family)), len(family.predictors)
    omega = start + 0.9 * np.arange(K)[:, None] + np.zeros_like(y)
    c, s = family.curve(y, trials, eta, omega), family.slope(y, trials, eta, omega)
    close(c.g, lambda e: family.curve(y, trials, e, omega).l, eta)
    close(-c.W, lambda e: family.curve(y, trials, e, omega).g, eta)
    close(c.dW, lambda e: family.curve(y, trials, e, omega).W, eta)
    for k in range(K):

        def at(o, k=k):
            moved = omega.copy()
            moved[k] = o
            return family.curve(y, trials, eta, moved), family.slope(y, trials, eta, moved)

        for own, which in ((s.l, "l"), (s.g, "g"), (s.W, "W")):
            close(own[k], lambda o, w=which, a=at: getattr(a(o)[0], w), omega[k])
        for j in range(K):
            close(s.second[j, k], lambda o, j=j, a=at: a(o)[1].l[j], omega[k])


@pytest.mark.parametrize("case", CASES, ids=map(name, CASES))
def test_likelihoods_sum_to_one_and_are_those_of_the_law(case):
    family, values = case
    size, K = trials_of(family), len(family.predictors)
    omega = 0.3 + 0.9 * np.arange(K)[:, None]

    def density(v):
        y, one = np.atleast_1d(np.asarray(v, dtype=float)), np.ones_like(np.atleast_1d(v), float)
        wide = omega + 0.0 * y
        l = family.curve(y, size * one, 0.4 * one, wide).l + family.constant(y, size * one)
        return np.exp(l)

    law = law_at(family, np.array([0.4]), omega, size)
    if law.support == "counts":
        whole = np.arange(values[0] if values[0] > 0 else 0.0, 6.0 if size > 1 else 2000.0)
        whole = family.scores if isinstance(family, Ordinal) else whole
        p = density(whole)
        np.testing.assert_allclose(p.sum(), 1.0, atol=1e-9)
        tall = np.array([float(law.cdf(np.array([v]))[0]) for v in whole[:6]])
        np.testing.assert_allclose(np.cumsum(p)[:6], tall, atol=1e-9)
        mean = whole @ p / size
    else:
        low, zero = (-np.inf, 0.0) if law.support == "any" else (0.0, float(density(0.0)[0]))
        below = quad(lambda v: density(v)[0], low, 2.0, limit=200)[0] + zero
        above = quad(lambda v: density(v)[0], 2.0, np.inf, limit=200)[0]
        assert below + above == pytest.approx(1.0, abs=1e-6)
        assert law.cdf(np.array([2.0]))[0] == pytest.approx(below, abs=1e-6)
        assert law.sf(np.array([2.0]))[0] == pytest.approx(above, abs=1e-6)
        mean = quad(lambda v: v * density(v)[0], low, np.inf, limit=400)[0]
    assert law.mean[0] == pytest.approx(mean, rel=1e-4)


def problem(case, structure, seed, x_in_parts=False):
    """A problem whose responses are drawn from the family."""
    family, _ = case
    rng = np.random.default_rng(seed)
    rows = rows_of(structure, rng)
    n, size = len(rows.y), trials_of(family)
    effect = 0.4 * rng.normal(size=rows.terms[0].l)[rows.codes[0]] + 0.3 * rows.X[:, 1]
    K = len(family.predictors)
    omega = 0.2 + 0.8 * np.arange(K)[:, None] + np.zeros(n)
    y = law_at(family, effect, omega, size).draw(rng)
    columns = {}
    if x_in_parts and not isinstance(family, Ordinal):
        columns = {k: (("Intercept", "x"), rows.X) for k in family.predictors}
    working = working_rows(rows, unit_of(family, y, np.full(n, size)))
    return problem_of(
        family,
        working,
        y,
        trials=np.full(n, size),
        weights=rng.uniform(0.5, 2.0, n) if seed % 2 else None,
        auxiliary=parts_of(family, n, working.p, columns),
    )


@pytest.mark.parametrize("index", range(len(CASES)), ids=map(name, CASES))
@pytest.mark.parametrize("singular", [False, True], ids=["regular", "singular"])
def test_gradients_are_those_of_the_values(index, singular):
    structure = STRUCTURES[index % 5]
    made = problem(CASES[index], structure, index, x_in_parts=singular)
    with np.errstate(all="ignore"):  # as in the search: trial steps are checked
        x = point(made, np.random.default_rng(index), singular)
    assert gradient_error(Laplace(), made, x) < 1e-8
    if structure in ("scalar", "slope", "diagonal"):
        assert gradient_error(Quadrature(3), made, x) < 1e-8


def test_ordered_categories_keep_their_digits_in_the_tails():
    omega = np.array([[0.0], [1e-3], [40.0]])
    for link in (Logit(), Probit(), LogLog()):
        family = Ordinal(link, LABELS)
        for y in family.scores:
            for eta in (-30.0, -3.0, 3.0, 8.0):
                found = family.curve(np.array([y]), np.ones(1), np.array([eta]), omega)
                assert np.isfinite(found.l).all()
                assert found.W >= 0.0


def test_series_of_small_dispersions_are_those_of_many_terms():
    family, one = Tweedie(1.5), np.ones(1)
    found = [
        float(family.curve(np.array([y]), one, np.log([y]), np.array([[np.log(phi)]])).l[0])
        for y, phi in ((50.0, 1e-3), (50.0, 1e-4))
    ]
    # a density near its mean is nearly normal with variance phi mu^1.5
    for value, phi in zip(found, (1e-3, 1e-4), strict=True):
        normal = -0.5 * np.log(2.0 * np.pi * phi * 50.0**1.5)
        assert value - np.log(50.0) == pytest.approx(normal, abs=1e-2)
