"""Results in files: the verb ``save``; :func:`interlace.load` reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from interlace import model
from interlace.model.fitted import Labelled

if TYPE_CHECKING:
    from interlace.model.stored import Model


class Saved(Labelled[Any]):
    """The verb that writes a result to a file; a chapter of every kind of result."""

    def save(self, path: str | Path, *, rows: bool = True) -> None:
        """Write the result to a file, from which :func:`interlace.load` makes it again.

        The file appears whole or not at all: it is written beside its place, and moved there when
        it is on the disk.

        Parameters
        ----------
        path
            Where to; a file that is there is replaced.
        rows
            ``False`` keeps sums over the rows in their place, of linear models: a small file, and a
            result like that of a fit from sums, which predicts, tests and gives means, and has no
            residuals.

        Raises
        ------
        InterlaceError
            The disk is full, or the place cannot be written to; labels of a type that cannot be
            kept; a formula that says more than a file may; a kind of model that needs its rows.

        Notes
        -----
        Rows (or their sums), levels with their types, the formula, its categories and the states of
        its transforms, the arguments of the fit, and the parameters where the search ended are
        written one by one, under a digest of the whole; nothing is pickled.  The data frame is left
        behind, as it is by pickling.

        Examples
        --------
        >>> import interlace, tempfile, pathlib
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result.save(pathlib.Path(folder) / "sleep.model")
        ...     again = interlace.load(pathlib.Path(folder) / "sleep.model")
        >>> again.predict(sleep[:2]).round(2)
        array([253.66, 273.33])
        """
        model.stored.save(cast("Model", self), path, rows=rows)
