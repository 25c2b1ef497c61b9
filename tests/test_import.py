"""What ``import interlace`` loads: next to nothing; and ``fit``: what it needs, and no more."""

from __future__ import annotations

import subprocess
import sys

import pytest

import interlace

HEAVY = (
    "numpy",
    "pandas",
    "scipy",
    "formulaic",
    "narwhals",
    "pyarrow",
    "polars",
    "duckdb",
    "dask",
    "psutil",
    "concurrent.futures",
    "multiprocessing",
)
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


def test_the_import_opens_the_errors_alone() -> None:
    loaded = loaded_by("import interlace\nfrom interlace import InterlaceError\ndir(interlace)")
    assert not loaded.intersection(HEAVY)
    own = {name for name in loaded if name.split(".")[0] == "interlace"}
    assert own == {"interlace", "interlace.errors"}


def test_a_fit_opens_what_it_needs() -> None:
    loaded = loaded_by("from interlace import fit, datasets")
    assert "interlace.door" in loaded
    assert not loaded.intersection((*COSTLY, *LATER, "polars", "duckdb", "dask", "patsy"))


@pytest.mark.parametrize("name", sorted(set(interlace.__all__) - {"families", "datasets"}))
def test_every_name_is_found_without_the_others(name: str) -> None:
    """No module of the same name stands in its place, in whichever order they are opened."""
    found = getattr(interlace, name)
    assert callable(found) and found.__name__ in (name, f"{name}_models")
    assert f"interlace.{name}" not in sys.modules


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
