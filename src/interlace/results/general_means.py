"""Means of a generalised model: of linear predictors, of responses and their parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, get_args

from numpy.typing import ArrayLike

from interlace import inference, results
from interlace.choices import Component, Ddf, MeanWeights, Mode, RobustKind, Scale
from interlace.errors import InterlaceError, choose
from interlace.glmm.estimate import GeneralEstimate
from interlace.glmm.links import LOGIT
from interlace.glmm.ordinal import Ordinal
from interlace.hints import hinted
from interlace.inference.general import TestedGeneralModel
from interlace.inference.means import parts
from interlace.inference.means.response import population
from interlace.model.auxiliary import is_plain
from interlace.model.confidence import check_level
from interlace.results.means import TYPES, Means

if TYPE_CHECKING:
    from interlace.inference.means.rows import Seen
    from interlace.inference.means.specs import Names
    from interlace.inference.wald import Reference
    from interlace.results.estimated import EstimatedMeans
    from interlace.sums.terms import Floats

COMPONENTS: tuple[Component, ...] = get_args(Component)
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, eq=False)
class GeneralMeans(Means[GeneralEstimate], TestedGeneralModel):
    """Means of a generalised model; a chapter of a result."""

    @cached_property
    def _seen(self) -> Seen:
        """What the rows say of the columns of the fixed effects."""
        if isinstance(self.family, Ordinal):
            return parts.seen_of_categories(self)
        return super()._seen

    @hinted
    def emmeans(
        self,
        specs: Names = None,
        by: Names = None,
        *,
        at: Mapping[str, object] | None = None,
        weights: MeanWeights = "equal",
        ddf: Ddf | None = None,
        robust: RobustKind | None = None,
        cluster: str | Sequence[str] | ArrayLike | None = None,
        type: Scale = "link",
        integrate: bool = False,
        level: float = 0.95,
        component: Component | None = None,
        mode: Mode | None = None,
    ) -> EstimatedMeans:
        """Estimated marginal means of factors, of the parts of a response too.

        Parameters
        ----------
        specs, by, at, weights, ddf, robust, cluster, type, integrate, level
            As of a linear model, see :meth:`interlace.CrossedLMEResult.emmeans`.
        component
            ``"conditional"``, the default: of the linear predictor, or with ``type="response"``
            mapped by the link; with zero inflation or a hurdle, of responses but these zeros.
            ``"zero"``: of the logit of the share of zeros, or with ``type="response"`` the share.
            ``"mean"``: of expected responses, zeros included, averaged on their own scale.
        mode
            Of ordered categories.  ``"latent"``, the default: of the linear predictor less the mean
            of the thresholds.  ``"probability"`` of every category; ``"cumulative"``: of a category
            up to every threshold, ``"exceedance"``: beyond it; ``"linear-predictor"``: every
            threshold less the linear predictor; ``"mean-class"``: the mean of 1, 2, ...
            Categories make groups unless they are named among the means.

        Returns
        -------
        EstimatedMeans
            ``table``, ``contrasts()``, ``joint_tests()``, ``letters()``, ``plot()``.

        Raises
        ------
        InterlaceError
            A component or mode that the family does not have, and what linear models raise.

        Notes
        -----
        Expected responses and probabilities are those of a typical group, whose random effects are
        zero; standard errors are by the delta method, from the covariance of all coefficients, the
        thresholds and those of zeros and dispersions included.  Intervals of probabilities are
        symmetric on the scale of the logit, of positive means on that of the logarithm.

        Examples
        --------
        >>> import interlace
        >>> ticks = interlace.datasets.load("grouseticks")
        >>> result = interlace.fit(
        ...     "TICKS ~ YEAR + (1 | BROOD)", ticks, family="poisson", zero_inflation="~ YEAR"
        ... )
        >>> result.emmeans("YEAR", component="mean").table[["YEAR", "response", "se"]].round(2)
          YEAR  response    se
        0   95      1.45  0.34
        1   96      5.47  1.09
        2   97      0.58  0.14
        """
        if component is None and mode is None:
            return super().emmeans(
                specs,
                by,
                at=at,
                weights=weights,
                ddf=ddf,
                robust=robust,
                cluster=cluster,
                type=type,
                integrate=integrate,
                level=level,
            )
        kind = self._kind(component, mode)
        if type not in TYPES:
            raise InterlaceError(f"type must be 'link' or 'response', not {type!r}")
        if kind in ("latent", "conditional"):
            found = self.emmeans(
                specs, by, at=at, weights=weights, ddf=ddf, robust=robust, cluster=cluster,
                level=level,
            )  # fmt: skip
            return (
                self._on_response(found, weights, integrate=integrate)
                if (type == "response" or integrate) and kind == "conditional"
                else found
            )
        self._refuse_others(kind, ddf, robust, cluster, integrate=integrate)
        check_level(level)
        if kind == "zero":
            return self._zeros(specs, by, at, weights, type, level)
        return self._averages(kind, specs, by, at, weights, level)

    def _kind(self, component: Component | None, mode: Mode | None) -> str:
        """What means are asked for, refused if the family does not have them."""
        ordinal = isinstance(self.family, Ordinal)
        if mode is not None:
            if component is not None:
                raise InterlaceError("component= and mode= are of different families: give one")
            if not ordinal:
                raise InterlaceError(
                    f"mode= is for ordered categories, not family={self.family.name!r}: "
                    f"component= names its parts"
                )
            return choose("mode", str(mode).replace(".", "-"), MODES, one_of=True)  # R's names
        if ordinal:
            raise InterlaceError(
                "component= is for other families: of ordered categories mode= says what means are"
            )
        return choose("component", component, COMPONENTS)

    def _refuse_others(
        self,
        kind: str,
        ddf: Ddf | None,
        robust: RobustKind | None,
        cluster: object,
        *,
        integrate: bool,
    ) -> None:
        """Refuse what means of parts do not have."""
        what = f"{'component' if kind in COMPONENTS else 'mode'}={kind!r}"
        if integrate:
            raise InterlaceError(
                f"integrate=True is not there with {what}, whose means are those of a typical "
                f"group: average over simulate()"
            )
        if robust is not None or cluster is not None:
            raise InterlaceError(f"robust= is for means of the linear predictor: leave {what} out")
        self._reference(ddf)

    def _zeros(
        self,
        specs: Names,
        by: Names,
        at: Mapping[str, object] | None,
        weights: str,
        type: Scale,
        level: float,
    ) -> EstimatedMeans:
        """Means of the logit of the share of zeros, or of that."""
        seen, estimate = parts.seen_of_zeros(self), self.estimate
        grid = inference.means.grid.reference_grid(seen, at=at)
        inner, groups = inference.means.specs.specified(specs, by, list(grid.values))
        own = [i for i, n in enumerate(estimate.problem.parts.predictor) if n == parts.ZEROS]
        given = inference.latent.Given(
            estimate.family_coefficients[own], estimate.family_covariance[own][:, own]
        )
        functions = inference.means.averages.means(grid, inner, groups, weights)
        found = results.estimated.EstimatedMeans(
            functions=functions,
            grid=grid,
            beta=given.beta,
            reference=given,
            level=level,
            notes=inference.means.said.of_grid(grid, functions, weights, None),
            method=inference.means.said.of_reference("normal", None),
            response=f"zeros of {self.formula.response}",
        )
        if type == "link":
            return found
        notes = (*found.notes, "Mapped from the scale of the link (logit).")
        return replace(found, link=LOGIT, name="response", notes=notes)

    def _averages(
        self,
        kind: str,
        specs: Names,
        by: Names,
        at: Mapping[str, object] | None,
        weights: str,
        level: float,
    ) -> EstimatedMeans:
        """Means of expected responses, or of what a mode says of ordered categories."""
        seen = self._seen if isinstance(self.family, Ordinal) else parts.seen_of_all(self)
        grid = inference.means.grid.reference_grid(seen, at=at)
        X, eta, G, omega = parts.at_grid(self, grid)
        response = self.formula.response
        if isinstance(self.family, Ordinal):
            quantity = parts.category_at(self.family, kind, response, eta, omega)
        else:
            quantity = parts.response_at(self.family, eta, omega)
        known = [*grid.values, *([quantity.column] if quantity.column else [])]
        named = inference.means.specs.specified(specs, by, known)
        over, functions, given = parts.averages(self, grid, quantity, (X, G), named, weights)
        exposed = () if self.options.exposure is None else ("The exposure is 1.",)
        return results.estimated.EstimatedMeans(
            functions=functions,
            grid=over,
            beta=given.beta,
            reference=given,
            level=level,
            notes=(*inference.means.said.of_grid(over, functions, weights, None), *exposed),
            method=inference.means.said.of_reference("normal", None),
            response=response if kind == "mean" else f"{response} ({kind})",
            limits=quantity.limits,
            name=quantity.name,
        )

    def _compared(
        self,
        ddf: Ddf | None,
        robust: RobustKind | None,
        cluster: str | Sequence[str] | ArrayLike | None,
    ) -> tuple[Floats, Reference]:
        """The coefficients that means are functions of, of categories on the latent scale."""
        if not isinstance(self.family, Ordinal):
            return super()._compared(ddf, robust, cluster)
        if robust is not None or cluster is not None:
            raise InterlaceError(
                "means of ordered categories have no robust= covariance, which is of the fixed "
                "effects without thresholds: coef_table() and wald_test() have it"
            )
        self._reference(ddf)
        given = inference.latent.latent(self)
        return given.beta, given

    def _refuse_means(self, type: str, trend: str | None) -> None:
        """Refuse means of responses of several parts."""
        if type == "response" and isinstance(self.family, Ordinal):
            raise InterlaceError(
                "type='response' of ordered categories is mode='probability' of each, or "
                "mode='mean-class'"
            )
        if type == "response" and not is_plain(self.family):
            raise InterlaceError(
                f"type='response' of family={self.family.name!r} may be of all responses, "
                f"component='mean', or of the law beside the zeros, component='conditional'"
            )

    def _on_response(
        self, found: EstimatedMeans, weights: str, *, integrate: bool
    ) -> EstimatedMeans:
        exposed = () if self.options.exposure is None else ("The exposure is 1.",)
        if not integrate:
            notes = (
                *found.notes,
                *exposed,
                f"Mapped from the scale of the link ({self.link.name}).",
            )
            return replace(found, link=self.link, name="response", notes=notes)
        functions, reference = population(self, found.grid, found.functions, weights)
        notes = (*found.notes, *exposed, "Averaged over the random effects.")
        return replace(
            found,
            functions=functions,
            beta=reference.beta,
            reference=reference,
            limits=self.link,
            name="response",
            notes=notes,
        )
