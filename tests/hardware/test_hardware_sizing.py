"""The smallest accelerator is the one that trying every size finds; what cannot be kept is one line."""

from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest

from codesign.design import Accelerator, Network, PiecewiseLinear, TaskShape
from codesign.errors import InputError
from codesign.hardware import (
    ACCELERATORS,
    COST_FIELDS,
    TECHNOLOGIES,
    FpgaPart,
    Settings,
    estimate,
    sizing,
    technology,
)
from codesign.hardware.sizing import LARGEST_N_PE, Misfit, limits_text, next_smaller, smallest

SHAPE = TaskShape(10, 7)
KNOWN = ", ".join(sorted(COST_FIELDS))
PLACES = [(kind, part) for kind in ("dense", "serial_core") for part in ("xc7z020", "asic65")]


def network(**fields: Any) -> Network:
    return Network(**({"cell": "lstm", "hidden": 48, "activation_function": PiecewiseLinear()} | fields))


def row(net: Network, on: Accelerator, n_pe: int) -> dict[str, Any]:
    """One size, estimated alone: its figures and whether it runs."""
    cost = estimate(net, on.model_copy(update={"n_pe": n_pe}), SHAPE)
    return cost.row() | {"feasible": bool(cost.feasible[0])}


def keeps(figures: dict[str, Any], limits: dict[str, float]) -> bool:
    within = [figures[f] >= v if f == "throughput" else figures[f] <= v for f, v in limits.items()]
    return figures["feasible"] and all(within)


def brute_force(net: Network, on: Accelerator, limits: dict[str, float]) -> int:
    return next(n_pe for n_pe in count(1) if keeps(row(net, on, n_pe), limits))


@pytest.mark.parametrize(("kind", "part"), PLACES)
@pytest.mark.parametrize("target", [1, 16, 48])
@pytest.mark.parametrize("net", [network(), network(cell="gru", layers=2, hidden=96)], ids=["lstm", "gru"])
def test_smallest_is_what_trying_every_size_one_by_one_finds(kind: str, part: str, net: Network, target: int) -> None:
    on = Accelerator(kind=kind, technology=part, n_pe=5, clock_hz=80e6)
    at = row(net, on, target)
    silicon = "lut" if part == "xc7z020" else "area_mm2"
    for limits in (
        {"latency_s": at["latency_s"]},
        {"cycles": at["cycles"], silicon: 1.01 * at[silicon]},
        {"throughput": at["throughput"]},
        {"power_w": 2 * at["power_w"], "throughput": 0.9 * at["throughput"]},
        {"energy_j": at["energy_j"]},
    ):
        found = smallest(net, on, SHAPE, limits)
        assert found.n_pe == brute_force(net, on, limits)
        assert found == on.model_copy(update={"n_pe": found.n_pe})


@pytest.mark.parametrize(("kind", "part"), PLACES)
def test_a_limit_is_kept_where_it_is_met_exactly_and_not_a_rounding_below(kind: str, part: str) -> None:
    net, on = network(), Accelerator(kind=kind, technology=part)
    for n_pe in (2, 6, 24):
        at = row(net, on, n_pe)
        assert smallest(net, on, SHAPE, {"latency_s": at["latency_s"]}).n_pe == n_pe
        assert smallest(net, on, SHAPE, {"latency_s": float(np.nextafter(at["latency_s"], 0))}).n_pe > n_pe
        assert smallest(net, on, SHAPE, {"throughput": at["throughput"]}).n_pe == n_pe
        assert smallest(net, on, SHAPE, {"throughput": float(np.nextafter(at["throughput"], 1e9))}).n_pe > n_pe


def test_all_other_settings_are_the_accelerators_own() -> None:
    on = Accelerator(
        kind="dense", technology="asic65", n_pe=7, clock_hz=80e6, batch=4, dram_bits_per_s=1e9, supply_v=1.1
    )
    # 89 kbit come in within 89 us for four streams, which leaves 4 us of a step for all but the kernels
    limits = {"throughput": 43.1e3}
    limits["power_w"] = 1.0001 * row(network(), on, brute_force(network(), on, limits))["power_w"]
    found = smallest(network(), on, SHAPE, limits)
    assert found.model_dump() == on.model_dump() | {"n_pe": found.n_pe}
    assert found.n_pe == brute_force(network(), on, limits) > 1
    for field, default in (("clock_hz", 100e6), ("batch", 1), ("dram_bits_per_s", 0.0), ("supply_v", 0.0)):
        other = on.model_copy(update={field: default})
        alike = keeps(row(network(), other, found.n_pe), limits)
        assert not alike or brute_force(network(), other, limits) != found.n_pe


def test_a_size_far_out_by_hand() -> None:
    # dense, LSTM-1024: ceil(4096 / P) * (10 + 1024) + ceil(3072 / P) + 1024 + 32 cycles; two passes from P = 2048 on
    net, on = network(hidden=1024), Accelerator(kind="dense", technology="asic22")
    limits = {"cycles": 2 * 1034 + 2 + 1024 + 32}
    assert smallest(net, on, SHAPE, limits).n_pe == 2048
    below = next_smaller(net, on.model_copy(update={"n_pe": 2048}), SHAPE, limits)
    assert below == Misfit(2047, (f"cycles = {3 * 1034 + 2 + 1024 + 32}",), ())


@pytest.mark.parametrize("chunk", [1, 7, 48])
def test_the_answers_do_not_depend_on_how_many_sizes_are_tried_at_once(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, on, limits = network(), Accelerator(kind="serial_core"), {"latency_s": 3e-5}
    whole = smallest(net, on, SHAPE, limits)
    below = next_smaller(net, whole, SHAPE, limits)
    monkeypatch.setattr(sizing, "_CHUNK", chunk)
    assert smallest(net, on, SHAPE, limits) == whole
    assert next_smaller(net, whole, SHAPE, limits) == below


@pytest.mark.parametrize(("kind", "part"), PLACES)
def test_the_next_smaller_one_is_the_largest_below_that_runs_and_misses_a_limit(kind: str, part: str) -> None:
    net, on, limits = network(), Accelerator(kind=kind, technology=part), {"latency_s": 4e-5, "power_w": 10.0}
    found = smallest(net, on, SHAPE, limits)
    below = next_smaller(net, found, SHAPE, limits)
    assert below is not None and below.reasons == ()
    assert below.n_pe == max(n for n in range(1, found.n_pe) if row(net, on, n)["feasible"])
    assert below.missed == (f"latency_s = {row(net, on, below.n_pe)['latency_s']:g}",)
    assert next_smaller(net, on.model_copy(update={"n_pe": 1}), SHAPE, limits) is None


@pytest.mark.parametrize("kind", sorted(ACCELERATORS))
def test_every_kind_is_sized_or_refused_in_one_line(kind: str) -> None:
    on = Accelerator(kind=kind, technology="asic22")
    limits = {"latency_s": 1.0}
    sizes = np.arange(1, LARGEST_N_PE + 1)
    runs = sizes[estimate(network(), on, SHAPE, settings=Settings.of(sizes, on.clock_hz)).feasible]
    if len(runs):
        assert smallest(network(), on, SHAPE, limits).n_pe == runs[0]
    else:
        with pytest.raises(InputError, match=f"^{kind} on asic22 cannot run with any n_pe; with [0-9]+: .+") as error:
            smallest(network(), on, SHAPE, limits)
        assert "\n" not in str(error.value)


def refusal(net: Network, on: Accelerator, limits: dict[str, float]) -> str:
    with pytest.raises(InputError) as error:
        smallest(net, on, SHAPE, limits)
    assert len(error.value.faults) == 1 and "\n" not in str(error.value)
    return str(error.value)


def test_where_no_size_is_enough_the_line_says_the_best_one() -> None:
    # LSTM-48 in one pass from P = 192 on: 10 + 48 + 1 + 48 + 32 = 139 cycles; more units change nothing
    assert refusal(network(), Accelerator(kind="dense", technology="asic65"), {"latency_s": 1e-6}) == (
        "dense on asic65 cannot keep latency_s <= 1e-06; the nearest is n_pe = 192 with latency_s = 1.39e-06; "
        "no other n_pe does better"
    )


def test_where_the_part_is_too_small_the_line_says_what_is_missing() -> None:
    # 256 lanes and 5 element-wise multipliers; hidden = 256 can use no number between 128 and 256
    net, on = network(cell="gru", hidden=256), Accelerator(kind="serial_core", technology="xc7z020")
    at = {n_pe: row(net, on, n_pe)["latency_s"] for n_pe in (128, 256)}
    best = f"the nearest is n_pe = 128 with latency_s = {at[128]:g}; n_pe = 256"
    assert refusal(net, on, {"latency_s": at[256]}).endswith(f"{best} would do, but needs 261 DSP, xc7z020 has 220")
    assert refusal(net, on, {"latency_s": 1e-6}).endswith(
        f"{best} would have latency_s = {at[256]:g}, but needs 261 DSP, xc7z020 has 220"
    )


def test_of_all_that_would_do_the_smallest_is_named() -> None:
    # dense, LSTM-256: two passes from 512 units on, one from 1024 on
    net, on = network(hidden=256), Accelerator(kind="dense", technology="xc7z020")
    line = refusal(net, on, {"cycles": 2 * (10 + 256) + 2 + 256 + 32})
    assert "; n_pe = 512 would do, but needs 517 DSP, xc7z020 has 220; needs " in line


def test_what_the_kind_can_use_is_named_rather_than_what_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    # 3 lanes would be quick enough, but 94 rows can only use 1, 2, 47 or 94 of them
    small = technology("xc7z020")
    assert isinstance(small, FpgaPart)
    monkeypatch.setitem(TECHNOLOGIES, "small", replace(small, name="small", dsp=20))
    net, on = network(hidden=94), Accelerator(kind="serial_core", technology="small")
    line = refusal(net, on, {"latency_s": row(net, on, 3)["latency_s"]})
    assert line.endswith(
        f"the nearest is n_pe = 2 with latency_s = {row(net, on, 2)['latency_s']:g}; "
        "n_pe = 47 would do, but needs 52 DSP, small has 20"
    )


def test_limits_that_exclude_each_other_name_what_the_nearest_misses() -> None:
    net, on = network(), Accelerator(kind="dense", technology="xc7z020")
    few, many = row(net, on, 4), row(net, on, 64)
    limits = {"lut": few["lut"], "latency_s": many["latency_s"]}
    line = refusal(net, on, limits)
    assert line.startswith(f"dense on xc7z020 cannot keep {limits_text(limits)}; the nearest is n_pe = ")
    sizes = np.arange(1, LARGEST_N_PE + 1)
    cost = estimate(net, on, SHAPE, settings=Settings.of(sizes, on.clock_hz))
    worst = np.maximum(cost.lut / limits["lut"], cost.latency_s / limits["latency_s"])
    best = int(np.argmin(np.where(cost.feasible, worst, np.inf)))
    assert f"n_pe = {best + 1} with lut = {cost.lut[best]:g} and latency_s = {cost.latency_s[best]:g}; " in line


def test_what_can_run_at_no_size_says_why() -> None:
    exact = network(activation_function="exact")
    assert refusal(exact, Accelerator(kind="serial_core"), {"latency_s": 1.0}) == (
        "serial_core on xc7z020 cannot run with any n_pe; with 1: serial_core evaluates piecewise-linear segments; "
        "use activation_function = 'piecewise_linear'"
    )


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        ({}, "no limit is given; a limit is a figure and its largest value, as latency_s and 5e-5"),
        ({"latency": 1.0}, f"unknown figure 'latency'; did you mean 'latency_s'? Known: {KNOWN}"),
        ({"latency_s": 0.0}, "the limit of latency_s must be a number above zero, got 0.0"),
        ({"latency_s": float("nan")}, "the limit of latency_s must be a number above zero, got nan"),
        ({"lut": float("inf")}, "the limit of lut must be a number above zero, got inf"),
        (
            {"area_mm2": 1.0},
            "xc7z020 has no area_mm2; it has cycles, latency_s, throughput, energy_j, power_w, lut, ff, dsp, bram18, "
            "storage_bits",
        ),
    ],
)  # fmt: skip
def test_wrong_limits_are_one_line(limits: dict[str, float], line: str) -> None:
    assert refusal(network(), Accelerator(kind="dense"), limits) == line


def test_the_largest_size_tried_is_the_largest_an_accelerator_may_have() -> None:
    assert Accelerator(n_pe=LARGEST_N_PE).n_pe == LARGEST_N_PE
    with pytest.raises(ValueError, match="less than or equal to 65536"):
        Accelerator(n_pe=LARGEST_N_PE + 1)
