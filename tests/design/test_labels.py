"""Rows are called by the data's own index, and values with an index are brought into its order."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import interlace
from interlace import InterlaceError, plots

N, GONE = 60, (3, 17, 50)
FORMULA = "y ~ x + (1 | g)"


def numbers() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(6), 10)
    x = rng.normal(size=N)
    y = x + rng.normal(size=6)[g] + rng.normal(size=N)
    y[40] += 30.0
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{i}" for i in g], "w": rng.uniform(0.5, 2, N)})


def with_gaps() -> pd.DataFrame:
    data = numbers()
    data.loc[list(GONE), "x"] = np.nan
    return data


KEPT = np.delete(np.arange(N), GONE)
NAMES = np.array([f"row {i}" for i in range(N)])
PAIRS = pd.MultiIndex.from_arrays([np.arange(N) // 7, np.arange(N) % 7], names=["a", "b"])
# Data, and the labels of the rows used.
DATA: dict[str, tuple[Callable[[], Any], Any]] = {
    "nothing dropped": (numbers, pd.RangeIndex(N)),
    "dropped": (with_gaps, pd.Index(KEPT)),
    "named rows": (lambda: with_gaps().set_index(NAMES), pd.Index(NAMES[KEPT])),
    "filtered": (lambda: with_gaps()[5:], pd.Index(KEPT[KEPT >= 5])),
    "shuffled": (lambda: with_gaps().iloc[::-1], pd.Index(KEPT[::-1])),
    "repeated labels": (
        lambda: numbers().set_index(np.arange(N) // 2),
        pd.Index(np.arange(N) // 2),
    ),
    "dates": (
        lambda: with_gaps().set_index(pd.date_range("2020", periods=N)),
        pd.date_range("2020", periods=N)[KEPT],
    ),
    "two levels": (lambda: with_gaps().set_index(PAIRS), PAIRS[KEPT]),
    "polars": (lambda: pl.DataFrame(with_gaps(), nan_to_null=True), pd.Index(KEPT)),
    "pyarrow": (lambda: pa.table(with_gaps()), pd.Index(KEPT)),
    "dict": (lambda: with_gaps().to_dict("list"), pd.Index(KEPT)),
    "dict of series": (
        lambda: dict(with_gaps().set_index(NAMES).items()),
        pd.Index(NAMES[KEPT]),
    ),
}


def frames(result: Any) -> Iterator[tuple[str, pd.DataFrame]]:
    for kind in (False, True, "pearson", "studentized"):
        yield f"resid {kind}", interlace.hlm_resid(result, standardized=kind)
        yield f"marginal {kind}", interlace.hlm_resid(result, type="marginal", standardized=kind)
    yield "leverage", interlace.leverage(result)
    yield "influence", interlace.hlm_influence(result)
    yield "augment", interlace.hlm_augment(result)
    for verb in (
        interlace.cooks_distance,
        interlace.mdffits,
        interlace.covtrace,
        interlace.covratio,
    ):
        yield verb.__name__, verb(result)
    yield "predict", result.predict(interval="confidence")


@pytest.mark.parametrize("name", DATA)
def test_frames_of_rows_carry_the_index(name: str) -> None:
    make, labels = DATA[name]
    result = interlace.fit(FORMULA, make())
    for what, table in frames(result):
        assert table.index.equals(labels), what
    resid = interlace.hlm_resid(result)[".resid"]
    assert_array_equal(resid, result.resid)
    assert resid.abs().idxmax() == (labels[np.abs(result.resid).argmax()])
    assert isinstance(result.resid, np.ndarray)
    assert isinstance(result.fittedvalues, np.ndarray)
    assert isinstance(result.predict(), np.ndarray)


@pytest.mark.parametrize("name", [n for n in DATA if n not in ("polars", "pyarrow")])
def test_augment_joins_by_the_index(name: str) -> None:
    make, labels = DATA[name]
    result = interlace.fit(FORMULA, make())
    if name != "dict of series":
        assert result.augment().index.equals(labels)
    held = interlace.fit(FORMULA, make()).refit(result.design.y + result.design.X[:, 1])
    assert held.augment().index.equals(labels)


def test_exact_influence_carries_the_index() -> None:
    result = interlace.fit(FORMULA, with_gaps().set_index(NAMES))
    table = interlace.hlm_influence(result, approx=False)
    assert list(table.index) == list(NAMES[KEPT])
    assert table["cooksd"].idxmax() == "row 40"


@pytest.mark.parametrize("name", ["dropped", "named rows", "two levels", "filtered"])
def test_figures_name_rows_by_the_index(name: str) -> None:
    make, labels = DATA[name]
    result = interlace.fit(FORMULA, make())
    worst = str(labels.tolist()[np.abs(result.resid).argmax()])
    drawn = [
        plots.plot_qq(result),
        plots.plot_influence(interlace.hlm_influence(result), cutoff="internal"),
        plots.plot_influence(
            interlace.cooks_distance(result).to_frame("cooksd"), cutoff="internal"
        ),
        plots.dotplot_diag(interlace.cooks_distance(result), "internal", modify="boxplot"),
    ]
    for figure in drawn[:3]:
        texts = [m.geom.data for m in figure.layers if type(m.geom).__name__ == "geom_text"]
        assert worst in [label.strip() for text in texts for label in text["label"]]
    if name in ("dropped", "filtered"):
        assert drawn[2].labels.x == "Row of the data"
        assert drawn[2].layers[0].mapping is not None


MESSAGES: dict[str, tuple[Callable[[pd.DataFrame], Any], str]] = {
    "infinite": (
        lambda d: interlace.fit(
            FORMULA, d.assign(x=np.where(d["w"].index == d.index[20], np.inf, d["x"]))
        ),
        "the column 'x' is infinite in row {} ",
    ),
    "expression": (
        lambda d: interlace.fit("y ~ np.log(v) + (1 | g)", d.assign(v=np.arange(N) != 20)),
        "'np.log(v)' is -inf in row {} ",
    ),
    "weights": (
        lambda d: interlace.fit(FORMULA, d, weights=np.where(np.arange(N) == 20, -1.0, 1.0)),
        "weights must be positive, but row {} ",
    ),
    "weights of new rows": (
        lambda d: interlace.fit(FORMULA, d, weights="w").predict(
            d.assign(w=np.where(np.arange(N) == 20, -1.0, 1.0)), interval="prediction"
        ),
        "weights must be positive, but row {} ",
    ),
    "refit": (
        lambda d: interlace.fit(FORMULA, d).refit(
            np.where(KEPT == 20, np.nan, d["y"].to_numpy()[KEPT])
        ),
        "the new response is nan in row {} ",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_name_rows_by_the_index(name: str) -> None:
    wrong, message = MESSAGES[name]
    for data, label in ((with_gaps(), "20"), (with_gaps().set_index(NAMES), "'row 20'")):
        with pytest.raises(InterlaceError) as error, np.errstate(all="ignore"):
            wrong(data)
        assert message.format(label) in str(error.value)


def test_models_of_other_rows_name_the_row() -> None:
    one, two = numbers().set_index(NAMES), numbers().set_index(NAMES)
    one.loc["row 20", "x"], two.loc["row 30", "x"] = np.nan, np.nan
    models = [interlace.fit(FORMULA, data, method="ML") for data in (one, two)]
    with pytest.raises(InterlaceError, match=r"row 'row 20' .* is missing in only one"):
        interlace.anova(*models)


# Series -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["weights", "offset"])
@pytest.mark.parametrize(
    "name", ["dropped", "named rows", "filtered", "shuffled", "dates", "two levels"]
)
def test_arguments_are_aligned(argument: str, name: str) -> None:
    data = DATA[name][0]()
    right = interlace.fit(FORMULA, data, **{argument: "w"}).criterion
    shuffled = data["w"].sample(frac=1.0, random_state=3)
    assert_allclose(interlace.fit(FORMULA, data, **{argument: shuffled}).criterion, right)
    more = pd.concat([shuffled, pd.Series([9.0], index=shuffled.index[:1].map(lambda v: (v, "x")))])
    if name != "two levels":
        assert_allclose(interlace.fit(FORMULA, data, **{argument: more}).criterion, right)
    assert_allclose(
        interlace.fit(FORMULA, data, **{argument: data["w"].to_numpy()}).criterion, right
    )
    many = interlace.fit_many("~ x + (1 | g)", data, ["y"], **{argument: shuffled})
    assert_allclose(many.glance()["REMLcrit"], right)


class Labelled:
    """A series of another library: values and their index."""

    def __init__(self, values: Any, index: Any) -> None:
        self.values, self.index = values, index

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self.values, dtype=dtype)


def test_series_of_other_libraries_are_aligned() -> None:
    data = with_gaps().set_index(NAMES)
    weights = Labelled(data["w"].to_numpy()[::-1], NAMES[::-1])
    right = interlace.fit(FORMULA, data, weights="w").criterion
    assert_allclose(interlace.fit(FORMULA, data, weights=weights).criterion, right)


REFUSED: dict[str, tuple[Callable[[], Any], Callable[[pd.Series], pd.Series], str]] = {
    "missing labels": (
        numbers,
        lambda w: w[4:],
        "weights has no value for row 0 of the data (4 of 60",
    ),
    "other labels": (
        lambda: numbers().set_index(NAMES),
        lambda w: w.reset_index(drop=True),
        "weights has no value for row 'row 0' of the data",
    ),
    "repeated in the series": (
        numbers,
        lambda w: pd.concat([w, w[:1]]),
        "the index of weights has the label 0 more than once",
    ),
    "repeated in the data": (
        lambda: numbers().set_index(np.arange(N) // 2),
        lambda w: w.iloc[::-1],
        "has the label 29 more than once",
    ),
    "polars data": (
        lambda: pl.DataFrame(numbers()),
        lambda w: w.iloc[::-1],
        "weights has an index, but the data has none",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_series_that_cannot_be_aligned_are_refused(name: str) -> None:
    make, change, message = REFUSED[name]
    data = make()
    w = pd.Series(np.asarray(data["w"]), index=getattr(data, "index", None))
    with pytest.raises(InterlaceError) as error:
        interlace.fit(FORMULA, data, weights=change(w))
    assert message in str(error.value)
    assert "to_numpy()" in str(error.value)


@pytest.mark.parametrize("data", [pl.DataFrame(numbers()), numbers().to_dict("list")])
def test_series_without_labels_go_by_position(data: Any) -> None:
    w = pd.Series(numbers()["w"].to_numpy())
    right = interlace.fit(FORMULA, data, weights="w").criterion
    assert_allclose(interlace.fit(FORMULA, data, weights=w).criterion, right)


def test_repeated_labels_in_the_same_order_are_no_matter() -> None:
    data = numbers().set_index(np.arange(N) // 2)
    right = interlace.fit(FORMULA, data, weights="w").criterion
    assert_allclose(interlace.fit(FORMULA, data, weights=data["w"]).criterion, right)


@pytest.mark.parametrize("name", DATA)
def test_refit_aligns(name: str) -> None:
    make, labels = DATA[name]
    data = make()
    result = interlace.fit(FORMULA, data)
    response = result.design.y**2
    right = result.refit(response).criterion
    used = pd.Series(response, index=labels)
    assert_allclose(result.refit(used).criterion, right)
    if labels.is_unique:
        assert_allclose(result.refit(used.sample(frac=1, random_state=1)).criterion, right)
    if isinstance(data, pd.DataFrame):
        assert_allclose(result.refit(data["y"] ** 2).criterion, right)
        if labels.is_unique and len(labels) < len(data):
            with pytest.raises(InterlaceError, match="y has no value for row"):
                result.refit(used[1:])
    elif result.design.index is None:
        assert_allclose(result.refit(pd.Series(response)).criterion, right)


def test_offsets_of_new_rows_are_aligned() -> None:
    data = numbers().set_index(NAMES)
    result = interlace.fit(FORMULA, data, offset=data["w"])
    new = data[10:20]
    right = result.predict(new, offset=new["w"].to_numpy())
    assert_allclose(result.predict(new, offset=data["w"].iloc[::-1]), right)
    with pytest.raises(
        InterlaceError, match="offset has no value for row 'row 10' of the new data"
    ):
        result.predict(new, offset=data["w"][11:20])


def test_a_dict_of_series_is_aligned() -> None:
    data = numbers()
    mixed = {
        name: column.sample(frac=1, random_state=i) for i, (name, column) in enumerate(data.items())
    }
    right = interlace.fit(FORMULA, data, weights="w")
    assert_allclose(interlace.fit(FORMULA, mixed, weights="w").criterion, right.criterion)
    with pytest.raises(InterlaceError, match="'y' and 'x' of the data have different indexes"):
        interlace.fit(FORMULA, mixed | {"g": data["g"].to_numpy()})


def test_responses_of_fit_many_are_aligned() -> None:
    data = with_gaps().set_index(NAMES)
    responses = pd.DataFrame({"a": data["y"], "b": data["y"] ** 2})
    right = interlace.fit_many("~ x + (1 | g)", data, responses)
    other = interlace.fit_many("~ x + (1 | g)", data, responses.sample(frac=1, random_state=2))
    pd.testing.assert_frame_equal(other.table, right.table)
    result = other.result("b")
    assert list(interlace.leverage(result).index) == list(NAMES[KEPT])
    with pytest.raises(InterlaceError, match="responses has no value for row 'row 0'"):
        interlace.fit_many("~ x + (1 | g)", data, responses[1:])


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(N)), st.integers(0, N - 20))
def test_alignment_is_that_of_pandas(order: list[int], left_out: int) -> None:
    data = numbers().set_index(NAMES)
    part = data.iloc[np.random.default_rng(left_out).permutation(N)[left_out:]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a = interlace.fit(FORMULA, part, weights=data["w"].iloc[order])
        b = interlace.fit(FORMULA, part.assign(v=data["w"]), weights="v")
    assert_allclose(a.criterion, b.criterion, rtol=1e-12)
