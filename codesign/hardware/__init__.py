"""Analytic cost of a network on an accelerator: closed form, vectorized, NumPy only.

    Network -> Workload (what a step asks for) -> accelerator kind (cycles, joules, fabric) -> Cost

Example:
    >>> from codesign.design import Accelerator, Network, TaskShape
    >>> cost = estimate(Network(cell="lstm"), Accelerator(kind="dense"), TaskShape(16, 10))
    >>> bool(cost.feasible[0]), cost.row()["dsp"]
    (True, 21)
"""

from codesign.design import Accelerator, Activity, Network, TaskShape
from codesign.hardware.accelerators import ACCELERATORS, AcceleratorKind, Settings, accelerator_kind
from codesign.hardware.cost import COST_FIELDS, Cost, Infeasible
from codesign.hardware.technology import TECHNOLOGIES, AsicNode, FpgaPart, Technology, technology
from codesign.hardware.workload import Workload, workload

VERSION = 2
"""Raised whenever a change makes the same design cost something else."""


def estimate(
    network: Network,
    accelerator: Accelerator,
    shape: TaskShape,
    activity: Activity | None = None,
    settings: Settings | None = None,
) -> Cost:
    """Cost of one time step of `network`.

    Args:
        shape: of the task.
        accelerator: kind and technology, and the size and clock unless `settings` gives them.
        activity: measured zeros of the state; without it every cost is the worst case.
        settings: to try in one call instead of the accelerator's own.

    Raises:
        InputError: the kind or technology is unknown, or a count is below 1.
    """
    kind, part = accelerator_kind(accelerator.kind), technology(accelerator.technology)
    if settings is None:
        settings = Settings.of_accelerator(accelerator)
    return kind.estimate(workload(network, shape, activity), settings, part)


__all__ = [
    "ACCELERATORS",
    "AcceleratorKind",
    "AsicNode",
    "COST_FIELDS",
    "Cost",
    "FpgaPart",
    "Infeasible",
    "Settings",
    "TECHNOLOGIES",
    "Technology",
    "VERSION",
    "Workload",
    "accelerator_kind",
    "estimate",
    "technology",
]
