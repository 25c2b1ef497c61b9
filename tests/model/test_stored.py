"""Results in files: what is read is what was written, and what is no such file is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import interlace
from damage import RESULT, crafted, damages, sealed, taken_apart
from dense import frame
from interlace import InterlaceError
from model.saved_models import ALL, LINEAR, NEEDS_ROWS, Result, fitted

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")


def again(result: Result, path: Path, *, rows: bool = True) -> Result:
    result.save(path / "m", rows=rows)
    return interlace.load(path / "m")


def same_numbers(one: Result, other: Result) -> None:
    # the sums of the same rows, added in another order, move the last bits
    assert_allclose(one.fe_params, other.fe_params, rtol=1e-9, atol=1e-12)
    assert_allclose(one.fe_bse, other.fe_bse, rtol=1e-8)
    assert_allclose(one.theta, other.theta, rtol=1e-9, atol=1e-12)
    assert_allclose(one.criterion, other.criterion, rtol=1e-9)
    for key, effects in one.random_effects.items():
        assert_allclose(effects, other.random_effects[key], rtol=1e-7, atol=1e-9)
        assert effects.index.equals(other.random_effects[key].index)


@pytest.mark.parametrize("name", ALL)
def test_what_is_read_is_what_was_saved(name: str, tmp_path: Path) -> None:
    result = fitted(name)
    found = again(result, tmp_path)
    assert type(found) is type(result) and found.data is None
    same_numbers(found, result)
    assert str(found.summary()) == str(result.summary())
    assert_allclose(found.fe_pvalues, result.fe_pvalues, rtol=1e-6, atol=1e-12)
    assert found.formula == result.formula and found.nobs == result.nobs
    assert found.n_dropped == result.n_dropped
    if result.design is not None:
        assert_allclose(found.resid, result.resid, rtol=1e-7, atol=1e-7)
        assert found.design.labels.tolist() == result.design.labels.tolist()


@pytest.mark.parametrize("name", LINEAR)
def test_without_rows(name: str, tmp_path: Path) -> None:
    result = fitted(name)
    found = again(result, tmp_path, rows=False)
    same_numbers(found, result)
    assert found.design is None and found.n_dropped == result.n_dropped
    rows = frame()[:3] if name != "sleep" else interlace.datasets.load("sleepstudy")[:3]
    beside = {"offset": np.zeros(3)} if name == "by label" else {}
    assert_allclose(found.predict(rows, **beside), result.predict(rows, **beside), rtol=1e-9)
    with pytest.raises(InterlaceError, match="rows"):
        _ = found.resid


@pytest.mark.parametrize("name", NEEDS_ROWS)
def test_what_needs_its_rows_says_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(InterlaceError, match=r"leave rows=False out$"):
        fitted(name).save(tmp_path / "m", rows=False)
    assert not list(tmp_path.iterdir())


def test_verbs_of_what_is_read(tmp_path: Path) -> None:
    found, result = again(fitted("by label"), tmp_path), fitted("by label")
    for verb in (
        lambda r: r.emmeans("f").table["emmean"],
        lambda r: r.anova(ddf="satterthwaite")["p"],
        lambda r: r.predict(interval="confidence")["upper"],
        lambda r: r.simulate(2, seed=1),
        lambda r: interlace.hlm_influence(r)["cooksd"],
    ):
        assert_allclose(np.asarray(verb(found)), np.asarray(verb(result)), rtol=1e-7)
    updated = found.update(". ~ . - x:f", data=_labelled(frame()))
    assert "x:f[T.f1]" not in updated.fe_params


def _labelled(data: pd.DataFrame) -> pd.DataFrame:
    labels = pd.date_range("2026-01-01", periods=len(data), tz="Europe/Berlin", name="day")
    return data.set_index(labels)


def test_generalised_models_go_on(tmp_path: Path) -> None:
    found, result = again(fitted("binomial"), tmp_path), fitted("binomial")
    y = interlace.datasets.load("cbpp")["incidence"].to_numpy()
    assert_allclose(found.refit(y).fe_params, result.refit(y).fe_params, rtol=1e-6)
    means = [r.emmeans("period", type="response").table["response"] for r in (found, result)]
    assert_allclose(*means, rtol=1e-8)


def test_a_file_is_small_and_no_pickle(tmp_path: Path) -> None:
    result = fitted("sleep")
    result.save(tmp_path / "rows")
    result.save(tmp_path / "sums", rows=False)
    sizes = [(tmp_path / name).stat().st_size for name in ("sums", "rows")]
    assert sizes[0] < sizes[1] < len(pickle.dumps(result))
    assert sum(path.suffix == ".tmp" for path in tmp_path.iterdir()) == 0


# ------------------------------------------------------------------ what cannot be saved


def test_functions_of_the_user_are_refused(tmp_path: Path) -> None:
    result = interlace.fit("y ~ x.map(float) + (1 | g)", frame())
    with pytest.raises(InterlaceError, match=r"'x.map\(float\)' cannot stand in a file"):
        result.save(tmp_path / "m")


def test_labels_of_several_types_are_refused(tmp_path: Path) -> None:
    data = frame()
    data.index = pd.Index([*range(len(data) - 1), "last"], dtype=object)
    with pytest.raises(InterlaceError, match="labels of the rows are of several types"):
        interlace.fit("y ~ x + (1 | g)", data).save(tmp_path / "m")


def test_files_of_another_kind(tmp_path: Path) -> None:
    interlace.cross_products("y ~ x + (1 | g)", frame()).save(tmp_path / "sums")
    with pytest.raises(InterlaceError, match=r"cross-products, not of a result: CrossProducts"):
        interlace.load(tmp_path / "sums")
    fitted("sleep").save(tmp_path / "result")
    with pytest.raises(InterlaceError, match=r"a result, not of cross-products: interlace.load"):
        interlace.CrossProducts.load(tmp_path / "result")
    (tmp_path / "text").write_bytes(b"hello")
    with pytest.raises(InterlaceError, match=r"is not a file of a result, or of another version"):
        interlace.load(tmp_path / "text")
    with pytest.raises(InterlaceError, match="cannot be read: No such file"):
        interlace.load(tmp_path / "none")


# ------------------------------------------------------------------ damaged, and made up


def outcome(content: bytes, path: Path) -> bool:
    """Whether a file is read: then all is as it should be, or it is refused."""
    path.write_bytes(content)
    try:
        found = interlace.load(path)
    except InterlaceError:
        return False
    found.save(path, rows=found.design is not None)
    str(found.summary())
    return True


FUZZED = ("contrasts", "by label", "binomial", "ordinal", "inflated", "us", "strata")


@pytest.mark.parametrize("name", FUZZED)
def test_damage_is_one_error(name: str, tmp_path: Path) -> None:
    fitted(name).save(tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    for content in damages(whole, 0, 60):
        (tmp_path / "m").write_bytes(content)
        with pytest.raises(
            InterlaceError,
            match=r"is corrupt or incomplete: save the result again|is not a file of a result",
        ):
            interlace.load(tmp_path / "m")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FUZZED)
def test_what_is_made_up_is_refused_or_is_a_result(name: str, tmp_path: Path) -> None:
    fitted(name).save(tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    read = sum(outcome(content, tmp_path / "m") for content in crafted(whole, 7, 40))
    assert read < 16  # settings, counts of evaluations and names that could be so


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("name", ALL)
def test_thousands_made_up(name: str, rows: bool, tmp_path: Path) -> None:
    if not rows and name not in LINEAR:
        rows = True
    fitted(name).save(tmp_path / "m", rows=rows)
    whole = (tmp_path / "m").read_bytes()
    read = sum(outcome(content, tmp_path / "m") for content in crafted(whole, 11, 1000))
    assert read < 300


CODE = "__import__('os').system('touch run')"


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h["options"].__setitem__("formula", ["text", f"y ~ {CODE} + (1 | g)"]),
        lambda h: h["options"].__setitem__("random", ["text", f"({CODE} | g)"]),
        lambda h: h["rows"]["encoding"]["formula"].__setitem__("fixed", CODE),
        lambda h: h["rows"]["encoding"]["formula"].__setitem__("response", CODE),
        lambda h: h["rows"]["encoding"]["sides"][1].__setitem__("text", CODE),
        lambda h: h["options"].__setitem__("solver", ["text", CODE]),
        lambda h: h.__setitem__("kind", CODE),
        lambda h: h.__setitem__("value", (1.0).hex()),
        lambda h: h["templates"].reverse(),
        lambda h: h["rows"]["codes"].reverse(),
    ],
)
def test_no_file_says_what_it_may_not(change, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    fitted("contrasts").save(tmp_path / "m")
    header, body = taken_apart((tmp_path / "m").read_bytes())
    before = json.dumps(header)
    change(header)
    assert json.dumps(header) != before
    (tmp_path / "m").write_bytes(sealed(header, body, RESULT))
    with pytest.raises(InterlaceError):
        interlace.load(tmp_path / "m")
    assert not (tmp_path / "run").exists()


def test_numbers_that_were_changed_do_not_agree(tmp_path: Path) -> None:
    """A response moved by a little: the criterion is not what it was."""
    fitted("by label").save(tmp_path / "m")
    header, body = taken_apart((tmp_path / "m").read_bytes())
    at, copy = 0, bytearray(body)
    for name, dtype, shape in header["arrays"]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if name == header["rows"]["y"]:
            np.frombuffer(copy, dtype, shape[0], at)[3] += 0.1
        at += size
    (tmp_path / "m").write_bytes(sealed(header, bytes(copy), RESULT))
    with pytest.raises(InterlaceError, match="save the result again"):
        interlace.load(tmp_path / "m")


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h["options"].__setitem__("dispersion", ["text", f"~ {CODE}"]),
        lambda h: h["components"][0][1]["side"].__setitem__("text", CODE),
        lambda h: h["components"].clear(),
        lambda h: h["components"][0].__setitem__(0, "df"),
        lambda h: h.__setitem__("labels", ["a", "b", "c"]),
    ],
)
def test_no_file_says_what_an_auxiliary_predictor_may_not(change, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fitted("dispersion").save(tmp_path / "m")
    header, body = taken_apart((tmp_path / "m").read_bytes())
    before = json.dumps(header)
    change(header)
    assert json.dumps(header) != before
    (tmp_path / "m").write_bytes(sealed(header, body, RESULT))
    with pytest.raises(InterlaceError):
        interlace.load(tmp_path / "m")
    assert not (tmp_path / "run").exists()
