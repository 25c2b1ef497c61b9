"""What is singular about a singular fit, and which simpler models to try."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape

import numpy as np

from interlace.design.design import Encoding
from interlace.design.formula import MixedFormula, RandomTerm
from interlace.design.simpler import is_levels, of_effects, random_term, uncorrelated
from interlace.estimation.estimate import SINGULAR_TOLERANCE, is_singular
from interlace.inference.slopes import droppable
from interlace.model.fitted import FittedModel
from interlace.sums.terms import Floats, ReTerm


@dataclass(frozen=True)
class Direction:
    """A linear combination of the random effects of one term that (nearly) does not vary.

    Attributes
    ----------
    term
        The term as one writes it.
    group
        Its grouping factor.
    combination
        The combination in words, ``"0.98*Intercept - 0.20*Days"``.
    weights
        Its weights by column, in the user's units; their squares sum to 1.
    sd
        Its standard deviation, in units of the response, for columns scaled to mean square 1.
    ratio
        ``sd`` over the residual standard deviation.
    """

    term: str
    group: str
    combination: str
    weights: dict[str, float]
    sd: float
    ratio: float

    def __str__(self) -> str:
        share = f", {self.ratio:.1g} of the residual's" if self.ratio else ""
        return (
            f"{self.group}: {self.combination} has no variance "
            f"(standard deviation {self.sd:.2g}{share})"
        )


@dataclass(frozen=True)
class SingularReport:
    """What is singular about a fit; ``str()`` gives text, notebooks show HTML.

    Attributes
    ----------
    is_singular
        Whether anything is.
    directions
        Combinations of random effects without variance.
    suggestions
        Formulas to try, the smallest changes first, each with what it changes.
    searched
        Whether the optimum was looked for from other starts too.
    """

    is_singular: bool
    directions: tuple[Direction, ...]
    suggestions: tuple[tuple[str, str], ...]
    searched: bool = True

    @property
    def formulas(self) -> list[str]:
        """The formulas to try, without comments."""
        return [formula for _, formula in self.suggestions]

    def __str__(self) -> str:
        if not self.is_singular:
            return "The fit is not singular: every random effect has a variance."
        lines = ["Singular fit", "============", *map(str, self.directions)]
        lines += ["", self._advice, *(f"- {what}: {formula}" for what, formula in self.suggestions)]
        return "\n".join(lines)

    __repr__ = __str__

    @property
    def _advice(self) -> str:
        return _VALID + _ADVICE if self.searched else _ADVICE

    def _repr_html_(self) -> str:
        if not self.is_singular:
            return f"<p>{escape(str(self))}</p>"
        found = "".join(f"<li>{escape(str(d))}</li>" for d in self.directions)
        tries = "".join(
            f"<li>{escape(what)}: <code>{escape(formula)}</code></li>"
            for what, formula in self.suggestions
        )
        return (
            f"<div><h4>Singular fit</h4><ul>{found}</ul><p>{self._advice}</p><ul>{tries}</ul></div>"
        )


_VALID = "The estimates are valid. "
_ADVICE = "Simpler models to try, the smallest changes first:"


def singular_report(result: FittedModel) -> SingularReport:
    """Which random effects of a singular fit have no variance, and what to try instead.

    Parameters
    ----------
    result
        A fitted model; one that is not singular is reported as such.

    Returns
    -------
    SingularReport

    Notes
    -----
    With ``T`` the template of a term and ``D`` the root mean squares of its columns, a left
    singular vector ``w`` of ``D T`` with a singular value ``s`` near 0 says that the
    combination ``w' D b`` of its random effects has the standard deviation ``sigma s``.  Effects
    that have no variance on their own are named on their own.

    Examples
    --------
    >>> import warnings, interlace
    >>> warnings.simplefilter("ignore", interlace.SingularFitWarning)
    >>> flat = interlace.fit("Yield ~ 1", interlace.datasets.load("dyestuff2"), groups="Batch")
    >>> print(singular_report(flat))
    Singular fit
    ============
    Batch: Intercept has no variance (standard deviation 0)
    <BLANKLINE>
    The estimates are valid. Simpler models to try, the smallest changes first:
    - drop (1 | Batch), the only random term: fit a linear model: Yield ~ 1
    """
    estimate = result.estimate
    parts = zip(
        estimate.A.terms,
        estimate.user_templates,
        estimate.A.basis.root_mean_squares,
        strict=True,
    )
    directions: list[Direction] = []
    changes: list[tuple[int, str, str]] = []
    for j, (term, T, sizes) in enumerate(parts):
        if not is_singular(T, sizes):
            continue
        spelled = random_term(result.encoding, j)
        found = list(_directions(term, T, sizes, spelled.label, estimate.sigma))
        directions += found
        changes += _simpler(result.encoding, term, j, spelled, found)
    changes.sort(key=lambda change: change[0])
    suggestions = tuple((what, formula) for _, what, formula in changes)
    searched = estimate.convergence.n_starts > 1
    return SingularReport(bool(directions), tuple(directions), suggestions, searched)


def check_singularity(result: FittedModel) -> SingularReport:
    """What is singular about a singular fit: ``result.singular_report()``."""
    return singular_report(result)


# ------------------------------------------------------------------ directions


def _directions(
    term: ReTerm, T: Floats, sizes: Floats, label: str, sigma: float
) -> Iterator[Direction]:
    """Single columns without variance first, then combinations of the others."""
    scaled = sizes[:, None] * T
    lengths = np.linalg.norm(scaled, axis=1)
    flat = lengths < SINGULAR_TOLERANCE
    for i in np.flatnonzero(flat):
        yield _direction(term, np.eye(term.k)[i], label, sigma, float(lengths[i]))
    rest = np.flatnonzero(~flat)
    if not len(rest):
        return
    if term.template.indivisible:
        yield from _at_bound(term, T, sizes, label, sigma)
        return
    U, s, _ = np.linalg.svd(scaled[rest])
    for w, length in zip(U.T, s, strict=True):
        if length < SINGULAR_TOLERANCE:
            weights = np.zeros(term.k)
            weights[rest] = w * sizes[rest]
            yield _direction(term, weights, label, sigma, float(length))


def _at_bound(
    term: ReTerm, T: Floats, sizes: Floats, label: str, sigma: float
) -> Iterator[Direction]:
    """What has no variance where one correlation of all columns is at its bound.

    Differences or sums of neighbours, in units of their standard deviations, or the sum of all.
    """
    unit = sizes * np.maximum(np.linalg.norm(T, axis=1), SINGULAR_TOLERANCE)
    eye = np.eye(term.k)
    pairs = [eye[i + 1] + sign * eye[i] for i in range(term.k - 1) for sign in (-1.0, 1.0)]
    for weights in (*pairs, np.ones(term.k)):
        own = sizes * weights / unit
        length = float(np.linalg.norm(own @ T))
        if length < SINGULAR_TOLERANCE:
            yield _direction(term, own, label, sigma, length)


def _direction(term: ReTerm, weights: Floats, label: str, sigma: float, length: float) -> Direction:
    unit = weights / np.linalg.norm(weights)
    if unit[np.flatnonzero(np.abs(unit) > 1e-9)[0]] < 0:
        unit = -unit
    named = dict(zip(term.columns, unit.tolist(), strict=True))
    return Direction(label, term.group, _in_words(named), named, sigma * length, length)


def _in_words(weights: dict[str, float]) -> str:
    """``0.98*Intercept - 0.20*Days``; a single column by its name; two digits of the smallest."""
    live = {name: w for name, w in weights.items() if abs(w) > 1e-6}
    if len(live) == 1:
        return next(iter(live))
    smallest = min(map(abs, live.values()))
    decimals = int(np.clip(1 - np.floor(np.log10(smallest)), 2, 7))
    text = "".join(
        f" {'-' if w < 0 else '+'} {abs(w):.{decimals}f}*{name}" for name, w in live.items()
    )
    return text.removeprefix(" + ")


# ------------------------------------------------------------------ what to try


def _simpler(
    encoding: Encoding, held: ReTerm, j: int, term: RandomTerm, found: list[Direction]
) -> Iterator[tuple[int, str, str]]:
    """How much a change of one term changes, in rank and in words, and the formula with it."""
    formula = encoding.formula
    flat = {name for d in found for name, w in d.weights.items() if abs(abs(w) - 1) < 1e-12}
    columns = held.columns
    if term.correlated and len(columns) > 1 and not flat.issuperset(columns):
        smaller = uncorrelated(term)
        if smaller != term:
            yield 0, f"drop the correlation of {term.label}", _with(formula, term, smaller)
    if not term.structure:
        for label, smaller in _fewer_effects(encoding, held, j, term, flat):
            yield 1, f"drop {label} from {term.label}", _with(formula, term, smaller)
    if len(formula.random) > 1:
        yield 2, f"drop {term.label}", _with(formula, term, None)
    else:
        what = f"drop {term.label}, the only random term: fit a linear model"
        yield 2, what, str(replace(formula, random=()))


def _fewer_effects(
    encoding: Encoding, held: ReTerm, j: int, term: RandomTerm, flat: set[str]
) -> Iterator[tuple[str, RandomTerm]]:
    """The term without one effect, those without variance first; of ``||`` only such ones."""
    side = encoding.slopes[j]
    effects = side.terms
    columns = held.columns
    if len(effects) < 2:
        return
    candidates = droppable(effects)
    if not term.correlated:
        if not any(
            is_levels(side, e) for e in effects
        ):  # without the intercept a factor is coded anew
            candidates += [e for e in effects if not e.factors]
        candidates = [e for e in candidates if flat.intersection(columns[c] for c in e.columns)]
    for effect in sorted(candidates, key=lambda e: not all(columns[c] in flat for c in e.columns)):
        rest = [e for e in effects if e is not effect]
        yield ("the intercept" if not effect.factors else effect.label), of_effects(term, rest)


def _with(formula: MixedFormula, old: RandomTerm, new: RandomTerm | None) -> str:
    """The formula with one random term replaced, or left out."""
    terms = [new if term == old else term for term in formula.random]
    return str(replace(formula, random=tuple(t for t in terms if t is not None)))
