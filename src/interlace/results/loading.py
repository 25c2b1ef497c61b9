"""``load``: a file that a result was saved to, and the result again."""

from __future__ import annotations

from pathlib import Path

from interlace.model.fitted import FittedModel, as_kind
from interlace.model.generalised import FittedGeneralModel
from interlace.model.scaled import FittedScaledModel
from interlace.model.stored import load as load_model
from interlace.results import general_responses, scaled_responses, structured_responses
from interlace.results.general import CrossedGLMMResult
from interlace.results.result import CrossedLMEResult
from interlace.results.scaled import ScaledLMEResult
from interlace.results.structured import StructuredLMEResult


def load(
    path: str | Path,
) -> CrossedLMEResult | CrossedGLMMResult | StructuredLMEResult | ScaledLMEResult:
    """Read a result that its method ``save`` has written.

    A file cannot run anything.  It holds texts, numbers and arrays, all named, and nothing is
    looked at before the digest over all of it is right.  The formula that comes with it is held to
    arithmetic on columns, the transforms of formulas, and numpy's functions of numbers.  The model
    is then computed again from its rows or their sums, and must come out as it was.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    CrossedLMEResult, CrossedGLMMResult, StructuredLMEResult or ScaledLMEResult
        The result without the data frame: ``update()`` asks for ``data=``.

    Raises
    ------
    InterlaceError
        There is no such file, it is not one of a result, it is of another version, it was changed
        or cut short, or it says what no file may.

    Examples
    --------
    >>> import interlace, tempfile, pathlib
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days", sleep, groups="Subject")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result.save(pathlib.Path(folder) / "small.model", rows=False)
    ...     again = interlace.load(pathlib.Path(folder) / "small.model")
    >>> again.fe_params.round(3).to_dict()
    {'Intercept': 251.405, 'Days': 10.467}
    """
    model = load_model(path)
    if isinstance(model, FittedModel):
        return as_kind(CrossedLMEResult, model)
    if isinstance(model, FittedGeneralModel):
        return general_responses.as_result(CrossedGLMMResult, model)
    if isinstance(model, FittedScaledModel):
        return scaled_responses.as_result(ScaledLMEResult, model)
    return structured_responses.as_result(StructuredLMEResult, model)
