"""What a result keeps of what the caller passed: copies, which nobody else can change."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from interlace.design.frame import Foreign

# Before pandas 3, a shallow copy of a frame shares its values also when one of the two changes.
_DEEP = int(pd.__version__.split(".")[0]) < 3


def kept_frame(data: Foreign) -> Foreign:
    """The caller's data as it is now; what is read part by part, and Arrow's, cannot be changed."""
    if isinstance(data, pd.DataFrame):
        return data.copy(deep=_DEEP)
    if isinstance(data, Mapping):
        return {name: kept_values(values) for name, values in data.items()}
    return data.clone() if _of_polars(data) else data


def kept_values(values: Foreign) -> Foreign:
    """An argument as it is now: a name, or values by row."""
    if isinstance(values, np.ndarray | list | pd.Series | pd.api.extensions.ExtensionArray):
        return values.copy()
    return values.clone() if _of_polars(values) else values


def _of_polars(data: Foreign) -> bool:
    return type(data).__module__.split(".")[0] == "polars"
