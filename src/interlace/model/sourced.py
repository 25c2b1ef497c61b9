"""Generalised models of data that is read part by part: its columns, held."""

from __future__ import annotations

from interlace.design.formula import MixedFormula
from interlace.design.frame import pick
from interlace.design.reads import columns_of, columns_read
from interlace.errors import InterlaceError
from interlace.glmm.families import Family
from interlace.model.fitted import Options
from interlace.model.outcomes import check_arguments, component_texts
from interlace.sources.build import not_a_column
from interlace.sources.gathered import gathered
from interlace.sources.opening import open_source
from interlace.sources.source import Source
from interlace.sums.crossprod import CrossProducts

# Arguments that are columns of a source, or arrays beside a frame.
_BESIDE = ("weights", "offset", "trials", "exposure")


def held_rows(spec: MixedFormula, data: object, options: Options, family: Family) -> object:
    """The data, or the columns that the model reads of what is read part by part.

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
    why = f"family={family.name!r} needs its rows at every step"
    return gathered(source, columns, why=why, progress=options.progress)


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
