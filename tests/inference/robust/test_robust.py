"""Cluster-robust covariances against the formulas in full, in all designs, and their errors."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace.inference.robust.clusters import clusters_of
from interlace.inference.robust.sandwich import Robust, plain_pieces, scores_of


def frame(seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = 240
    school = rng.integers(12, size=n)
    room = school * 3 + rng.integers(3, size=n)
    item = rng.integers(9, size=n)
    x, z = rng.normal(size=n), rng.normal(size=12)[school]
    y = (
        x
        + rng.normal(size=12)[school]
        + rng.normal(size=36)[room]
        + rng.normal(size=9)[item]
        + rng.normal(size=n)
        + x * rng.normal(size=12)[school]
    )
    return pd.DataFrame(
        {
            "y": y,
            "x": x,
            "z": z,
            "school": school,
            "room": room,
            "item": item,
            "w": rng.uniform(0.5, 2.0, n),
            "region": school % 5,
            "off": rng.normal(size=n),
        }
    )


DESIGNS = {
    "intercept": ("y ~ x + z + (1 | school)", {}),
    "slope": ("y ~ x + z + (x | school)", {}),
    "nested": ("y ~ x + z + (1 | school) + (1 | room)", {}),
    "nested_slope": ("y ~ x + z + (x | school) + (0 + x | room)", {}),
    "weights": ("y ~ x + z + (x | school)", {"weights": "w"}),
    "offset": ("y ~ x + z + (1 | school) + (1 | room)", {"offset": "off", "weights": "w"}),
    "redundant": ("y ~ x + z + {2 * x} + (1 | school)", {}),
}


@pytest.fixture(params=DESIGNS)
def result(request):
    formula, extra = DESIGNS[request.param]
    if request.param == "redundant":
        with pytest.warns(interlace.RankDeficiencyWarning):
            return interlace.fit(formula, frame(), **extra)
    return interlace.fit(formula, frame(), **extra)


def power(S: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(S)
    raised = np.where(values > 1e-10 * values.max(), np.abs(values) ** exponent, 0.0)
    return (vectors * raised) @ vectors.T


def in_full(result, kind: str, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Covariance and degrees of freedom of the coefficients, with matrices of all rows."""
    design, estimate = result.design, result.estimate
    X = design.fixed(estimate.A.names)
    n, p = X.shape
    weights = np.ones(n) if design.weights is None else design.weights
    V = np.diag(1.0 / weights)
    for Z, T in zip(design.sparse, estimate.user_templates, strict=True):
        full = Z.toarray() @ np.kron(np.eye(Z.shape[1] // len(T)), T)
        V += full @ full.T
    V *= result.scale
    W = np.linalg.inv(V)
    M = np.linalg.inv(X.T @ W @ X)
    e = design.response - X @ estimate.beta
    residual = np.eye(n) - X @ M @ X.T @ W
    G = []
    for c in np.unique(codes):
        i = codes == c
        Vi, Wi = V[np.ix_(i, i)], W[np.ix_(i, i)]
        if kind == "CR2":
            root = power(Vi, 0.5)
            A = root @ power(root @ (Vi - X[i] @ M @ X[i].T) @ root, -0.5) @ root
        elif kind == "CR3":
            A = np.linalg.inv(np.eye(i.sum()) - X[i] @ M @ X[i].T @ Wi)
        else:
            A = np.eye(i.sum())
        G.append(M @ X[i].T @ Wi @ A @ np.eye(n)[i])
    G = np.array(G)  # clusters, p, n
    scores = G @ e
    m = len(G)
    factor = {"CR1": m / (m - 1), "CR1S": m * (n - 1) / ((m - 1) * (n - p))}.get(kind, 1.0)
    S = residual @ V @ residual.T
    df = []
    for j in range(p):
        B = G[:, j] @ S @ G[:, j].T
        df.append(np.trace(B) ** 2 / (B**2).sum())
    return factor * scores.T @ scores, np.array(df)


@pytest.mark.parametrize("kind", ["CR0", "CR1", "CR1S", "CR2", "CR3"])
def test_formulas_in_full(result, kind: str) -> None:
    ours = result.coef_table(robust=kind, cluster="school")
    vcov, df = in_full(result, kind, frame()["school"].to_numpy())
    np.testing.assert_allclose(ours["se"], np.sqrt(np.diag(vcov)), rtol=1e-6)
    np.testing.assert_allclose(ours["df"], df, rtol=1e-6)


def test_larger_clusters_than_groups() -> None:
    result = interlace.fit("y ~ x + z + (1 | school)", frame())
    region = frame()["region"].to_numpy()
    for cluster in ("region", region, pd.Series(region), list(region)):
        ours = result.coef_table(robust="CR2", cluster=cluster)
        vcov, df = in_full(result, "CR2", region)
        np.testing.assert_allclose(ours["se"], np.sqrt(np.diag(vcov)), rtol=1e-6)
        np.testing.assert_allclose(ours["df"], df, rtol=1e-6)


def test_the_outermost_factor_is_the_cluster_unless_named() -> None:
    result = interlace.fit("y ~ x + (1 | school) + (1 | room)", frame())
    by_default = result.cov_params(robust="CR2")
    pd.testing.assert_frame_equal(by_default, result.cov_params(robust="CR2", cluster="school"))


def test_several_ways_add_and_subtract() -> None:
    result = interlace.fit("y ~ x + (1 | school) + (1 | item)", frame())
    design, X = result.design, result.design.fixed(result.estimate.A.names)
    scores = scores_of(design, result.estimate)
    rows = scores.weighted @ np.linalg.inv(result.estimate.A.basis.fixed[:-1, :-1])
    rows = rows * scores.e[:, None]
    M = result.fe_cov / result.scale
    data = frame()
    total = np.zeros((2, 2))
    ways = [data["school"], data["item"], data["school"] * 100 + data["item"]]
    for sign, codes in zip((1, 1, -1), ways, strict=True):
        sums = pd.DataFrame(rows).groupby(codes.to_numpy()).sum().to_numpy()
        m = len(sums)
        total += sign * m / (m - 1) * sums.T @ sums
    expected = M @ total @ M
    assert np.linalg.eigvalsh(expected).min() > 0 and X.shape[1] == 2
    ours = result.cov_params(robust="CR1", cluster=["school", "item"])
    np.testing.assert_allclose(ours, expected, rtol=1e-8)
    assert (result.coef_table(robust="CR1", cluster=["school", "item"])["df"] == 8.0).all()


def test_every_verb_takes_it() -> None:
    result = interlace.fit("y ~ x + z + (1 | school)", frame(), ddf="satterthwaite")
    options = {"robust": "CR2", "cluster": "school"}
    table = result.coef_table(**options)
    intervals = result.conf_int(**options)
    np.testing.assert_array_equal(intervals.to_numpy(), table[["lower", "upper"]].to_numpy())
    test = result.wald_test("x = 0", **options)
    np.testing.assert_allclose(
        [test.statistic, test.den_df], [table["statistic"]["x"] ** 2, table["df"]["x"]]
    )
    slope = result.emtrends("x", **options).table
    np.testing.assert_allclose(slope[["se", "df"]], table.loc[["x"], ["se", "df"]], rtol=1e-6)
    plain = result.coef_table("normal", **options)
    assert np.isinf(plain["df"]).all() and (plain["se"] == table["se"]).all()


def test_a_cluster_that_alone_knows_a_coefficient_is_left_out() -> None:
    data = frame().assign(only=lambda d: (d["school"] == 3).astype(float))
    result = interlace.fit("y ~ x + only + (1 | school)", data)
    for kind in ("CR2", "CR3"):
        assert np.isfinite(result.coef_table(robust=kind)["se"]).all()


def test_terms_without_variance_cross_nothing() -> None:
    data = frame().assign(other=np.arange(240) % 7)
    data["y"] -= data.groupby("other")["y"].transform("mean")
    with pytest.warns(interlace.SingularFitWarning):
        result = interlace.fit("y ~ x + (1 | school) + (1 | other)", data)
    with_other = result.coef_table(robust="CR2", cluster="school")
    without = interlace.fit("y ~ x + (1 | school)", data).coef_table(robust="CR2")
    pd.testing.assert_frame_equal(with_other, without, rtol=1e-4)


def test_square_root_of_independent_residuals_is_there_too() -> None:
    """The other CR2, mmrm's: what a fit with a residual covariance takes."""
    result = interlace.fit("y ~ x + z + (1 | school)", frame())
    scores = scores_of(result.design, result.estimate)
    (way,) = clusters_of(result, "school")
    other = Robust(scores, plain_pieces(scores, way, power=0.5)).vcov
    ours = result.cov_params(robust="CR2", cluster="school").to_numpy()
    np.testing.assert_allclose(other, ours, rtol=0.05)


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"robust": "CR4"}, "CR0"),
        ({"robust": "CR2", "cluster": "schol"}, "did you mean 'school'"),
        ({"robust": "CR2", "cluster": "item"}, "not independent.*CR1"),
        ({"robust": "CR2", "cluster": [1, 2, 3]}, "3 values"),
        ({"robust": "CR2", "ddf": "kenward-roger"}, "leave ddf out"),
        ({"cluster": "school"}, "robust='CR2'"),
        ({"robust": "CR2", "cluster": "one"}, "two at least"),
        ({"robust": "CR2", "cluster": "gap"}, "missing in 1"),
    ],
)
def test_refusals(options, message: str) -> None:
    data = frame().assign(one=1, gap=frame()["school"].where(frame().index > 0))
    result = interlace.fit("y ~ x + (1 | school)", data)
    with pytest.raises(interlace.InterlaceError, match=message):
        result.cov_params(**options)


def test_crossed_factors_are_named_together() -> None:
    result = interlace.fit("y ~ x + (1 | school) + (1 | item)", frame())
    for options, message in [
        ({"robust": "CR2"}, "crossed"),
        ({"robust": "CR1", "cluster": "school"}, "occur in several"),
        ({"robust": "CR2", "cluster": ["school", "item"]}, "CR1"),
        ({"robust": "CR1", "cluster": ["school", "region"]}, "add it to cluster"),
    ]:
        with pytest.raises(interlace.InterlaceError, match=message):
            result.coef_table(**options)


def test_rows_are_needed() -> None:
    sums = interlace.cross_products("y ~ x + (1 | school)", frame())
    result = interlace.fit("y ~ x + (1 | school)", sums)
    with pytest.raises(interlace.InterlaceError, match="robust covariance needs the rows"):
        result.coef_table(robust="CR0")
    with pytest.raises(interlace.InterlaceError, match="Wald intervals"):
        interlace.fit("y ~ x + (1 | school)", frame()).conf_int(method="profile", robust="CR0")


def test_order_of_rows_does_not_matter() -> None:
    data = frame()
    tables = []
    for order in itertools.islice(iter([data, data.sample(frac=1.0, random_state=1)]), 2):
        result = interlace.fit("y ~ x + z + (x | school)", order)
        tables.append(result.coef_table(robust="CR2", cluster="school"))
    pd.testing.assert_frame_equal(*tables, rtol=1e-5)
