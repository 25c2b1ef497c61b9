"""Keeps of the files that ``make_mmrm.R`` writes, and of SAS's, what the tests compare.

python3 trim.py FOLDER   (where the scripts were run)
"""

import json
import sys
from pathlib import Path

HERE, SOURCE = Path(__file__).parent, Path(sys.argv[1])


def of_mmrm(found: dict) -> dict:
    kept = ("data_file", "formula", "weights", "method", "n", "n_subjects", "minus2logLik")
    methods = [m for m in found["coefficients"] if "/" not in m]
    rows = {k: found["rows"][k] for k in ("subject", "visit", "fitted", "resid_normalized")}
    return {
        **{name: found[name] for name in kept},
        "covariance": found["covariance"],
        "fixef": found["fixef"],
        "coefficients": {
            m: {k: found["coefficients"][m][k] for k in ("se", "df")} for m in found["coefficients"]
        },
        "differences": {
            m: {
                k: found["emmeans"][m]["differences_revpairwise"][k]
                for k in ("estimate", "SE", "df")
            }
            for m in methods
            if m in found["emmeans"]
        },
        "rows": rows,
        "versions": found["versions"],
    }


def of_sas(found: dict) -> dict:
    outputs = {}
    for name, one in found["outputs"].items():
        info = {k: one[k] for k in ("minus2ll_last_iteration_8_decimals", "rows") if k in one}
        outputs[name] = {**info, "source_file": one["source_file"]}
    return {"software": found["software"], "models": found["models"], "outputs": outputs}


def main() -> None:
    for kind, trimmed in (("mmrm", of_mmrm), ("sas", of_sas)):
        paths = sorted((SOURCE / "golden").glob(f"{kind}_*.json"))
        names = [path for path in paths if "check" not in path.name]
        found = {path.stem: trimmed(json.loads(path.read_text())) for path in names}
        (HERE / "golden" / f"{kind}.json").write_text(json.dumps(found, indent=None) + "\n")


main()
