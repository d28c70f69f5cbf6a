"""Every accelerator after one training: a trained network is costed on all settings that a space allows.

The cost is exact and takes microseconds, so the front is taken over all of them although Optuna proposed one.
Where a field is a continuous range, a grid of it is tried.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign import hardware
from codesign.design import Accelerator, Activity, Design, Network
from codesign.errors import InputError
from codesign.hardware import Cost, Settings
from codesign.knobs import Choice, Node, Range, Scalar
from codesign.search.space import SearchSpace

GRID = 16  # values that are tried of a range with more
SETTINGS = ("n_pe", "clock_hz", "batch", "dram_bits_per_s", "supply_v")
"""Fields of which an array is costed in one call."""


@dataclass(frozen=True)
class Costed:
    """A network on one accelerator."""

    accelerator: Accelerator
    cost: dict[str, float | int | None]


class Grid:
    """All accelerators of a search space.

    Args:
        space: whose table [accelerator] they come from.
        changes: fields with other values than there: a what-if.

    Raises:
        InputError: if a change is no field or no value of an accelerator.
    """

    def __init__(self, space: SearchSpace, changes: dict[str, list[Scalar]] | None = None) -> None:
        self.space = space
        table = space.tree["accelerator"]
        assert isinstance(table, dict)
        self.values: dict[str, list[Any]] = {name: _values(node) for name, node in table.items()}
        self.values |= changes or {}

    @cached_property
    def groups(self) -> list[tuple[Accelerator, list[Accelerator], Settings]]:
        """Accelerators that are costed in one call: one of them, all of them, and their settings."""
        outer = [name for name in self.values if name not in SETTINGS]
        inner = [name for name in self.values if name in SETTINGS]
        found = []
        for fixed in product(*(self.values[name] for name in outer)):
            rows = [
                Accelerator.model_validate(dict(zip([*outer, *inner], [*fixed, *free], strict=True)))
                for free in product(*(self.values[name] for name in inner))
            ]
            columns = {name: [getattr(row, name) for row in rows] for name in SETTINGS}
            found.append((rows[0], rows, Settings.of(**columns)))
        return found

    def __len__(self) -> int:
        """Accelerators."""
        return math.prod(len(values) for values in self.values.values())

    def costed(self, network: Network, activity: Activity | None, limits: dict[str, float]) -> list[Costed]:
        """A network on every accelerator that it runs on within the limits.

        Args:
            activity: measured; None before the training.
            limits: by cost field; they hold in the worst case.
        """
        found = []
        for one, rows, settings in self.groups:
            worst = hardware.estimate(network, one, self.space.task.shape, None, settings)
            fits = worst.feasible & within(worst, limits)
            if not fits.any():
                continue
            mean = worst
            if activity is not None:
                mean = hardware.estimate(network, one, self.space.task.shape, activity, settings)
            found += [Costed(rows[i], mean.row(int(i))) for i in np.flatnonzero(fits)]
        return found

    def nearest(self, design: Design, limits: dict[str, float]) -> Accelerator | None:
        """Of the accelerators that a design's network runs on within the limits, the one most like its own.

        Fewest fields differ, and numbers by the smallest factor; None if it runs nowhere.
        """
        own = design.accelerator
        near = [row.accelerator for row in self.costed(design.network, None, limits)]
        return min(near, key=lambda one: _distance(one, own), default=None)

    def obstacles(self, network: Network, limits: dict[str, float]) -> str:
        """Why a network runs nowhere here: the reason of the first accelerator."""
        one, _, settings = self.groups[0]
        cost = hardware.estimate(network, one, self.space.task.shape, None, settings)
        return (cost.reasons() or [f"a limit is exceeded ({', '.join(limits)})"])[0]


def _distance(one: Accelerator, other: Accelerator) -> tuple[int, float]:
    pairs = [(value, getattr(other, name)) for name, value in one if value != getattr(other, name)]
    factors = [abs(math.log(a / b)) for a, b in pairs if not isinstance(a, str) and a > 0 and b > 0]
    return len(pairs), sum(factors)


def within(cost: Cost, limits: dict[str, float]) -> NDArray[np.bool_]:
    """Which settings keep all limits; a cost that a technology does not have breaks none."""
    rows = [cost.row(i) for i in range(len(cost))]
    return np.array(
        [all(row[name] is None or row[name] <= limit for name, limit in limits.items()) for row in rows]  # type: ignore[operator]
    )


def _values(node: Node) -> list[Any]:
    """The values of a field; of a continuous range, or a long one, a grid."""
    if isinstance(node, Choice):
        return list(node.values)
    if not isinstance(node, Range):
        if isinstance(node, bool | int | float | str):
            return [node]
        raise InputError(f"an accelerator has no such field: {node}")
    if node.whole or node.step:
        step = node.step or 1
        steps = int((node.high - node.low) / step + 1e-9) + 1
        if steps <= GRID and not node.log:
            return [node.low + i * step for i in range(steps)]
        picked = np.unique(np.linspace(0, steps - 1, GRID).round())
        if node.log:
            picked = np.unique((np.geomspace(node.low, node.high, GRID) - node.low).round() / step)
        return [type(node.low)(node.low + i * step) for i in picked]
    grid = np.geomspace if node.log else np.linspace
    return [float(value) for value in grid(node.low, node.high, GRID)]
