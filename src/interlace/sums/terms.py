"""Random-effects terms: the labels of one ``(expr | group)`` and where its entries stand in theta.

A term with ``k`` columns and ``l`` levels has one ``k x k`` template ``T``, repeated for every
level; ``sigma^2 T T'`` is the covariance of its random effects.  ``theta`` stacks the free entries
of all templates, column by column, in the order of the terms, as lme4 does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from interlace.covariance.templates import Floats as Floats
from interlace.covariance.templates import Places, Template


@dataclass(frozen=True, eq=False)
class ReTerm:
    """Labels of one random-effects term; no rows, no state.

    Parameters
    ----------
    group
        Key of the grouping factor: ``"g"``, or ``"a:b"`` for an interaction.
    columns
        Names of the ``k`` columns left of the bar, in formulaic's spelling.
    levels
        Labels of the ``l`` levels, in the order of the codes.
    template
        The structure of the template.
    backwards
        Whether terms with equally many levels, and the columns of one with ``||``, are listed from
        the last to the first, as lme4 does in models whose terms it has to sort.
    """

    group: str
    columns: tuple[str, ...]
    levels: NDArray[np.generic]
    template: Template
    backwards: bool = False

    @property
    def k(self) -> int:
        """Columns per level."""
        return len(self.columns)

    @property
    def l(self) -> int:
        """Number of levels."""
        return len(self.levels)

    @property
    def q(self) -> int:
        """Number of random effects, ``l * k``."""
        return self.l * self.k

    @property
    def correlated(self) -> bool:
        """Whether effects of several columns vary together."""
        return self.template.joint > 1

    @cached_property
    def free_index(self) -> tuple[Places, Places]:
        """Rows and columns of the free entries in lme4's order: column by column."""
        rows, columns = self.template.entries
        order = self.template.listed(backwards=self.backwards)
        return rows[order], columns[order]

    @cached_property
    def free(self) -> NDArray[np.bool_]:
        """``(k, k)`` mask of the free entries of the reported template."""
        mask = np.zeros((self.k, self.k), dtype=bool)
        mask[self.free_index] = True
        return mask

    @property
    def n_theta(self) -> int:
        """Number of entries of theta."""
        return len(self.free_index[0])

    @cached_property
    def _listed(self) -> Places:
        return self.template.listed(backwards=self.backwards)

    def lower(self, theta: Floats) -> Floats:
        """The template that is reported as ``theta`` (``n_theta`` values)."""
        values = np.empty(self.n_theta)
        values[self._listed] = theta
        return self.template.of_reported(values)

    def theta(self, template: Floats) -> Floats:
        """What is reported of templates ``(..., k, k)``, the inverse of :meth:`lower`."""
        return self.template.reported(template)[..., self._listed]

    def slopes(self, template: Floats) -> Floats:
        """Derivatives of templates ``(..., k, k)`` by theta, ``(..., n_theta, k, k)``."""
        return self.template.slopes(template)[..., self._listed, :, :]

    def bends(self, template: Floats, gradient: Floats) -> Floats | float:
        """Second derivatives by theta, contracted with a gradient: ``(..., n_theta, n_theta)``."""
        found = self.template.bends(template, gradient)
        if isinstance(found, float):
            return found
        return found[..., self._listed[:, None], self._listed]

    def distances(self, template: Floats, least: Floats) -> Floats:
        """Over which a gradient by theta bends; see :class:`~interlace.covariance.templates`."""
        return self.template.distances(template, least)[..., self._listed]


def inverse(M: Floats) -> Floats:
    """``M^-1`` of a small square matrix."""
    if M.shape == (1, 1):
        return 1.0 / M
    return np.asarray(np.linalg.inv(M), dtype=np.float64)


def split_theta(terms: Sequence[ReTerm], theta: Floats) -> list[Floats]:
    """Templates of all terms from one stacked ``theta``."""
    values = np.asarray(theta, dtype=np.float64)
    ends = accumulate((term.n_theta for term in terms), initial=0)
    parts = [values[start:stop] for start, stop in pairwise(ends)]
    return [term.lower(part) for term, part in zip(terms, parts, strict=True)]


def join_theta(terms: Sequence[ReTerm], templates: Sequence[Floats]) -> Floats:
    """One stacked ``theta`` from the templates of all terms, the inverse of :func:`split_theta`."""
    return np.concatenate([t.theta(T) for t, T in zip(terms, templates, strict=True)])


def pull_theta(
    terms: Sequence[ReTerm], templates: Sequence[Floats], gradients: Sequence[Floats]
) -> Floats:
    """Gradients by the entries of templates ``(k, k)`` as one by the stacked ``theta``."""
    parts = zip(terms, templates, gradients, strict=True)
    return np.concatenate([np.einsum("ab,rab->r", G, t.slopes(T)) for t, T, G in parts])


# ------------------------------------------------------------------ packing, for the optimiser


def places(terms: Sequence[ReTerm]) -> list[slice]:
    """Where the free entries of every term stand in a packed vector."""
    ends = accumulate((term.template.size for term in terms), initial=0)
    return [slice(start, stop) for start, stop in pairwise(ends)]


def pack(terms: Sequence[ReTerm], templates: Sequence[Floats]) -> Floats:
    """Free entries of square working templates ``(..., k, k)`` as one vector ``(..., c)``."""
    parts = [t.template.pack(T) for t, T in zip(terms, templates, strict=True)]
    return np.concatenate(parts, axis=-1)


def pull(
    terms: Sequence[ReTerm], templates: Sequence[Floats], gradients: Sequence[Floats]
) -> Floats:
    """Gradients by the entries of templates ``(..., k, k)`` as one by the packed vector."""
    parts = zip(terms, templates, gradients, strict=True)
    return np.concatenate([t.template.pull(T, G) for t, T, G in parts], axis=-1)


def unpack(terms: Sequence[ReTerm], x: Floats) -> list[Floats]:
    """Inverse of :func:`pack`."""
    return [t.template(x[..., own]) for t, own in zip(terms, places(terms), strict=True)]
