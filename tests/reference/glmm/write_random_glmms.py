"""Data of the random models, for R: ``python write_random_glmms.py DIRECTORY`` from ``tests``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from glmm.random_glmms import drawn


def main(directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    models = []
    for seed in range(200):
        fields = asdict(drawn(seed))
        data = fields.pop("data")
        data.to_csv(directory / f"{seed}.csv", index=False)
        models.append({**fields, "total": round(float(data.y.sum()), 6)})
    (directory / "models.json").write_text(json.dumps(models))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
