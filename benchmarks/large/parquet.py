"""A data set on disk, larger than one would like in memory: Parquet files, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

CHUNK = 2_000_000
SLOPES = (0.5, -0.25, 0.1, 0.05, 0.0)
FORMULA = "y ~ x1 + x2 + x3 + x4 + x5 + (1 | g) + (1 | h)"


@dataclass(frozen=True)
class Files:
    """Rows with five covariates and two crossed factors, drawn alike and independently."""

    n: int = 100_000_000
    levels: tuple[int, int] = (100_000, 10_000)
    sds: tuple[float, float, float] = (0.5, 0.3, 1.0)
    seed: int = 8

    def scaled(self, scale: float) -> Files:
        """A share of the rows and of the levels."""
        g, h = self.levels
        return replace(
            self,
            n=max(round(self.n * scale), 2_000),
            levels=(max(round(g * scale), 50), max(round(h * scale), 20)),
        )


def write(files: Files, directory: Path) -> int:
    """Write ``part-<i>.parquet`` of at most two million rows each; returns their bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(files.seed)
    effects = [sd * rng.standard_normal(l) for sd, l in zip(files.sds, files.levels, strict=False)]
    for i, start in enumerate(range(0, files.n, CHUNK)):
        size = min(CHUNK, files.n - start)
        codes = [rng.integers(l, size=size, dtype=np.int32) for l in files.levels]
        x = rng.standard_normal((len(SLOPES), size))
        y = files.sds[2] * rng.standard_normal(size) + np.array(SLOPES) @ x
        y += effects[0][codes[0]] + effects[1][codes[1]]
        columns = {"y": y, "g": codes[0], "h": codes[1]}
        columns |= {f"x{j}": column for j, column in enumerate(x, start=1)}
        pq.write_table(pa.table(columns), directory / f"part-{i:03}.parquet", compression="none")
    return sum(path.stat().st_size for path in directory.glob("part-*.parquet"))
