"""Writes data/exam.csv and data/exam_effects.csv (pure numpy, fixed seeds)."""

import csv
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"
HEADER = ["score", "hours_studied", "prior_gpa", "student_id", "school_id"]

# The data of the tutorial: no group effects.
rng = np.random.default_rng(42)
n = 300
score = 60 + rng.normal(0, 8, n)
hours = rng.uniform(0, 10, n)
gpa = rng.uniform(2, 4, n)
student = rng.integers(1, 31, n)
school = rng.integers(1, 11, n)

# The same with effects of students s1..s30 and schools sch1..sch10 added.
rng = np.random.default_rng(4242)
student_effect = rng.normal(0, 4, 30)
school_effect = rng.normal(0, 3, 10)
score_effects = score + student_effect[student - 1] + school_effect[school - 1]

for name, y in (("exam", score), ("exam_effects", score_effects)):
    with (DATA / f"{name}.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(HEADER)
        for k in range(n):
            numbers = [repr(float(column[k])) for column in (y, hours, gpa)]
            writer.writerow([*numbers, f"s{student[k]}", f"sch{school[k]}"])
