"""Keeps of the files that the scripts write, and of SAS's, what the tests compare.

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


def of_nlme(found: dict) -> dict:
    kept = ("data_file", "description", "formula_fixed", "formula_lme4_style", "oracle_call", "n")
    numbers = ("fixef", "se", "sigma", "residual_parameters", "minus2logLik", "npar")
    out = {name: found[name] for name in (*kept, "versions")}
    for method in ("reml", "ml"):
        one = found[method]
        out[method] = {name: one[name] for name in numbers}
        out[method]["df"] = one["satterthwaite"]["df"]
        out[method]["covariances"] = [term["cov"]["values"] for term in one["random_terms"]]
        if "ranef" in one:
            out[method]["ranef"] = {k: one["ranef"][k] for k in ("term", "grp", "mode", "cond_sd")}
        rows = one["rows"]
        out[method]["rows"] = {k: rows[k][:20] for k in ("obs_index_1based", "fitted")}
    return out


def of_sas(found: dict) -> dict:
    outputs = {}
    for name, one in found["outputs"].items():
        info = {k: one[k] for k in ("minus2ll_last_iteration_8_decimals", "rows") if k in one}
        outputs[name] = {**info, "source_file": one["source_file"]}
    return {"software": found["software"], "models": found["models"], "outputs": outputs}


def main() -> None:
    kinds = {"mmrm": of_mmrm, "sas": of_sas, "nlme": of_nlme, "ranef": of_nlme}
    patterns = {"nlme": ("gls_*.json", "lme_*.json", "het_*.json")}
    for kind, trimmed in kinds.items():
        globs = patterns.get(kind, (f"{kind}_*.json",))
        paths = sorted(p for glob in globs for p in (SOURCE / "golden").glob(glob))
        names = [path for path in paths if "check" not in path.name]
        found = {path.stem: trimmed(json.loads(path.read_text())) for path in names}
        (HERE / "golden" / f"{kind}.json").write_text(json.dumps(found, indent=None) + "\n")


main()
