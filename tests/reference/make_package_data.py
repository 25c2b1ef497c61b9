"""Writes src/interlace/data from the data in this folder: ``python make_package_data.py``.

Small sets stay readable CSV.  InstEval becomes integer codes with their labels in a compressed
archive, which is small and takes milliseconds to read.
"""

import csv
import gzip
import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TARGET = HERE.parents[1] / "src" / "interlace" / "data"
HELPER_COLUMNS = {"w", "off"}  # weights and offset added to sleepstudy for the tests
DTYPES = {"numeric": "float64", "integer": "int64"}
SMALL = (
    "sleepstudy", "penicillin", "pastes", "dyestuff", "dyestuff2",
    "cake", "machines", "orthodont", "exam",
)  # fmt: skip


def read_rows(file):
    opener = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rt", newline="") as stream:
        return list(csv.DictReader(stream))


def write_small(name, columns):
    rows = read_rows(HERE / "data" / f"{name}.csv")
    with (TARGET / f"{name}.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_insteval(columns):
    rows = read_rows(HERE / "data" / "insteval.csv.gz")
    arrays = {}
    for name, column in columns.items():
        values = np.array([int(row[name]) for row in rows])
        if column["type"] == "integer":
            arrays[name] = values.astype(np.uint8)
            continue
        levels = np.array([int(v) for v in column.get("levels", sorted(set(values)))])
        code = {level: i for i, level in enumerate(levels)}
        dtype = np.min_scalar_type(len(levels))
        arrays[name] = np.array([code[v] for v in values], dtype=dtype)
        arrays[f"{name}.levels"] = levels.astype(np.uint16)
    np.savez_compressed(TARGET / "insteval.npz", **arrays)


def main():
    TARGET.mkdir(exist_ok=True)
    schema = json.loads((HERE / "data" / "schema.json").read_text())
    shipped = {}
    for name in SMALL:
        columns = {k: v for k, v in schema[name]["columns"].items() if k not in HELPER_COLUMNS}
        shipped[name] = {k: v.get("levels", DTYPES.get(v["type"])) for k, v in columns.items()}
        write_small(name, list(columns))
    write_insteval(schema["insteval"]["columns"])
    lines = (f"{json.dumps(name)}: {json.dumps(columns)}" for name, columns in shipped.items())
    (TARGET / "schema.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
