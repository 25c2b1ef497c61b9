"""Fits the InstEval lecture ratings and draws the lecturers' effects.

``make demo`` runs this; it writes demo.png into the current directory.
"""

import time

import numpy as np
import pandas as pd
from plotnine import aes, geom_hline, geom_linerange, geom_point, ggplot, labs, theme_bw

import interlace

PICTURE = "demo.png"


def timed_fit(ratings: pd.DataFrame) -> tuple[interlace.CrossedLMEResult, float]:
    """Ratings by students (s) of lecturers (d) in departments: the fit and its seconds."""
    start = time.perf_counter()
    result = interlace.fit("y ~ service + (1 | s) + (1 | d) + (1 | dept)", ratings)
    return result, time.perf_counter() - start


def ranked_effects(result: interlace.CrossedLMEResult, group: str) -> pd.DataFrame:
    """Random effects of one grouping factor in increasing order, with 95 % intervals."""
    effect, se = result.random_effects[group], result.random_effects_se[group]
    table = pd.DataFrame({"effect": effect, "low": effect - 1.96 * se, "high": effect + 1.96 * se})
    return table.sort_values("effect").assign(rank=np.arange(1, len(table) + 1))


def caterpillar(effects: pd.DataFrame) -> ggplot:
    """Every level with its interval, from the lowest to the highest."""
    return (
        ggplot(effects, aes("rank", "effect", ymin="low", ymax="high"))
        + geom_linerange(color="#9ecae1", size=0.3)
        + geom_point(color="#08519c", size=0.4, stroke=0)
        + geom_hline(yintercept=0, linetype="dashed")
        + labs(
            x="Lecturers, by their effect",
            y="Effect on the rating (1 to 5)",
            title="InstEval: lecturers, with 95 % intervals",
        )
        + theme_bw()
    )


def main() -> None:
    ratings = interlace.datasets.load("insteval")
    result, seconds = timed_fit(ratings)
    print(result.summary())
    print(
        f"\n{result.nobs:,} ratings fitted in {seconds:.2f} s,"
        f" {result.convergence.n_evaluations} evaluations of the criterion."
    )
    picture = caterpillar(ranked_effects(result, "d"))
    picture.save(PICTURE, width=7, height=4, dpi=150, verbose=False)
    print(f"The effects of {result.ngroups['d']:,} lecturers are drawn in {PICTURE}.")


if __name__ == "__main__":
    main()
