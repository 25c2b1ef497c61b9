"""Random effects: intervals level by level, and how far each was shrunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotnine as p9

from interlace.design.recipe import require_rows
from interlace.diagnostics.shrinkage import raw_effects
from interlace.errors import InterlaceError, choose
from interlace.model.confidence import check_level, normal_reach
from interlace.model.fitted import FittedModel, Labelled
from interlace.model.generalised import FittedGeneralModel
from interlace.model.kinds import require_linear
from interlace.model.structured import FittedStructuredModel
from interlace.plots.style import (
    BLUE,
    GREY,
    MANY_LEVELS,
    ORANGE,
    lines,
    start,
    text_beside,
    titled,
    wrapped,
)

# Random effects below this share of sigma, or of a linear predictor, have no variance.
_ZERO = 1e-5

# ------------------------------------------------------------------ caterpillar


def plot_ranef(
    result: Labelled[Any],
    group: str | Sequence[str] | None = None,
    *,
    columns: str | Sequence[str] | None = None,
    level: float = 0.95,
) -> p9.ggplot:
    """Random effects by level with their intervals, sorted: a caterpillar plot.

    Parameters
    ----------
    result
        A fitted model; it need not hold its rows.
    group
        Grouping factors to draw, all by default.
    columns
        Columns of the random terms to draw, all by default.
    level
        Coverage of the intervals.

    Returns
    -------
    plotnine.ggplot
        A panel for each column of each grouping factor.  Intervals that do not cover 0 are blue.
        Panels of more than 60 levels do not name them.

    Raises
    ------
    InterlaceError
        An unknown grouping factor or column, or a level outside (0, 1).

    Notes
    -----
    ``estimate +- z se``, ``se`` the conditional standard deviation given the parameters.

    Examples
    --------
    >>> import interlace
    >>> from interlace.plots import plot_ranef
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> figure = plot_ranef(result, level=0.9)
    """
    table = effects_table(result, group, columns=columns, level=level)
    panels = table["panel"].cat.categories
    across = 2 if len(panels) == 4 else min(len(panels), 3)
    down = -(-len(panels) // across)
    few = _few(table, MANY_LEVELS)
    names = table["lines"].where(few, 0).groupby(table["panel"], observed=True).sum()
    tall = max(1.0 + 0.145 * int(names.max()), 2.4 if few.all() else 4.5)
    size = (max(3.2 * across + 0.6, 5.0), down * (tall + 0.5) + 0.6)
    return titled(
        caterpillar(table, few, across=across),
        size=size,
        title="Random effects" if len(panels) > 1 else f"Random effects: {panels[0]}",
        x=f"Deviation, {level:.0%} intervals".replace("%", " %"),
        y="",
        caption=zero_variances(table),
        beside=table["label"][few].tolist(),
    )


def effects_table(
    result: Labelled[Any],
    group: str | Sequence[str] | None = None,
    *,
    columns: str | Sequence[str] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Estimates and limits by panel and level, each with its place on one common axis.

    Columns ``panel`` (ordered), ``label, lines, place, estimate, lower, upper, clear``; panels take
    separate stretches of places, sorted by estimate.
    """
    z = normal_reach(check_level(level))
    groups = _chosen(group, list(result.random_effects), "group")
    named = {key: list(pd.DataFrame(result.random_effects[key]).columns) for key in groups}
    every = list(dict.fromkeys(name for names in named.values() for name in names))
    wanted = _chosen(columns, every, "columns")
    parts = [
        _column_table(result, key, name, z)
        for key in groups
        for name in named[key]
        if name in wanted
    ]
    table = pd.concat(parts, ignore_index=True)
    table["place"] = np.arange(len(table)) + 1000.0 * pd.factorize(table["panel"])[0]
    table["panel"] = pd.Categorical(table["panel"], list(dict.fromkeys(table["panel"])))
    return table


def _chosen(names: str | Sequence[str] | None, every: list[str], what: str) -> list[str]:
    """Names asked for, all of them known."""
    if names is None:
        return every
    wanted = [names] if isinstance(names, str) else list(names)
    if not wanted:
        raise InterlaceError(f"{what} names nothing: give some of {', '.join(map(repr, every))}")
    return [choose(what, name, every, one_of=True, exact=True) for name in wanted]


def _column_table(result: Labelled[Any], key: str, name: str, z: float) -> pd.DataFrame:
    """Estimates and limits of one column of one grouping factor, sorted."""
    b, se = (pd.DataFrame(d[key])[name] for d in (result.random_effects, result.random_effects_se))
    alone = isinstance(result.random_effects[key], pd.Series)
    unit = _unit(result)
    exact = _rms(result, key, name) * float(se.max()) < _ZERO * unit
    estimate, reach = b.to_numpy() * (not exact), z * se.to_numpy() * (not exact)
    labels = [wrapped(level, 30) for level in b.index]
    columns = {
        "panel": key if alone else f"{key}: {name}",
        "label": labels,
        "lines": [1 + label.count("\n") for label in labels],
        "estimate": estimate,
        "lower": estimate - reach,
        "upper": estimate + reach,
    }
    table = pd.DataFrame(columns).sort_values("estimate", ignore_index=True, kind="stable")
    return table.assign(clear=(table["lower"] > 0.0) | (table["upper"] < 0.0))


def _unit(result: Labelled[Any]) -> float:
    """What random effects are compared with: the size of residuals, or of a linear predictor."""
    if isinstance(result, FittedGeneralModel):
        return 1.0
    if isinstance(result, FittedStructuredModel):
        return float(np.std(result.resid))
    return float(result.estimate.sigma)


def _rms(result: Labelled[Any], key: str, name: str) -> float:
    """Root mean square of a column of ``Z``: what turns effects into the response's units."""
    A = result.estimate.A
    for term, sizes in zip(A.terms, A.basis.root_mean_squares, strict=True):
        if term.group == key and name in term.columns:
            return float(sizes[term.columns.index(name)])
    return 1.0


def zero_variances(table: pd.DataFrame) -> str | None:
    """Which panels hold nothing but zeros."""
    largest = (table["upper"] - table["lower"]).groupby(table["panel"], observed=True).max()
    names = [str(name) for name in largest.index[largest == 0.0]]
    return f"Variance estimated as zero: {', '.join(names)}." if names else None


def _few(table: pd.DataFrame, most: int) -> pd.Series:
    """Whether the panel of a row has at most so many levels."""
    found: pd.Series = table["panel"].map(table["panel"].value_counts()).astype(int) <= most
    return found


def caterpillar(table: pd.DataFrame, named: pd.Series, *, across: int) -> p9.ggplot:
    """Layers of a caterpillar plot; ``named`` says for which rows levels are on the axis."""
    labels = {name: wrapped(name, 30) for name in table["panel"].cat.categories}
    table = table.assign(panel=table["panel"].cat.rename_categories(labels))
    few = _few(table, MANY_LEVELS)
    figure = (
        start(table, p9.aes("estimate", "place", color="clear"))
        + p9.geom_vline(xintercept=0.0, color=GREY, size=0.4)
        + _intervals(table[few], size=0.7, alpha=1.0, dot=1.8)
        + _intervals(table[~few], size=0.3, alpha=0.4, dot=0.6)
        + p9.scale_color_manual(values={True: BLUE, False: "#9A9A9A"}, guide=None)
        + p9.scale_y_continuous(
            breaks=table["place"][named].tolist(),
            labels=table["label"][named].tolist(),
            expand=(0.02, 0.6),
        )
    )
    if len(labels) > 1:
        figure += p9.facet_wrap("panel", scales="free", ncol=across)
    found: p9.ggplot = figure
    return found


def _intervals(table: pd.DataFrame, *, size: float, alpha: float, dot: float) -> list[object]:
    """Lines and points, if there are any."""
    if not len(table):
        return []
    line = p9.geom_segment(
        p9.aes("lower", xend="upper", yend="place"), data=table, size=size, alpha=alpha
    )
    return [line, p9.geom_point(data=table, size=dot, stroke=0)]


# ------------------------------------------------------------------ shrinkage


def plot_shrinkage(
    result: FittedModel,
    group: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    label: int = 5,
) -> p9.ggplot:
    """Estimates of each level on its own, and what the model makes of them.

    Parameters
    ----------
    result
        A fitted model that holds its rows.
    group
        Grouping factor; by default the first.
    columns
        For a factor with slopes: two columns to draw against each other (by default the first
        two), or one.
    label
        How many levels are named in the plane of two columns, those that are farthest out.

    Returns
    -------
    plotnine.ggplot
        One column: a line per level from its raw mean or coefficient to its BLUP.  Two: arrows in
        the plane of the two.  Levels whose rows do not determine a raw estimate are counted in the
        caption.

    Raises
    ------
    InterlaceError
        An unknown grouping factor or column, more than two columns, no level with a raw estimate,
        or a result without rows.

    Notes
    -----
    Raw estimates are :func:`interlace.diagnostics.shrinkage.raw_effects`.

    Examples
    --------
    >>> import interlace
    >>> from interlace.plots import plot_shrinkage
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> figure = plot_shrinkage(result, "Subject")
    """
    require_linear(result, "plot_shrinkage")
    require_rows(result.design, "plot_shrinkage")
    keys = list(result.random_effects)
    key = choose("group", group or keys[0], keys, one_of=True, exact=True)
    blup, raw = (pd.DataFrame(v) for v in (result.random_effects[key], raw_effects(result, key)))
    names = _chosen(columns, list(blup.columns), "columns")
    if columns is None:
        names = names[:2]
    if len(names) > 2:
        raise InterlaceError(f"columns must be one or two of {list(blup.columns)}, not {names}")
    complete = raw[names].notna().all(axis=1).to_numpy()
    if not complete.any():
        raise InterlaceError(
            f"no level of '{key}' has rows enough for estimates of its own ({', '.join(names)})"
        )
    lost = int((~complete).sum())
    caption = (
        f"{lost:,} of {len(raw):,} levels have too few rows for a raw estimate." if lost else None
    )
    shrunk, alone = blup.loc[complete, names], raw.loc[complete, names]
    if len(names) == 1:
        return _lines(shrunk, alone, key, caption)
    return _plane(shrunk, alone, key, caption, label)


def _lines(blup: pd.DataFrame, raw: pd.DataFrame, key: str, caption: str | None) -> p9.ggplot:
    """A line per level, sorted by raw estimate."""
    name = str(blup.columns[0])
    pair = pd.DataFrame({"raw": raw[name], "blup": blup[name]}).sort_values("raw", kind="stable")
    pair["place"] = np.arange(len(pair))
    points = pair.melt("place", ["raw", "blup"], var_name="kind", value_name="value")
    points["kind"] = _kinds(points["kind"])
    many = len(pair) > MANY_LEVELS
    labels = [] if many else [wrapped(level, 28) for level in pair.index]
    figure = (
        start(points, p9.aes("value", "place"))
        + p9.geom_vline(xintercept=0.0, color=GREY, size=0.4)
        + p9.geom_segment(
            p9.aes("raw", "place", xend="blup", yend="place"),
            data=pair,
            color=GREY,
            size=0.2 if many else 0.5,
            alpha=0.5,
        )
        + p9.geom_point(p9.aes(color="kind"), size=0.6 if many else 1.9, stroke=0)
        + _kind_colors()
        + p9.scale_y_continuous(
            breaks=[] if many else pair["place"].tolist(), labels=labels, expand=(0.02, 0.6)
        )
    )
    return titled(
        figure,
        size=(6.0, 5.5 if many else 1.8 + 0.155 * max(lines(labels), 4)),
        title=f"Shrinkage of {key}" if name == "Intercept" else f"Shrinkage of {name} by {key}",
        x="Deviation from the fixed effects",
        y=f"{len(pair):,} levels of {key}" if many else key,
        caption=caption,
        beside=labels,
    )


def _plane(
    blup: pd.DataFrame, raw: pd.DataFrame, key: str, caption: str | None, label: int
) -> p9.ggplot:
    """Arrows from raw to shrunk pairs."""
    first, second = (str(name) for name in blup.columns)
    moves = pd.DataFrame(
        {
            "x": raw[first].to_numpy(),
            "y": raw[second].to_numpy(),
            "xend": blup[first].to_numpy(),
            "yend": blup[second].to_numpy(),
        }
    )
    ends = moves[["xend", "yend"]].set_axis(["x", "y"], axis=1).assign(kind="blup")
    points = pd.concat([moves[["x", "y"]].assign(kind="raw"), ends])
    points["kind"] = _kinds(points["kind"])
    many = len(moves) > MANY_LEVELS
    figure = (
        start(points, p9.aes("x", "y"))
        + p9.geom_hline(yintercept=0.0, color=GREY, size=0.3)
        + p9.geom_vline(xintercept=0.0, color=GREY, size=0.3)
        + p9.geom_segment(
            p9.aes("x", "y", xend="xend", yend="yend"),
            data=moves,
            color=GREY,
            size=0.2 if many else 0.5,
            alpha=0.4 if many else 0.7,
            arrow=None if many else p9.arrow(length=0.07, type="closed"),
        )
        + p9.geom_point(p9.aes(color="kind"), size=0.7 if many else 1.9, stroke=0)
        + _kind_colors()
        + _farthest(moves.assign(label=[str(level) for level in blup.index]), label)
    )
    return titled(
        figure,
        size=(6.5, 4.8),
        title=f"Shrinkage of {key}",
        x=f"{first}, deviation from the fixed effect",
        y=f"{second}, deviation from the fixed effect",
        caption=caption,
    )


def _farthest(moves: pd.DataFrame, label: int) -> list[object]:
    """Names beside the raw estimates that are farthest out, each axis in its own unit."""
    units = moves[["x", "y"]].std()
    away = ((moves[["x", "y"]] / units.where(units > 0.0, 1.0)) ** 2).sum(axis=1)
    named = moves.loc[away.nlargest(label).index, ["x", "y", "label"]]
    middle = float(moves["x"].min() + moves["x"].max()) / 2.0
    return text_beside(named, middle=middle, height=float(np.ptp(moves["y"]))) if len(named) else []


_KINDS = {"raw": "The level alone", "blup": "Shrunk (BLUP)"}


def _kinds(kind: pd.Series) -> pd.Categorical[str]:
    """Names of the two sorts of points, in order."""
    return pd.Categorical(kind.map(_KINDS), list(_KINDS.values()))


def _kind_colors() -> list[object]:
    """Colours of the two sorts of points."""
    colors = dict(zip(_KINDS.values(), [ORANGE, BLUE], strict=True))
    return [
        p9.scale_color_manual(values=colors),
        p9.theme(legend_position="top", legend_title=p9.element_blank()),
        p9.guides(color=p9.guide_legend(override_aes={"size": 2.5})),
    ]
