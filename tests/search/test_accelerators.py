import math

import pytest

from codesign import hardware
from codesign.search.accelerators import Grid
from codesign.search.space import parse

TABLES = {
    "task": {"name": "ru_phones", "subset": "mini"},
    "network": {
        "hidden": 32,
        "activation_function": "piecewise_linear",
        "recurrent_kernel": {"weights": {"kind": "fixed", "bits": 4}},
    },
    "accelerator": {"n_pe": [1, 2, 4, 8, 16, 32, 64], "clock_hz": [50e6, 100e6], "technology": ["xc7z020", "xc7a100t"]},
    "search": {"objectives": ["error", "latency_s"]},
}


@pytest.mark.parametrize("limits", [{}, {"latency_s": 20e-6}, {"lut": 700.0}, {"lut": 900.0, "latency_s": 1e-4}])
def test_the_nearest_accelerator_is_the_one_that_brute_force_finds(limits):
    space = parse(TABLES, "x.toml", "x", "")
    grid = Grid(space)
    every = [one for _, rows, _ in grid.groups for one in rows]
    assert len(every) == len(grid) == 28

    def fits(design):
        cost = hardware.estimate(design.network, design.accelerator, space.task.shape)
        row = cost.row()
        return bool(cost.feasible[0]) and all(row[name] <= limit for name, limit in limits.items())

    def far(one, other):
        differ = [name for name in ("n_pe", "clock_hz", "technology") if getattr(one, name) != getattr(other, name)]
        numbers = [name for name in differ if name != "technology"]
        return len(differ), sum(abs(math.log(getattr(one, name) / getattr(other, name))) for name in numbers)

    design, _ = space.design(lambda _, node: node.values[0])
    moved = 0
    for own in every:
        at = design.model_copy(update={"accelerator": own})
        found = grid.nearest(at, limits)
        useful = [one for one in every if fits(design.model_copy(update={"accelerator": one}))]
        assert found in useful and far(found, own) == min(far(one, own) for one in useful)
        assert not fits(at) or found == own
        moved += found != own
    assert moved


def test_a_network_that_runs_nowhere_has_no_nearest_accelerator():
    space = parse(TABLES, "x.toml", "x", "")
    design, _ = space.design(lambda _, node: node.values[0])
    assert Grid(space).nearest(design, {"latency_s": 1e-9}) is None
