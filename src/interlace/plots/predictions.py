"""Effect plots: expected responses along a column, with the data and with lines of the groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotnine as p9

from interlace.design.design import Design
from interlace.design.frame import Column
from interlace.design.recipe import require_rows
from interlace.errors import InterlaceError, choose
from interlace.glmm.ordinal import Ordinal
from interlace.inference.means.parts import seen_of_all
from interlace.inference.means.variables import combinations
from interlace.model.auxiliary import is_plain
from interlace.model.confidence import check_level
from interlace.model.fitted import Labelled
from interlace.model.generalised import FittedGeneralModel
from interlace.plots.residuals import column_of
from interlace.plots.style import GREY, colours, legend_below, names_across, start, titled
from interlace.sums.terms import Floats

# Points of a line, and rows that are drawn at most; inches.
_POINTS, _MOST_ROWS = 60, 3000
_WIDTH = 6.2


def plot_predictions(
    result: Labelled[Any],
    x: str,
    by: str | None = None,
    *,
    data: bool = False,
    groups: str | None = None,
    level: float = 0.95,
    integrate: bool = False,
    ddf: str | None = None,
) -> p9.ggplot:
    """Expected responses along a number, or at the levels of a factor, with their intervals.

    Parameters
    ----------
    result
        A fitted model of any family.
    x
        A column of the fixed effects.
    by
        A factor whose levels have lines of their own.
    data
        Draw the responses of the rows too, as they would be at an offset of 0: less it, or with a
        log link per unit of exposure.
    groups
        A grouping factor whose levels have thin lines of their own: what the model expects of each
        of them.
    level
        Coverage of the intervals.
    integrate
        Of a generalised model: means of the population in place of those of a typical group.
    ddf
        Degrees of freedom of the intervals, as in ``emmeans``.

    Returns
    -------
    plotnine.ggplot

    Raises
    ------
    InterlaceError
        An unknown column or grouping factor; data or the range of a number of a result that does
        not hold its rows; ``groups`` with ``integrate``; ordered categories.

    Notes
    -----
    Means are those of ``emmeans``: other factors are averaged over, other numbers at their mean;
    with zero inflation or a hurdle they are of all responses, ``component="mean"``.
    Lines of groups add the conditional modes of the random effects of that factor, on the scale of
    the link.  Of more than 3,000 rows an even selection is drawn.

    Examples
    --------
    >>> import interlace
    >>> from interlace.plots import plot_predictions
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> figure = plot_predictions(result, "Days", data=True, groups="Subject")
    """
    check_level(level)
    _refuse_ordered(result, groups)
    whole = _is_general(result) and not is_plain(result.family)  # type: ignore[attr-defined]
    seen: Any = seen_of_all(result) if whole else result._seen  # type: ignore
    is_number = x in seen.variables.numbers
    at = {x: along(seen.values(x), x)} if is_number else None
    specs = [x] if by is None else [x, by]
    means: Any = result.emmeans  # type: ignore[attr-defined]
    what = {"component": "mean"} if whole else {"type": "response"}
    found = means(specs, at=at, integrate=integrate, level=level, ddf=ddf, **what)
    table = found.table.rename(columns={found.name: "mean"})
    layers: list[object] = _rows(result, x, by, is_number) if data else []
    if groups is not None:
        if integrate:
            raise InterlaceError(
                "integrate=True averages over the groups: leave it out to draw lines of each"
            )
        layers += _group_lines(result, table, x, by, groups)
    table = with_series(table, by)
    mapping = p9.aes(x, "mean", color="series", fill="series", group="series")
    figure = start(table, mapping)
    figure += [*layers, *_means(is_number), *_scales(table, by)]
    if not is_number:
        figure += names_across(list(dict.fromkeys(map(str, table[x]))), _WIDTH - 0.9)
    who = "population" if integrate else "typical group"
    return titled(
        figure,
        size=(_WIDTH, 4.2),
        title=f"Expected {result.formula.response}" + (f" ({who})" if _is_general(result) else ""),
        x=x,
        y=f"Mean, {level:.0%} intervals".replace("%", " %"),
    )


def _refuse_ordered(result: object, groups: str | None) -> None:
    """Refuse ordered categories, and lines of groups whose means are not those of a link."""
    if not isinstance(result, FittedGeneralModel):
        return
    if isinstance(result.family, Ordinal):
        raise InterlaceError(
            "ordered categories have probabilities in place of a mean: use plot_probabilities"
        )
    if groups is not None and not is_plain(result.family):
        raise InterlaceError(
            f"lines of groups are not there for family={result.family.name!r}, whose means are not "
            f"those of the linear predictor alone: leave groups out"
        )


def _is_general(result: object) -> bool:
    return isinstance(result, FittedGeneralModel)


def with_series(table: pd.DataFrame, by: str | None) -> pd.DataFrame:
    """The table with the levels of ``by``, in their order."""
    if by is None:
        return table.assign(series=pd.Categorical([""] * len(table)))
    names = [str(v) for v in table[by]]
    return table.assign(series=pd.Categorical(names, list(dict.fromkeys(names))))


def _means(is_number: bool) -> list[object]:
    """Lines with bands, or points with intervals."""
    if is_number:
        return [
            p9.geom_ribbon(p9.aes(ymin="lower", ymax="upper"), alpha=0.2, color="none"),
            p9.geom_line(size=0.9),
        ]
    dodge = p9.position_dodge(width=0.5)
    return [
        p9.geom_linerange(p9.aes(ymin="lower", ymax="upper"), position=dodge, size=0.9),
        p9.geom_point(size=2.4, position=dodge),
    ]


def _scales(table: pd.DataFrame, by: str | None) -> list[object]:
    """Colours of the levels."""
    name, series = by or "", list(table["series"].cat.categories)
    values = colours(len(series))
    return [
        p9.scale_color_manual(values=values, name=name),
        p9.scale_fill_manual(values=values, name=name),
        *(legend_below(series, _WIDTH) if by else [p9.theme(legend_position="none")]),
    ]


def along(values: Floats | None, x: str) -> list[float]:
    """Even steps over the range of a column."""
    if values is None:
        raise InterlaceError(f"the range of '{x}' is not known, as the rows are not held")
    return [float(v) for v in np.linspace(values.min(), values.max(), _POINTS)]


# ------------------------------------------------------------------ the data


def _rows(result: Labelled[Any], x: str, by: str | None, is_number: bool) -> list[object]:
    """Responses of the rows, an even selection of many."""
    design = require_rows(result.design, "plot_predictions with data=True")
    frame = pd.DataFrame({x: _values(result, x), "mean": _without_offset(result, design)})
    if by is not None:
        frame[by] = _values(result, by)
    frame = with_series(frame, by)
    shown = np.unique(np.linspace(0, len(frame) - 1, min(len(frame), _MOST_ROWS)).astype(int))
    look = {"size": 1.1, "stroke": 0, "alpha": 0.35 if len(shown) <= 500 else 0.15}
    if is_number:
        return [p9.geom_point(data=frame.iloc[shown], **look)]
    place = p9.position_jitterdodge(jitter_width=0.25, dodge_width=0.5, random_state=1)
    return [p9.geom_point(data=frame.iloc[shown], position=place, **look)]


def _without_offset(result: Labelled[Any], design: Design) -> Floats:
    """Responses as they would be at an offset of 0, as means are; per unit of exposure."""
    if design.offset is None:
        return design.y
    if not isinstance(result, FittedGeneralModel):
        return design.y - design.offset
    return design.y / np.exp(design.offset) if result.link.name == "log" else design.y


def _values(result: Labelled[Any], name: str) -> Column:
    """A column of the data, rows used."""
    design = require_rows(result.design, "plot_predictions with data=True")
    if name in design.names:
        return np.asarray(design.X[:, list(design.names).index(name)])
    return column_of(result, name)


# ------------------------------------------------------------------ the groups


def _group_lines(
    result: Labelled[Any], table: pd.DataFrame, x: str, by: str | None, groups: str
) -> list[object]:
    """A line for every level of a grouping factor."""
    known = list(result.random_effects)
    key = choose("groups", groups, known, one_of=True, exact=True)
    levels = [str(v) for v in pd.DataFrame(result.random_effects[key]).index]
    shift = _random_part(result, table, x, by, key)
    eta = _linked(result, table["mean"].to_numpy(dtype=np.float64))
    lines = pd.concat([table[[x] if by is None else [x, by]]] * len(levels), ignore_index=True)
    lines["mean"] = _unlinked(result, np.tile(eta, len(levels)) + shift)
    lines["level"] = np.repeat(levels, len(table))
    lines = with_series(lines, by)
    lines["line"] = lines["level"] + " " + lines["series"].astype(str)
    alpha = float(np.clip(8.0 / len(levels), 0.12, 0.5))
    if by is None:
        mapping, look = p9.aes(x, "mean", group="line"), {"color": GREY}
    else:
        mapping, look = p9.aes(x, "mean", group="line", color="series"), {}
    return [p9.geom_line(mapping, data=lines, size=0.4, alpha=alpha, inherit_aes=False, **look)]


def _random_part(
    result: Labelled[Any], table: pd.DataFrame, x: str, by: str | None, key: str
) -> Floats:
    """Random effects of a factor at the means of the table, level after level, ``(l m,)``."""
    seen: Any = result._seen  # type: ignore[attr-defined]
    m = len(table)
    others = [name for name in seen.variables.names if name not in (x, by)]
    fixed = {name: _reference(seen, name) for name in others}
    index = pd.DataFrame(result.random_effects[key]).index
    grid = combinations({"row": np.arange(m), "level": np.arange(len(index))})
    at = np.asarray(grid["row"])
    columns: dict[str, object] = {n: np.asarray(table[n])[at] for n in (x, by) if n}
    columns |= {name: np.repeat([value], m * len(index)) for name, value in fixed.items()}
    columns |= _keys(result, key, np.asarray(grid["level"]))
    frame = pd.DataFrame(columns)
    options: dict[str, Any] = {"type": "link"} if _is_general(result) else {}
    predict: Any = result.predict  # type: ignore[attr-defined]
    whole = predict(frame, include_re=[key], **options)
    return np.asarray(whole - predict(frame, include_re=False, **options))


def _reference(seen: Any, name: str) -> object:
    """The first level of a factor, or the mean of a number."""
    if name in seen.variables.factors:
        return seen.variables.factors[name][0]
    values = seen.values(name)
    if values is None:
        raise InterlaceError(f"the mean of '{name}' is not known, as the rows are not held")
    return float(values.mean())


def _keys(result: Labelled[Any], key: str, at: np.ndarray[Any, Any]) -> dict[str, object]:
    """Grouping columns of levels of a factor, taken from a row that each occurs in."""
    design = require_rows(result.design, "plot_predictions with groups=")
    term, codes = next(
        (t, c) for t, c in zip(design.terms, design.codes, strict=True) if t.group == key
    )
    first = np.zeros(term.l, dtype=np.intp)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    names = next(t.group for t in result.formula.random if ":".join(t.group) == key)
    if len(names) == 1:
        return {names[0]: np.asarray(term.levels)[at]}
    return {name: np.asarray(column_of(result, name))[first][at] for name in names}


def _linked(result: Labelled[Any], mean: Floats) -> Floats:
    """Linear predictors of means."""
    if not isinstance(result, FittedGeneralModel):
        return mean
    return np.asarray(result.link.to_eta(mean), dtype=np.float64)


def _unlinked(result: Labelled[Any], eta: Floats) -> Floats:
    """Means of linear predictors."""
    if not isinstance(result, FittedGeneralModel):
        return eta
    return np.asarray(result.link.mean(eta).value, dtype=np.float64)
