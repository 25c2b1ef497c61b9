"""Generalised models of data that is read part by part: its columns, held."""

from __future__ import annotations

from interlace.design.complete import MISSING
from interlace.design.formula import MixedFormula
from interlace.design.frame import pick
from interlace.design.reads import columns_of, columns_read
from interlace.errors import InterlaceError, choose
from interlace.glmm.families import Family
from interlace.glmm.ordinal import Ordinal
from interlace.glmm.streamed import StreamedProblem
from interlace.machine.memory import in_gb, memory_limit
from interlace.model.fitted import Options
from interlace.model.outcomes import check_arguments, component_texts
from interlace.model.spilled import spilled
from interlace.sources.build import not_a_column
from interlace.sources.gathered import gathered
from interlace.sources.opening import open_source
from interlace.sources.passes import request_of, scanned
from interlace.sources.scan import Request, Scan
from interlace.sources.source import Source
from interlace.sums.crossprod import CrossProducts

# Arguments that are columns of a source, or arrays beside a frame.
_BESIDE = ("weights", "offset", "trials", "exposure")
# Bytes of a row in memory while a model is fitted: for its levels and weights, and for each column.
_PER_ROW, _PER_COLUMN = 200, 40


def held_rows(
    spec: MixedFormula, data: object, options: Options, family: Family
) -> object | StreamedProblem:
    """The data; or of what is read part by part the columns that the model reads.

    Where these, and what is made of them, do not fit in memory it is a problem of rows in a scratch
    file.

    Raises
    ------
    InterlaceError
        Cross-products, which do not have what weights change at every step.
    """
    if isinstance(data, CrossProducts):
        raise InterlaceError(
            "a generalised model needs its rows at every step, which cross-products do not keep: "
            "pass the data, which may be files, DuckDB or Dask"
        )
    source = open_source(data)
    if source is None:
        return data
    columns = columns_wanted(spec, source, options, family)
    read: tuple[Request, Scan] | None = None
    n = source.n
    if n is None:
        read = _scanned(spec, source, options)
        n = read[1].kept
    if _needed(n, len(columns)) <= memory_limit():
        why = f"family={family.name!r} needs its rows at every step"
        return gathered(source, columns, why=why, progress=options.progress)
    _refuse_unheld(options, family, _needed(n, len(columns)))
    read = read or _scanned(spec, source, options)
    return spilled(spec, source, read, options, family)


def _needed(n: int, columns: int) -> float:
    """Bytes that rows take while they are fitted."""
    return float(n * (_PER_ROW + _PER_COLUMN * columns))


def _scanned(spec: MixedFormula, source: Source, options: Options) -> tuple[Request, Scan]:
    """The first pass over a source, and what it asks for."""
    missing = choose("missing", options.missing, MISSING)
    beside = [getattr(options, name) for name in _BESIDE]
    request = request_of(spec, source, beside)
    return request, scanned(source, request, missing, options.progress)


def _refuse_unheld(options: Options, family: Family, need: float) -> None:
    """Refuse what passes over rows in a file do not do yet."""
    plain = ("~1", "")
    formulas = {
        "zero_inflation": options.zero_inflation,
        "dispersion": options.dispersion,
    }
    asked = [
        f"{name}={text!r}"
        for name, text in formulas.items()
        if text is not None and text.replace(" ", "") not in plain
    ]
    if isinstance(family, Ordinal):
        asked.append(f"family={family.name!r}")
    if options.quadrature != 1:
        asked.append(f"quadrature={options.quadrature!r}")
    if options.method == "REML":
        asked.append("method='REML'")
    if asked:
        raise InterlaceError(
            f"{asked[0]} needs the rows in memory: they would take {in_gb(need)}, and "
            f"{in_gb(memory_limit())} are free; leave it out, or fit a part of the rows"
        )


def columns_wanted(
    spec: MixedFormula, source: Source, options: Options, family: Family
) -> list[str]:
    """Columns of a source that the model reads.

    Raises
    ------
    InterlaceError
        Arguments of rows that are not names of columns, or columns that the source has not.
    """
    check_arguments(options, family)
    for argument in _BESIDE:
        values = getattr(options, argument)
        if values is not None and not isinstance(values, str):
            raise not_a_column(argument, source.title)
    header, texts = source.header, component_texts(options, family)
    columns = columns_of(spec, header, beside=[getattr(options, name) for name in _BESIDE])
    columns += columns_read(texts.values(), header, None)
    pick(header, columns)
    return list(dict.fromkeys(columns))
