"""Orders of elimination that every model of a test is solved in."""

from __future__ import annotations

import numpy as np

from interlace.solver import plan

# How to choose the chain, and whether its tail is sparse.
PLANS = {
    "chosen": plan._choose,
    "chain": lambda A: (plan._longest_chain(A), False),
    "dense": lambda A: (plan._longest_chain(A)[:1], False),
    "sparse": lambda A: (plan._longest_chain(A)[:1], True),
    "smallest term first": lambda A: ((int(np.argmin([t.q for t in A.terms])),), False),
}
