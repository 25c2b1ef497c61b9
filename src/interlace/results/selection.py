"""Rows and groups left out, predictions of them, and terms that a model can do without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import pandas as pd

from interlace import inference
from interlace.choices import Ddf
from interlace.design.recipe import require_rows
from interlace.hints import hinted
from interlace.inference.tested import TestedModel
from interlace.model.fitted import as_kind
from interlace.results.shown import as_html, as_text

if TYPE_CHECKING:
    from interlace.diagnostics.leftout import CrossValidation
    from interlace.inference.conditional import ConditionalAIC
    from interlace.model.simulate import Seed

R = TypeVar("R", bound=TestedModel)


@dataclass(frozen=True, eq=False)
class Elimination(Generic[R]):
    """A backward elimination: all its tests, and the model that is left.

    Attributes
    ----------
    model
        The fit that is left, a result like any other.
    random
        Likelihood-ratio tests by random effect: ``eliminated, npar, logLik, AIC, LRT, Df, p``.
    fixed
        F tests by fixed term: ``eliminated, sum_sq, mean_sq, num_df, den_df, F, p``.

    ``eliminated`` counts the terms in the order in which they went; 0 are those that stay.
    """

    model: R
    random: pd.DataFrame
    fixed: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def formula(self) -> str:
        """The formula that is left."""
        return str(self.model.formula)

    def __repr__(self) -> str:
        return "\n\n".join(
            [
                self._text(self.random, "Random effects"),
                self._text(self.fixed, "Fixed terms"),
                *self.notes,
                f"Left: {self.formula}",
            ]
        )

    def _text(self, table: pd.DataFrame, title: str) -> str:
        shown = table.reset_index()
        return as_text(shown, by=(), title=title, notes=())

    def _repr_html_(self) -> str:
        random = as_html(self.random.reset_index(), title="Random effects", notes=())
        fixed = as_html(self.fixed.reset_index(), title="Fixed terms", notes=self.notes)
        return f"{random}{fixed}<p>Left: {self.formula}</p>"


@dataclass(frozen=True, eq=False)
class Selection(TestedModel):
    """Deletions, cross-validation and selection of terms; a chapter of a result."""

    def deletions(self, group: int | str, *, progress: bool | None = None) -> pd.DataFrame:
        """All estimates without each level of a group, by exact refits.

        Parameters
        ----------
        group
            A grouping factor, or 1 for single rows.
        progress
            Whether to show how many refits are done.

        Returns
        -------
        DataFrame
            By level left out: coefficients, standard deviations and correlations, ``sigma``, and
            ``note``, why there is no fit where the row is nan.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> result.deletions("Subject")[["Intercept", "Days", "sigma"]].head(2).round(2)
                 Intercept   Days  sigma
        Subject
        308         251.83   9.80  23.65
        309         254.13  10.95  26.25
        """
        from interlace.diagnostics.leftout import deletions

        return deletions(self, group, progress=progress)

    def cross_validate(
        self,
        by: int | str,
        *,
        k: int | None = None,
        seed: Seed = None,
        progress: bool | None = None,
    ) -> CrossValidation:
        """Predictions of rows by fits without them: all parameters are estimated again.

        Parameters
        ----------
        by
            A grouping factor: each of its levels is left out in turn and predicted as a new one,
            without a random effect of its own.  A number: rows are dealt into so many parts, and
            predicted with the random effects that the others give.  ``"rows"``: one at a time.
        k
            Deal the levels of the factor (or the ``"rows"``) into so many parts.
        seed
            Of the dealing.
        progress
            Whether to show how many refits are done.

        Returns
        -------
        CrossValidation
            ``table`` (``fold, observed, predicted, fitted`` by row), ``scores`` (``rmse, mae,
            r2``), ``by_fold``, ``rmse``.

        Raises
        ------
        InterlaceError
            No such factor, or a number of parts that is not between 2 and that of the units.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> result.cross_validate("Subject").scores.round(2)
                    rmse    mae    r2
        left out   49.60  37.85  0.22
        in sample  23.44  16.34  0.83
        """
        from interlace.diagnostics.leftout import cross_validate

        return cross_validate(self, by, k=k, seed=seed, progress=progress)

    def caic(self) -> ConditionalAIC:
        """Conditional AIC: for new responses of the same groups.

        Returns
        -------
        ConditionalAIC
            ``caic, loglik, df, df_exact, df_fixed_theta``.

        Raises
        ------
        InterlaceError
            The result holds no rows, or was fitted by the iterative solver.

        Notes
        -----
        ``-2 log f(y | b) + 2 df`` with ``df = tr(d fitted / d y) + 1``, variances estimated anew
        (Greven and Kneib 2010, Biometrika 97, 773-789).  ``df`` is that of the R package cAIC4,
        which counts half of the part by which theta follows the residual variance; ``df_exact``
        has the whole derivative.  They differ by up to a tenth of a degree of freedom or so.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> round(result.caic().caic, 2), round(result.caic().df, 2)
        (1711.62, 31.3)
        """
        return inference.conditional.caic(self)

    @hinted
    def step(
        self,
        *,
        alpha_random: float = 0.1,
        alpha_fixed: float = 0.05,
        ddf: Ddf = "satterthwaite",
        keep: Sequence[str] = (),
    ) -> Elimination[Self]:
        """Backward elimination: first of random effects, then of fixed terms.

        The random effect with the largest p is left out while that is above ``alpha_random``, each
        time the model is fitted again; then the fixed term with the largest p of those that no
        other term contains.  The last random term stays.

        P-values, intervals and R squared of a model found in this way do not know of the search.

        Parameters
        ----------
        alpha_random, alpha_fixed
            Levels of the tests; 0 and 1 leave nothing, or everything that can be, out.
        ddf
            Of the F tests, as in :meth:`coef_table`.
        keep
            Terms that stay: ``"x"``, ``"(1 + x | g)"``.

        Returns
        -------
        Elimination
            ``model`` (a result), ``formula``, and the tables of tests ``random`` and ``fixed``.

        Raises
        ------
        InterlaceError
            An unknown term to keep; a result that does not hold its data.

        Notes
        -----
        Likelihood ratios use the criterion of the fit, with a plain chi-squared distribution, as
        :meth:`ranova`; F tests are those of a term's own coefficients.  The procedure is that of
        Kuznetsova, Brockhoff and Christensen (2017, Journal of Statistical Software 82(13)).

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> sleep["late"] = sleep["Days"] > 5
        >>> result = interlace.fit("Reaction ~ Days + late + (Days | Subject)", sleep)
        >>> found = result.step()
        >>> found.formula
        'Reaction ~ 1 + Days + (1 + Days | Subject)'
        >>> found.fixed["eliminated"].to_dict()
        {'late': 1, 'Days': 0}
        """
        done = inference.step.step(
            self, alpha_random=alpha_random, alpha_fixed=alpha_fixed, ddf=ddf, keep=keep
        )
        note = f"Levels: {alpha_random:g} for random effects, {alpha_fixed:g} for fixed ({ddf})."
        return Elimination(as_kind(type(self), done.model), done.random, done.fixed, (note,))

    def standardized(self, *, ddf: Ddf | None = None, level: float = 0.95) -> pd.DataFrame:
        """Coefficients in standard deviations: of the response, and of numeric columns.

        Parameters
        ----------
        ddf, level
            As in :meth:`coef_table`.

        Returns
        -------
        DataFrame
            As :meth:`coef_table`, without the intercept.  Coefficients of factors are differences
            in standard deviations of the response; those of numbers are also per standard deviation
            of the number, and in an interaction per standard deviation of each number in it.

        Notes
        -----
        Standard deviations are those of the rows used.  R's effectsize calls this ``"posthoc"``.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> result.standardized()[["estimate", "lower", "upper"]].round(2)
              estimate  lower  upper
        Days      0.54   0.38   0.69
        """
        design = require_rows(self.design, "standardized")
        reference = self._reference(ddf)
        return inference.standardized.standardized_table(self, design, reference, level=level)
