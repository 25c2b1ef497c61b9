"""statsmodels' MixedLM: one grouping factor, crossed intercepts as variance components."""

from __future__ import annotations

from collections.abc import Callable

from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMResults

from benchmarks.peers.common import Answer, Unsupported, pandas_frame, square
from benchmarks.problems import Term
from benchmarks.storage import Stored

Fitted = tuple[tuple[str, ...], MixedLMResults]


def prepare(stored: Stored, *, method: str) -> Callable[[], Fitted]:
    frame = pandas_frame(stored)
    group, random, components = layout(stored)
    if group is None:
        frame = frame.assign(everything=1)
    fixed = f"{stored.response} ~ {stored.fixed}"

    def fit() -> Fitted:
        model = MixedLM.from_formula(
            fixed,
            frame,
            groups=group or "everything",
            re_formula=random,
            vc_formula={term.key: f"0 + C({term.groups[-1]})" for term in components} or None,
        )
        return tuple(t.key for t in stored.terms), model.fit(reml=method == "REML")

    return fit


def layout(stored: Stored) -> tuple[str | None, str, tuple[Term, ...]]:
    """Grouping column, formula of its effects, and the terms left to variance components."""
    outer, *rest = stored.terms
    if not rest:
        return outer.groups[0], f"~ {outer.expr}", ()
    if any(term.expr != "1" for term in stored.terms):
        raise Unsupported("statsmodels has no correlated slopes for crossed factors")
    if all(term.groups[0] == outer.groups[0] for term in rest):
        return outer.groups[0], "~ 1", tuple(rest)
    return None, "~ 0", stored.terms


def answer(result: Fitted) -> Answer:
    keys, fitted = result
    covariances = {keys[0]: square(fitted.cov_re)} if fitted.k_re else {}
    names = sorted(set(keys) - set(covariances))  # statsmodels orders components by name
    covariances |= {k: square(v) for k, v in zip(names, fitted.vcomp, strict=True)}
    return Answer(
        criterion=-2.0 * float(fitted.llf), scale=float(fitted.scale), covariances=covariances
    )
