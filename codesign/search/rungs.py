"""Successive halving for several objectives: who is trained further than a rung.

At a rung the networks trained so far are sorted into layers: the non-dominated ones, then those that only these
dominate, and so on, over (error at this rung, costs). Costs are known exactly; only the error is provisional. A
network goes on while fewer than 1/reduction of all networks at the rung lie in better layers, so that the first
layer always does. What is stopped stays stopped.

It can mislead where learning curves cross: a network that starts slowly and ends best is stopped. The more
objectives, the fewer networks are dominated, and the less is saved.

References:
    Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016.
    Schmucker et al., "Multi-objective asynchronous successive halving", arXiv 2106.12639 (non-dominated sorting).
"""

from collections.abc import Mapping

import numpy as np

from codesign.search.front import Points, non_dominated


def budgets(epochs: int, n_rungs: int, reduction: int) -> tuple[int, ...]:
    """Epochs at which networks are compared, and in the end those of the whole training.

    >>> budgets(12, 2, 3), budgets(12, 0, 3), budgets(2, 3, 3)
    ((1, 4, 12), (12,), (1, 2))
    """
    found = {max(1, round(epochs / reduction**k)) for k in range(n_rungs + 1)}
    return tuple(sorted(found | {epochs}))


def goes_on(points: Mapping[str, Points], network: str, reduction: int) -> bool:
    """Whether a network is trained further.

    Args:
        points: of every network that was trained as far as this rung, (designs, objectives): one row for each
            accelerator it can run on. A network counts as its best row does.
        network: which of them.
    """
    rows, mine = np.concatenate(list(points.values())), list(points).index(network)
    owners = np.repeat(np.arange(len(points)), [len(of_one) for of_one in points.values()])
    better: set[int] = set()  # networks of the layers so far
    while len(better) * reduction < len(points):
        best = non_dominated(rows)
        if not best.any() or mine in (found := set(owners[best].tolist())):
            return True
        better |= found
        rows, owners = rows[~best], owners[~best]
    return False
