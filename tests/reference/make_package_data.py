"""Writes src/interlace/data from the data in this folder: ``python make_package_data.py``.

Small sets stay readable CSV.  Larger ones become integer codes with their labels in a compressed
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
    "cake", "machines", "orthodont", "exam", "cbpp", "grouseticks", "contraception",
)  # fmt: skip
ARCHIVES = ("insteval", "verbagg")


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


def write_archive(name, columns):
    rows = read_rows(HERE / "data" / f"{name}.csv.gz")
    arrays = {}
    for column, kind in columns.items():
        values = [row[column] for row in rows]
        if kind["type"] == "integer":
            arrays[column] = np.array(values, dtype=np.uint8)
            continue
        levels = kind.get("levels") or sorted(set(values), key=int)
        code = {level: i for i, level in enumerate(levels)}
        arrays[column] = np.array([code[v] for v in values], dtype=np.min_scalar_type(len(levels)))
        numbers = all(level.isdigit() for level in levels)
        arrays[f"{column}.levels"] = np.array(levels, dtype=np.uint16 if numbers else np.str_)
    np.savez_compressed(TARGET / f"{name}.npz", **arrays)


def main():
    TARGET.mkdir(exist_ok=True)
    schema = json.loads((HERE / "data" / "schema.json").read_text())
    shipped = {}
    for name in SMALL:
        columns = {k: v for k, v in schema[name]["columns"].items() if k not in HELPER_COLUMNS}
        shipped[name] = {k: v.get("levels", DTYPES.get(v["type"])) for k, v in columns.items()}
        write_small(name, list(columns))
    for name in ARCHIVES:
        write_archive(name, schema[name]["columns"])
    lines = (f"{json.dumps(name)}: {json.dumps(columns)}" for name, columns in shipped.items())
    (TARGET / "schema.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
