"""Predictions of generalised models: linear predictors, and the means the link makes of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from interlace.design import frame
from interlace.errors import InterlaceError
from interlace.model.generalised import FittedGeneralModel
from interlace.model.predict import fitted, included, predicted
from interlace.sums.terms import Floats

TYPES = ("response", "link")


def predict_mean(
    model: FittedGeneralModel,
    newdata: object = None,
    include_re: bool | str | Iterable[str] = True,
    *,
    type: str = "response",
    offset: ArrayLike | None = None,
) -> Floats:
    """See the method ``predict`` of the result."""
    if type not in TYPES:
        raise InterlaceError(f"type must be 'response' or 'link', not {type!r}")
    include = included(model.estimate.A.terms, include_re)
    if newdata is None:
        assert model.design is not None
        eta = fitted(model.design, model.estimate, include)
    else:
        eta = predicted(model.encoding, model.estimate, newdata, include, offset=offset)
        if model.options.exposure is not None:
            eta = eta + np.log(_exposure(model, newdata))
    return eta if type == "link" else np.asarray(model.link.mean(eta).value)


def _exposure(model: FittedGeneralModel, newdata: object) -> Floats:
    """Exposure of new rows, of the column named in the fit."""
    name = model.options.exposure
    if not isinstance(name, str):
        raise InterlaceError(
            "the model was fitted with an array as exposure, which new data does not carry: fit "
            "with a column of the data as exposure"
        )
    table = frame.open_table(newdata, title="the new data")
    return frame.numeric(frame.pick(table, [name])[name], "the exposure")
