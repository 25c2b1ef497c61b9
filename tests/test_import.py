"""What ``import interlace`` loads: what a fit needs, and no more."""

from __future__ import annotations

import subprocess
import sys

import pytest

import interlace

COSTLY = ("scipy.interpolate", "scipy.optimize", "scipy.stats", "plotnine", "matplotlib")
LATER = (
    "interlace.plots",
    "interlace.many.fit_many",
    "interlace.diagnostics.influence",
    "interlace.batch",
    "interlace.glmm.estimate",
    "interlace.inference.bootstrap.resample",
    "interlace.inference.intervals",
    "interlace.reporting.summary",
    "interlace.results.estimated",
)


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", code], text=True).split())


def test_what_a_fit_does_not_need_is_not_loaded() -> None:
    loaded = loaded_by("import interlace")
    assert not loaded.intersection((*COSTLY, *LATER))


def test_what_is_public_is_there_on_first_use() -> None:
    statement = "import interlace\nassert callable(interlace.hlm_influence)"
    assert "interlace.plots" not in loaded_by(statement)
    for name in interlace.__all__:
        assert getattr(interlace, name) is not None
        assert getattr(interlace.diagnostics, name, None) in (None, getattr(interlace, name))
    for name in interlace.diagnostics.__all__:
        assert getattr(interlace, name) is getattr(interlace.diagnostics, name)
    assert callable(interlace.leverage)


@pytest.mark.parametrize("module", [interlace, interlace.diagnostics])
def test_what_is_not_there_is_an_attribute_error(module: object) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'hlm_influenced'"):
        module.hlm_influenced  # type: ignore[attr-defined]  # noqa: B018
