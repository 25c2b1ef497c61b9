"""Families and links by their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from interlace.errors import InterlaceError
from interlace.glmm.counted import BetaBinomial
from interlace.glmm.families import (
    Beta,
    Binomial,
    Family,
    Gamma,
    Gaussian,
    InverseGaussian,
    NegativeBinomial,
    Poisson,
)
from interlace.glmm.heavy import StudentT
from interlace.glmm.links import (
    Cauchit,
    Identity,
    Inverse,
    Link,
    Log,
    Logit,
    LogLog,
    LogProbability,
    Probit,
    SquareRoot,
)
from interlace.glmm.ordinal import Ordinal
from interlace.glmm.tweedie import Tweedie
from interlace.glmm.zeros import Hurdle, Inflated, Truncated
from interlace.hints import of_family

Known = (
    Binomial
    | Beta
    | BetaBinomial
    | Poisson
    | NegativeBinomial
    | Truncated
    | Gamma
    | InverseGaussian
    | Gaussian
    | StudentT
    | Tweedie
    | Ordinal
)

FAMILIES: Mapping[str, Known] = {
    "gaussian": Gaussian(),
    "binomial": Binomial(),
    "poisson": Poisson(),
    "negative-binomial": NegativeBinomial(),
    "gamma": Gamma(),
    "inverse-gaussian": InverseGaussian(),
    "beta": Beta(),
    "beta-binomial": BetaBinomial(),
    "ordinal": Ordinal(),
    "student-t": StudentT(),
    "tweedie": Tweedie(),
    "truncated-poisson": Truncated(),
    "truncated-negative-binomial": Truncated(NegativeBinomial()),
}
# What other packages call them.
_SYNONYMS: Mapping[str, Known] = {
    "normal": Gaussian(),
    "bernoulli": Binomial(),
    "nb": NegativeBinomial(),
    "nb1": NegativeBinomial(kind=1),
    "nb2": NegativeBinomial(),
    "negbin": NegativeBinomial(),
    "negbinomial": NegativeBinomial(),
    "nbinom": NegativeBinomial(),
    "nbinom1": NegativeBinomial(kind=1),
    "nbinom2": NegativeBinomial(),
    "negativebinomial": NegativeBinomial(),
    "inverse.gaussian": InverseGaussian(),
    "inversegaussian": InverseGaussian(),
    "betabinomial": BetaBinomial(),
    "cumulative": Ordinal(),
    "cumulativelogit": Ordinal(),
    "ordered": Ordinal(),
    "proportionalodds": Ordinal(),
    "t": StudentT(),
    "studentt": StudentT(),
    "truncatednbinom": Truncated(NegativeBinomial()),
    "truncatednbinom2": Truncated(NegativeBinomial()),
    "truncatednbinom1": Truncated(NegativeBinomial(kind=1)),
}

_PROBABILITIES = (Logit(), Probit(), LogLog(), Cauchit())
_COUNTS = (Log(), SquareRoot(), Identity(positive=True))
_POSITIVE = (Log(), Inverse(positive=True), Identity(positive=True))
_LINKS: Mapping[type, tuple[Link, ...]] = {
    Binomial: (*_PROBABILITIES, LogProbability()),
    Beta: _PROBABILITIES,
    Poisson: _COUNTS,
    NegativeBinomial: _COUNTS,
    Gamma: _POSITIVE,
    InverseGaussian: _POSITIVE,
    Gaussian: (Identity(), Log(), Inverse()),
    BetaBinomial: _PROBABILITIES,
    Ordinal: _PROBABILITIES[:3],
    StudentT: (Identity(), Log(), Inverse()),
    Tweedie: (Log(),),
    Truncated: (Log(),),
}


def family_of(family: str | Family, link: str | None = None) -> Family:
    """A family by its name or as it is, with another link if one is named.

    Raises
    ------
    InterlaceError
        An unknown family, or a link that the family does not have.
    """
    found = _named(family) if isinstance(family, str) else family
    if not isinstance(found, Known):
        raise InterlaceError(
            f"family must be a name ({_quoted(FAMILIES)}) or a value of interlace.families, such "
            f"as families.NegativeBinomial(kind=1), not {family!r}"
        )
    wanted: object = found.link if link is None else link
    choices = {one.name: one for one in _LINKS[type(found)]}
    if link is None and wanted in choices.values():
        return found
    if not isinstance(wanted, str) or wanted.lower() not in choices:
        raise InterlaceError(
            f"link={wanted!r} is none of family={found.name!r}: choose {_quoted(choices)}"
        )
    if isinstance(found, Truncated):  # one link, its family's own
        return found
    return replace(found, link=choices[wanted.lower()])  # type: ignore[arg-type]


def with_zeros(family: Family) -> Family:
    """The family with a predictor of zeros: in excess, or all of them where it has none.

    Raises
    ------
    InterlaceError
        Zeros are no mass of the family's, or it has no more or fewer of them.
    """
    if isinstance(family, Truncated | Gamma | InverseGaussian | Beta):
        return Hurdle(family)
    if isinstance(family, Poisson | NegativeBinomial | BetaBinomial | Binomial):
        return Inflated(family)
    raise InterlaceError(
        f"zero_inflation= needs counts, or a family of positive values, not "
        f"family={family.name!r}: leave it out"
    )


def _named(name: str) -> Known:
    """A family by its name."""
    key = name.strip().lower().replace("_", "-").replace(" ", "-")
    if key in FAMILIES:
        return FAMILIES[key]
    if key.replace("-", "") in _SYNONYMS:
        return _SYNONYMS[key.replace("-", "")]
    hint = of_family(key)
    wanted = f"write {hint}" if hint else f"choose {_quoted(FAMILIES)}"
    raise InterlaceError(f"unknown family {name!r}: {wanted}")


def _quoted(names: Mapping[str, object]) -> str:
    *first, last = [repr(name) for name in names]
    return f"{', '.join(first)} or {last}"
