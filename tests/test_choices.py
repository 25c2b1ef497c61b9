"""Choices as types: their names are understood where they are asked for, and pages are typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import interlace
from dense import frame
from interlace import InterlaceError, choices
from interlace.glmm.names import FAMILIES, family_of
from interlace.model.fitted import STRUCTURED_DDF

ROOT = Path(__file__).parents[1]
SMALL = "y ~ x + f + (1 | g)"


def test_families_and_links_are_all_there() -> None:
    assert get_args(choices.FamilyName) == tuple(FAMILIES)
    assert get_args(choices.Ddf) == STRUCTURED_DDF
    known = set()
    for link in get_args(choices.LinkName):
        for family in FAMILIES:
            try:
                known.add(family_of(family, link).link.name)
            except InterlaceError as error:
                assert "choose" in str(error)
    assert known == set(get_args(choices.LinkName))


@pytest.mark.parametrize(
    ("argument", "choice", "call"),
    [
        ("ddf", choices.Ddf, lambda r, c: r.coef_table(ddf=c)),
        ("robust", choices.RobustKind, lambda r, c: r.cov_params(robust=c)),
        ("weights", choices.MeanWeights, lambda r, c: r.emmeans("f", weights=c)),
        ("adjust", choices.Adjustment, lambda r, c: r.emmeans("f").contrasts(adjust=c)),
        ("effects", choices.Effects, lambda r, c: r.tidy(c)),
        ("show", choices.Shown, lambda r, c: interlace.table(r, show=c)),
        ("interval", choices.Interval, lambda r, c: r.predict(interval=c)),
        ("new_levels", choices.NewLevels, lambda r, c: r.predict(frame(), new_levels=c)),
    ],
)
def test_every_choice_is_understood(argument: str, choice: object, call) -> None:
    result = interlace.fit(SMALL, frame())
    names = [name for name in get_args(choice) if name not in get_args(choices.Ddf)[3:]]
    for name in names:
        call(result, name)


@pytest.mark.slow
def test_scripts_of_the_pages_pass_mypy() -> None:
    found = subprocess.run(
        [sys.executable, "docs/check_types.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout
