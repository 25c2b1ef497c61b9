"""Where values are missing in the data of a fit, and what rows that has cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from interlace.design.design import column_of
from interlace.design.formula import MixedFormula
from interlace.design.frame import missing, open_table, pick
from interlace.design.reads import columns_of
from interlace.errors import InterlaceError


def missing_table(
    formula: MixedFormula, data: object, beside: Mapping[str, object]
) -> pd.DataFrame:
    """Missing values by column; see the method ``missing`` of a result.

    ``beside`` has what was given as ``weights=`` and the like: columns, or values by row.
    """
    if data is None:
        raise InterlaceError(
            "the result no longer holds its data (it was unpickled, loaded, or fitted by refit): "
            "fit the model again, or ask for n_dropped"
        )
    table = open_table(data)
    stored = pick(table, columns_of(formula, table, beside=beside.values()))
    for name, values in beside.items():
        if values is not None and not isinstance(values, str):
            stored[f"{name}="] = column_of(name, values, table)  # type: ignore[arg-type]
    none = np.zeros(table.n, dtype=bool)
    masks = {name: missing(column) for name, column in stored.items()}
    gaps = {name: none if mask is None else np.asarray(mask) for name, mask in masks.items()}
    count = np.sum(list(gaps.values()), axis=0, dtype=np.intp)
    rows = {
        name: (int(mask.sum()), float(mask.mean()), int((mask & (count == 1)).sum()))
        for name, mask in [*gaps.items(), ("any of them", count > 0)]
    }
    columns = ["missing", "share", "alone"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("column")
