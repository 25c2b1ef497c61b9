"""Small classic data sets for examples and tests.

Grouping and treatment columns are categorical, with the level order of the R packages that made
these sets common (the first level is the reference); everything else is numeric.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interlace.errors import InterlaceError

_DATA = files("interlace") / "data"
_ARCHIVES = ("insteval", "verbagg")  # stored as integer codes, because text would be slow to read


def names() -> list[str]:
    """Names that :func:`load` knows, sorted.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from interlace import datasets
    >>> datasets.names()[:3]
    ['cake', 'cbpp', 'contraception']
    """
    return sorted([*_schema(), *_ARCHIVES])


def load(name: str) -> pd.DataFrame:
    """One data set as a fresh pandas frame.

    Parameters
    ----------
    name
        One of:

        ``"sleepstudy"`` (180 rows)
            Reaction time in ms per day of sleep deprivation, 18 subjects on 10 days.
            Belenky et al. (2003), Journal of Sleep Research 12, 1-12.
        ``"penicillin"`` (144 rows)
            Diameter in mm of the growth inhibition zone of 6 penicillin samples on each of 24
            plates, fully crossed.
            Davies and Goldsmith (1972), Statistical Methods in Research and Production, 4th ed.
        ``"pastes"`` (60 rows)
            Strength of a chemical paste, two assays of 3 casks in each of 10 batches.  ``cask`` is
            numbered within its batch; ``sample`` is the pair.
            Davies and Goldsmith (1972), as above.
        ``"dyestuff"`` (30 rows)
            Yield in g of dyestuff from 5 preparations of each of 6 batches.
            Davies and Goldsmith (1972), as above.
        ``"dyestuff2"`` (30 rows)
            The same layout, simulated so that the batch variance is estimated as zero.
            Box and Tiao (1973), Bayesian Inference in Statistical Analysis.
        ``"cake"`` (270 rows)
            Breaking angle in degrees of chocolate cakes: 3 recipes, 15 replicates of each, 6
            baking temperatures in degrees Fahrenheit (``temp`` is the number), a split-plot.
            Cook (1938), thesis, Iowa State College; Cochran and Cox (1957), Experimental Designs.
        ``"machines"`` (54 rows)
            Productivity score of 6 workers on 3 machines, three times each.
            Milliken and Johnson (1992), Analysis of Messy Data, vol. 1.
        ``"orthodont"`` (108 rows)
            Distance in mm from pituitary to pterygomaxillary fissure of 27 children at ages 8,
            10, 12 and 14.
            Potthoff and Roy (1964), Biometrika 51, 313-326.
        ``"insteval"`` (73,421 rows)
            Ratings ``y`` from 1 to 5 of 1,128 lecturers ``d`` by 2,972 students ``s`` at ETH
            Zurich: ``studage`` (semesters of the student), ``lectage`` (how long ago the lecture
            was), ``service`` (lecture for another department), ``dept`` (14 departments).
            ETH Zurich, lecture evaluations, anonymised; published with the R package lme4.
        ``"cbpp"`` (56 rows)
            New cases (``incidence``) of contagious bovine pleuropneumonia among ``size`` animals of
            15 zebu herds in Ethiopia in four periods.
            Lesnoff et al. (2004), Preventive Veterinary Medicine 64, 27-40.
        ``"grouseticks"`` (403 rows)
            Ticks (``TICKS``) on the heads of red grouse chicks (``INDEX``) of 118 broods at 63
            locations in three years; ``HEIGHT`` in m above the sea, ``cHEIGHT`` about its mean.
            Elston et al. (2001), Parasitology 122, 563-569.
        ``"contraception"`` (1,934 rows)
            Whether a woman of one of 60 districts of Bangladesh used contraception (``use``), her
            number of living children, her age in years about the mean, and urban or rural.
            Huq and Cleland (1990), Bangladesh Fertility Survey 1989; published with mlmRev.
        ``"verbagg"`` (7,584 rows)
            Answers (``resp``; ``r2`` without "perhaps") of 316 persons to 24 items on verbal
            aggression: behaviour ``btype``, who is to blame ``situ``, ``mode`` want or do; trait
            anger and gender of the person.
            Vansteelandt (2000), thesis, Leuven; De Boeck and Wilson (2004), Explanatory Item
            Response Models.
        ``"exam"`` (300 rows)
            Synthetic exam scores of 30 students in 10 schools without true group effects, from
            the code of the tutorial (numpy, seed 42).

    Returns
    -------
    pandas.DataFrame
        A new frame on every call.

    Raises
    ------
    InterlaceError
        If there is no data set of that name.

    Examples
    --------
    >>> from interlace import datasets
    >>> sleepstudy = datasets.load("sleepstudy")
    >>> sleepstudy.shape
    (180, 3)
    >>> sleepstudy["Subject"].cat.categories[:2].to_list()
    ['308', '309']
    """
    if name in _ARCHIVES:
        return _read_archive(name)
    if name in _schema():
        return _read_csv(name, _schema()[name])
    raise InterlaceError(_unknown(name))


@cache
def _schema() -> Mapping[str, Mapping[str, str | list[str]]]:
    """Per CSV set and column: a numeric dtype, or the levels of a factor in their order."""
    schema: Mapping[str, Mapping[str, str | list[str]]]
    schema = json.loads((_DATA / "schema.json").read_text(encoding="utf-8"))
    return schema


def _read_csv(name: str, kinds: Mapping[str, str | list[str]]) -> pd.DataFrame:
    """Columns through numpy, whose parser rounds correctly with every version of pandas."""
    with (_DATA / f"{name}.csv").open(encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
    return pd.DataFrame({column: _typed(columns[column], kind) for column, kind in kinds.items()})


def _typed(values: list[str], kind: str | list[str]) -> pd.Categorical[str] | NDArray[np.generic]:
    """A categorical of the given levels, or numbers of the given dtype."""
    return pd.Categorical(values, kind) if isinstance(kind, list) else np.array(values).astype(kind)


def _read_archive(name: str) -> pd.DataFrame:
    """Columns stored as codes beside ``<column>.levels``, or as plain integers."""
    with (_DATA / f"{name}.npz").open("rb") as stream, np.load(stream) as stored:
        arrays = dict(stored)
    columns = {
        column: (
            pd.Categorical.from_codes(values, arrays[f"{column}.levels"].astype(str).tolist())
            if f"{column}.levels" in arrays
            else values.astype(np.int64)
        )
        for column, values in arrays.items()
        if not column.endswith(".levels")
    }
    return pd.DataFrame(columns)


def _unknown(name: str) -> str:
    nearest = difflib.get_close_matches(str(name).lower(), names(), n=1, cutoff=0.0)[0]
    return f"no data set {name!r}; did you mean {nearest!r}? Available: {', '.join(names())}."
