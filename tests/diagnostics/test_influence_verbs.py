"""The verbs of influence: single measures, counts, the joint table, progress and refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from dense import frame
from fits import of_small as fitted
from interlace import InterlaceError
from interlace.diagnostics import influence, refitting
from interlace.diagnostics.augment import hlm_augment
from interlace.diagnostics.influence import (
    cooks_distance,
    covratio,
    covtrace,
    hlm_influence,
    mdffits,
    n_influential,
    rvc,
)
from interlace.diagnostics.leverage import leverage

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

MEASURES = ["cooksd", "mdffits", "covtrace", "covratio"]


# ------------------------------------------------------------ one measure at a time


def test_single_measures() -> None:
    result = fitted("crossed")
    table = hlm_influence(result, "g", approx=False)
    verbs = {"cooksd": cooks_distance, "mdffits": mdffits, "covtrace": covtrace}
    for name, verb in (verbs | {"covratio": covratio}).items():
        pd.testing.assert_series_equal(verb(result, "g", approx=False), table[name])
    changed = rvc(result, "g")
    assert list(changed) == ["var_Intercept|g", "var_Intercept|h", "sigma2"]
    assert_allclose(changed["sigma2"], table["rvc.sigma2"])


def test_names_of_components() -> None:
    names = list(rvc(fitted("crossed slopes"), "h"))
    assert names == [
        "var_Intercept|g", "cov_x.Intercept|g", "var_x|g",
        "var_Intercept|h", "cov_z.Intercept|h", "var_z|h", "sigma2",
    ]  # fmt: skip
    assert list(rvc(fitted("uncorrelated"), "g")) == ["var_Intercept|g", "var_x|g", "sigma2"]


def test_how_many_are_influential() -> None:
    result = fitted("slope")
    d = hlm_influence(result)["cooksd"]
    q1, q3 = np.quantile(d, [0.25, 0.75])
    assert n_influential(result, cutoff="internal") == (d > q3 + 3 * (q3 - q1)).sum() > 0
    by_group = hlm_influence(result, "g")["mdffits"]
    assert n_influential(result, "g", "mdffits", cutoff="4/n") == (by_group > 4 / 9).sum()
    assert n_influential(result, cutoff=0.01) == (d > 0.01).sum()
    ratio = hlm_influence(result, "g")["covratio"]
    found = n_influential(result, "g", "covratio", cutoff=0.1)
    assert found == (np.abs(ratio - 1) > 0.1).sum() > 0


def test_augment() -> None:
    result = fitted("crossed slopes", True)
    rows = hlm_augment(result)
    assert list(rows) == [
        "y", "g", "h", ".resid", ".fitted", ".ls.resid", ".ls.fitted", ".mar.resid", ".mar.fitted",
        *MEASURES, "leverage.overall", "leverage.fixef", "leverage.ranef", "leverage.ranef.uc",
    ]  # fmt: skip
    assert (rows["g"] == frame()["g"]).all()
    assert_allclose(rows["leverage.ranef"], leverage(result)["ranef"])
    groups = hlm_augment(result, "g", approx=False)
    assert len(groups) == 9
    assert {".ranef.x", ".ls.intercept", "rvc.sigma2", "note", "leverage.fixef"} <= set(groups)


def test_without_fixed_effects() -> None:
    found = hlm_influence(fitted("no fixed effects"), approx=False)
    assert found[["cooksd", "mdffits"]].isna().all(axis=None)
    assert (found["covratio"] == 1.0).all()
    assert found["rvc.sigma2"].notna().all()
    assert hlm_influence(fitted("no fixed effects"))["cooksd"].isna().all()


# ------------------------------------------------------------ progress, refusals


def test_progress_counts_every_refit(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []

    @contextmanager
    def counter(
        total: int, progress: bool | None, *, what: str, unit: str
    ) -> Iterator[Callable[[int], None]]:
        assert (total, progress, what, unit) == (90, True, "without rows", "refits")
        yield done.append

    monkeypatch.setattr(influence, "counter", counter)
    monkeypatch.setattr(refitting, "_TOGETHER", 8_000)
    hlm_influence(fitted("crossed"), approx=False, progress=True)
    assert sum(done) == 90
    assert len(done) > 2


def test_an_interrupt_goes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(refitting, "optima", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hlm_influence(fitted("crossed"), approx=False, progress=True)


def message(call: Callable[[], object]) -> str:
    with pytest.raises(InterlaceError) as caught:
        call()
    return str(caught.value)


def test_bad_arguments() -> None:
    result = fitted("crossed")
    for level in ("school", 2, True):
        assert message(lambda level=level: hlm_influence(result, level)) == (
            f"level must be 1 or a grouping factor of the model (g, h), not {level!r}"
        )
    rowless = replace(result, design=None)
    no_rows = (
        "diagnostics look at single rows, and this result holds none (it was fitted from "
        "cross-products): fit the same formula to the rows, or a part of them, in memory"
    )
    for verb in (hlm_influence, hlm_augment, leverage, rvc, n_influential):
        assert message(lambda verb=verb: verb(rowless)) == no_rows
    assert message(lambda: n_influential(result, measure="rvc.sigma2")) == (
        "unknown measure 'rvc.sigma2': choose one of cooksd, mdffits, covtrace, covratio, "
        "leverage.overall; rvc and dfbetas need approx=False"
    )
    assert message(lambda: n_influential(result, cutoff="boxplot")) == (
        "cutoff must be 'nominal', 'internal', '4/n', a number, or two numbers, not 'boxplot'"
    )
