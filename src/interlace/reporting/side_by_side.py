"""Models side by side in one table for a paper: coefficients, random part, groups, statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd

from interlace import inference
from interlace.choices import Ddf, Shown
from interlace.errors import InterlaceError, choose
from interlace.inference.compare import model_names
from interlace.inference.tested import Coefficients, TestedModel
from interlace.model.confidence import check_level
from interlace.model.fitted import E, Labelled, shown_components
from interlace.reporting import apa, formats
from interlace.reporting.explained import icc, r2
from interlace.reporting.formats import Row

SHOWN: tuple[Shown, ...] = get_args(Shown)
Model = Coefficients[E]


def _r2_marginal(model: TestedModel) -> float:
    return r2(model).marginal


def _r2_conditional(model: TestedModel) -> float:
    return r2(model).conditional


def _icc(model: TestedModel) -> float:
    return icc(model).adjusted


# Statistics of a fit: what they are called in a table, their decimals, and how to get them.
STATISTICS: Mapping[str, tuple[str, int, Callable[[TestedModel], float]]] = {
    "nobs": ("Observations", 0, lambda m: m.nobs),
    "aic": ("AIC", 1, lambda m: m.aic),
    "bic": ("BIC", 1, lambda m: m.bic),
    "llf": ("Log-likelihood", 1, lambda m: m.llf),
    "criterion": ("Criterion", 1, lambda m: m.criterion),
    "nparams": ("Parameters", 0, lambda m: m.nparams),
    "r2_marginal": ("R2 marginal", 3, _r2_marginal),
    "r2_conditional": ("R2 conditional", 3, _r2_conditional),
    "icc": ("ICC", 3, _icc),
    "caic": ("Conditional AIC", 1, lambda m: _conditional(m)),
}
_LINEAR = ("r2_marginal", "r2_conditional", "icc", "caic")
_USUAL = ("nobs", "r2_marginal", "r2_conditional", "aic", "bic")


def _conditional(model: TestedModel) -> float:
    return inference.conditional.caic(model).caic


@dataclass(frozen=True, eq=False)
class ModelTable:
    """Models side by side; prints as text, shows as HTML in notebooks.

    Attributes
    ----------
    names
        Of the models, the columns.
    rows
        Label and cells of every row, with the section that it belongs to.
    notes
        What stands below the table.
    """

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    title: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Cells as text, by section and row."""
        index = pd.MultiIndex.from_tuples(
            [(row.section, row.label) for row in self.rows], names=["section", "row"]
        )
        return pd.DataFrame([row.cells for row in self.rows], index=index, columns=self.names)

    def to_html(self) -> str:
        """HTML, without styles of its own beyond lines and alignment."""
        return formats.html(self.title, self.names, self.rows, self.notes)

    def to_latex(self, *, label: str | None = None) -> str:
        """LaTeX for the package booktabs; a float with a caption if the table has a title."""
        return formats.latex(self.title, self.names, self.rows, self.notes, label=label)

    def to_markdown(self) -> str:
        """A pipe table."""
        return formats.markdown(self.title, self.names, self.rows, self.notes)

    def to_typst(self) -> str:
        """Typst."""
        return formats.typst(self.title, self.names, self.rows, self.notes)

    def __repr__(self) -> str:
        return formats.text(self.title, self.names, self.rows, self.notes)

    def _repr_html_(self) -> str:
        return self.to_html()

    def _repr_markdown_(self) -> str:
        return self.to_markdown()


def table(
    *models: object,
    names: Sequence[str] | None = None,
    statistics: Sequence[str] | None = None,
    show: Shown | Sequence[Shown] = "se",
    ddf: Ddf | None = None,
    level: float = 0.95,
    stars: bool = False,
    random: bool = True,
    labels: Mapping[str, str] | None = None,
    digits: int = 2,
    title: str = "",
) -> ModelTable:
    """Models side by side, as papers print them.

    Parameters
    ----------
    models
        Fitted models, or one list or dict of them; names are the keys.
    names
        Headings of the columns; ``"(1)"``, ``"(2)"`` by default.
    statistics
        Rows at the foot: ``"nobs", "aic", "bic", "llf", "criterion", "nparams", "r2_marginal",
        "r2_conditional", "icc", "caic"``.  Numbers of groups are always there.
    show
        What stands below each estimate: ``"se"`` (in parentheses), ``"ci"``, ``"p"``,
        ``"statistic"`` (with its degrees of freedom), or several of them.
    ddf, level
        Of tests and intervals, as in ``coef_table``.
    stars
        Mark p below .05, .01 and .001.
    random
        Show standard deviations and correlations of the random effects.
    labels
        Other words for coefficients, grouping factors, and statistics.
    digits
        Least decimals; more where the standard error has no two digits in them.
    title
        Heading, or caption.

    Returns
    -------
    ModelTable
        ``to_frame(), to_html(), to_latex(), to_markdown(), to_typst()``.

    Raises
    ------
    InterlaceError
        No model, something that is none, or an unknown statistic.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> plain = interlace.fit("Reaction ~ Days + (1 | Subject)", sleep)
    >>> slopes = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> print(interlace.table(plain, slopes, statistics=["nobs", "aic"]))
                                   (1)     (2)
    ------------------------------------------
    Fixed effects
    Intercept                   251.41  251.41
                                (9.75)  (6.82)
    Days                         10.47   10.47
                                (0.80)  (1.55)
    Random effects
    SD Intercept, Subject        37.12   24.74
    SD Days, Subject                      5.92
    r Intercept, Days, Subject            0.07
    SD residual                  30.99   25.59
    Fit
    Subject (groups)                18      18
    Observations                   180     180
    AIC                         1794.5  1755.6
    ------------------------------------------
    Standard errors in parentheses.
    """
    chosen, heads = chosen_models(models, names)
    asked = [show] if isinstance(show, str) else list(show)
    below = [choose("show", one, SHOWN, one_of=True) for one in asked]
    check_level(level)
    words = dict(labels or {})
    tables = [model.coef_table(ddf, level) for model in chosen]
    rows = _fixed_rows(tables, below, words, digits, stars)
    rows += _random_rows(chosen, words, digits) if random else []
    rows += _group_rows(chosen, words)
    rows += _statistic_rows(chosen, statistics, words)
    return ModelTable(tuple(heads), tuple(rows), tuple(_notes(below, level, stars)), title)


def chosen_models(
    models: Sequence[object], names: Sequence[str] | None
) -> tuple[list[TestedModel], list[str]]:
    """Models given one by one, as a list, or as a dict, and their names."""
    found = list(models)
    heads: list[str] | None = None if names is None else list(names)
    if len(found) == 1 and isinstance(found[0], Mapping):
        heads = heads or [str(key) for key in found[0]]
        found = list(found[0].values())
    elif len(found) == 1 and isinstance(found[0], list | tuple):
        found = list(found[0])
    if not found:
        raise InterlaceError("give one fitted model or more")
    for model in found:
        if not isinstance(model, Labelled):
            raise InterlaceError(f"a table is of fitted models, not {type(model).__name__}")
    if heads is None:
        heads = [f"({i})" for i in range(1, len(found) + 1)]
    if len(found) > 1 and names is not None:
        model_names(found, heads)  # type: ignore[arg-type]
    if len(heads) != len(found):
        raise InterlaceError(f"{len(found)} models need as many names, not {len(heads)}")
    return found, heads  # type: ignore[return-value]


# ------------------------------------------------------------------ rows


def _fixed_rows(
    tables: Sequence[pd.DataFrame],
    below: Sequence[str],
    words: Mapping[str, str],
    digits: int,
    stars: bool,
) -> list[Row]:
    """Estimates by coefficient, and below each what was asked for."""
    names = dict.fromkeys(str(name) for table in tables for name in table.index)
    rows = []
    for name in names:
        lines = [_cells(table, name, below, digits, stars) for table in tables]
        for i in range(1 + len(below)):
            label = words.get(name, name) if i == 0 else ""
            rows.append(Row("Fixed effects", label, tuple(cells[i] for cells in lines)))
    return rows


def _cells(
    table: pd.DataFrame, name: str, below: Sequence[str], digits: int, stars: bool
) -> list[str]:
    """The lines of one coefficient of one model."""
    if name not in table.index:
        return [""] * (1 + len(below))
    row = dict(zip(table.columns, table.loc[name].to_numpy(dtype=np.float64), strict=True))
    places = apa.decimals_for(row["se"], digits)
    mark = apa.stars(row["p"]) if stars else ""
    shown = {
        "se": f"({apa.number(row['se'], places)})",
        "ci": f"[{apa.number(row['lower'], places)}, {apa.number(row['upper'], places)}]",
        "p": apa.p_value(row["p"]),
        "statistic": apa.test(row["statistic"], row["df"], row["p"]).rsplit(",", 1)[0],
    }
    return [apa.number(row["estimate"], places) + mark, *(shown[one] for one in below)]


def _random_rows(models: Sequence[TestedModel], words: Mapping[str, str], digits: int) -> list[Row]:
    """Standard deviations, correlations, and the residual's."""
    found = [_random_part(model, words, digits) for model in models]
    labels = dict.fromkeys(label for part in found for label in part)
    last = [label for label in labels if label == "SD residual"]
    order = [label for label in labels if label not in last] + last
    return [
        Row("Random effects", label, tuple(part.get(label, "") for part in found))
        for label in order
    ]


def _random_part(model: TestedModel, words: Mapping[str, str], digits: int) -> dict[str, str]:
    cells: dict[str, str] = {}
    for key, component in shown_components(model).items():
        frame = (
            component
            if isinstance(component, pd.DataFrame)
            else pd.DataFrame([[component]], ["Intercept"], ["Intercept"])
        )
        group = words.get(key, key)
        values = frame.to_numpy(dtype=np.float64)
        sds = np.sqrt(np.diag(values))
        names = [words.get(str(name), str(name)) for name in frame.index]
        for name, sd in zip(names, sds, strict=True):
            cells[f"SD {name}, {group}"] = apa.number(sd, apa.decimals_for(sd, digits))
        for i in range(len(sds)):
            for j in range(i):
                covariance = float(values[i, j])
                product = sds[i] * sds[j]
                if covariance and product > 0.0:
                    label = f"r {names[j]}, {names[i]}, {group}"
                    cells[label] = apa.number(covariance / product, 2)
    if is_linear(model):
        sd = float(np.sqrt(model.scale))
        cells["SD residual"] = apa.number(sd, apa.decimals_for(sd, digits))
    return cells


def _group_rows(models: Sequence[TestedModel], words: Mapping[str, str]) -> list[Row]:
    """Numbers of levels."""
    keys = dict.fromkeys(key for model in models for key in model.ngroups)
    return [
        Row(
            "Fit",
            f"{words.get(key, key)} (groups)",
            tuple(f"{m.ngroups[key]}" if key in m.ngroups else "" for m in models),
        )
        for key in keys
    ]


def is_linear(model: object) -> bool:
    """Whether a model is linear: a generalised one has no R squared here."""
    return isinstance(model, TestedModel)


def _statistic_rows(
    models: Sequence[TestedModel], statistics: Sequence[str] | None, words: Mapping[str, str]
) -> list[Row]:
    """Statistics of the fits; those that a kind of model does not have stay empty."""
    wanted = list(_USUAL) if statistics is None else list(statistics)
    rows = []
    for asked in wanted:
        name = choose("statistics", asked, tuple(STATISTICS), one_of=True)
        label, places, read = STATISTICS[name]
        cells = []
        for model in models:
            possible = name not in _LINEAR or is_linear(model)
            cells.append(apa.number(float(read(model)), places) if possible else "")
        if any(cells) or statistics is not None:
            rows.append(Row("Fit", words.get(name, label), tuple(cells)))
    return rows


def _notes(below: Sequence[str], level: float, stars: bool) -> list[str]:
    notes = []
    if "se" in below:
        notes.append("Standard errors in parentheses.")
    if "ci" in below:
        notes.append(f"{100 * level:g} % confidence intervals in brackets.")
    if stars:
        notes.append("* p < .05, ** p < .01, *** p < .001.")
    return notes
