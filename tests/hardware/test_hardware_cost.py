"""What must hold for every accelerator kind, and every reason a design cannot run."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codesign.hardware
from codesign.compression import BlockCirculant, CoarseGrain, Dense, Structure
from codesign.design import Accelerator, Exact, Fixed, Float, Frozen, Kernel, Network, PiecewiseLinear, TaskShape
from codesign.errors import InputError
from codesign.hardware import ACCELERATORS, COST_FIELDS, Cost, Infeasible, Settings, estimate
from codesign.hardware.cost import SENTENCES

KINDS = sorted(ACCELERATORS)
TECHNOLOGIES = ["xc7vx690t", "asic65"]


def kernel(structure: Structure | None = None, bits: int = 8) -> Kernel:
    return Kernel(structure=structure or Dense(), weights=Fixed(bits=bits))


def network(**fields: Any) -> Network:
    settings: dict[str, Any] = {"hidden": 48, "activation_function": PiecewiseLinear()}
    return Network(**(settings | fields))


def run(
    kind: str, net: Network, part: str = "xc7vx690t", n_pe: int = 16, clock_hz: float = 100e6, **options: Any
) -> Cost:
    on = Accelerator(kind=kind, technology=part, n_pe=n_pe, clock_hz=clock_hz, **options)
    return estimate(net, on, TaskShape(10, 7))


def finite_fields(part: str) -> set[str]:
    absent = {"lut", "ff", "dsp", "bram18"} if part == "asic65" else {"area_mm2"}
    return set(COST_FIELDS) - absent


NETWORKS = st.builds(
    network,
    cell=st.sampled_from(["lstm", "gru"]),
    layers=st.integers(1, 3),
    hidden=st.sampled_from([16, 48, 100]),
    input_kernel=st.builds(kernel, bits=st.integers(3, 16)),
    recurrent_kernel=st.builds(kernel, bits=st.integers(3, 16)),
    activations=st.builds(Fixed, bits=st.integers(3, 16)),
    state_threshold=st.sampled_from([0.0, 0.1]),
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", TECHNOLOGIES)
@settings(max_examples=20, deadline=None)
@given(net=NETWORKS, n_pe=st.integers(1, 300))
def test_figures_are_finite_positive_and_the_sum_of_their_parts(kind: str, part: str, net: Network, n_pe: int) -> None:
    cost = run(kind, net, part, n_pe)
    row = cost.row()
    for name in COST_FIELDS:
        value = row[name]
        assert (value is not None) == (name in finite_fields(part))
        if value is not None:
            assert np.isfinite(value) and (value > 0 or name in ("bram18", "dsp"))
    for name, parts in cost.breakdown.items():
        assert sum(parts.values()) == getattr(cost, name)
        assert all((part >= 0).all() for part in parts.values())
    assert cost.throughput * cost.latency_s == pytest.approx(np.round(cost.throughput * cost.latency_s))  # streams
    assert cost.power_w == cost.energy_j * cost.throughput


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", TECHNOLOGIES)
def test_one_call_with_arrays_equals_calls_one_by_one(kind: str, part: str) -> None:
    sizes, clocks = [1, 5, 16, 48, 4000], [50e6, 100e6, 200e6, 300e6, 900e6]
    net = network(cell="lstm", state_threshold=0.1)
    shares = {1: {1: tuple([1 / 49] * 49)}}
    on = Accelerator(kind=kind, technology=part)
    many = estimate(net, on, TaskShape(10, 7), (shares,), settings=Settings.of(sizes, clocks))
    assert len(many) == 5
    for i, (n_pe, clock_hz) in enumerate(zip(sizes, clocks, strict=True)):
        one = estimate(net, on.model_copy(update={"n_pe": n_pe, "clock_hz": clock_hz}), TaskShape(10, 7), (shares,))
        assert one.row() == many.row(i) and one.reasons() == many.reasons(i)
        assert one.infeasible[0] == many.infeasible[i]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", TECHNOLOGIES)
@settings(max_examples=10, deadline=None)
@given(net=NETWORKS)
def test_longer_words_never_store_or_use_less(kind: str, part: str, net: Network) -> None:
    bits = range(3, 17)
    for field in ("input_kernel", "recurrent_kernel", "head_weights", "activations"):
        formats = [Fixed(bits=b) if field in ("head_weights", "activations") else kernel(bits=b) for b in bits]
        costs = [run(kind, net.model_copy(update={field: value}), part) for value in formats]
        for name in ("storage_bits", "energy_j"):
            assert min(np.diff([getattr(cost, name)[0] for cost in costs])) >= 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("structure", [Dense(), BlockCirculant(block_size=4)], ids=lambda s: s.kind)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_more_lanes_never_take_more_cycles(kind: str, structure: Structure, cell: str) -> None:
    divisors = [n for n in range(1, 97) if 96 % n == 0]
    net = network(cell=cell, hidden=96, layers=2, input_kernel=kernel(structure), recurrent_kernel=kernel(structure))
    on = Accelerator(kind=kind, technology="asic65")
    cycles = estimate(net, on, TaskShape(10, 7), settings=Settings.of(divisors, 1e8)).cycles
    assert (np.diff(cycles) <= 0).all()


def test_the_dense_array_by_hand() -> None:
    cost = run("dense", network(cell="lstm", hidden=48), n_pe=20)
    passes = -(-4 * 48 // 20)
    assert cost.cycles[0] == passes * (10 + 48) + -(-3 * 48 // 20) + 1 * 48 + 2 * 16
    assert cost.feasible[0] and cost.dsp[0] == 25 and cost.unproven


COARSE = CoarseGrain(level1_block=16, level1_keep=0.5, level2_block=8, level2_keep=0.5)
TINY = "xc7z020"
REASONS: list[tuple[Infeasible, Network, dict[str, object], str]] = [
    (
        Infeasible.OVERSIZED_BLOCK,
        network(recurrent_kernel=kernel(BlockCirculant(block_size=128))),
        {},
        "a block of 128 is larger than the layer; with hidden = 48 use at most 64",
    ),
    (
        Infeasible.STRUCTURE,
        network(recurrent_kernel=kernel(COARSE)),
        {"kind": "dense"},
        "dense runs dense kernels, not coarse_grain",
    ),
    (
        Infeasible.WEIGHT_FORMAT,
        network(input_kernel=Kernel(weights=Float())),
        {},
        "serial_core multiplies weights of kind 'fixed', not 'float'",
    ),
    (
        Infeasible.ACTIVATION_FORMAT,
        network(activations=Float()),
        {},
        "serial_core holds fixed-point states only; use activations of kind 'fixed'",
    ),
    (
        Infeasible.ACTIVATION_FUNCTION,
        network(activation_function=Exact()),
        {},
        "serial_core evaluates piecewise-linear segments; use activation_function = 'piecewise_linear'",
    ),
    (
        Infeasible.SEGMENTS,
        network(activation_function=PiecewiseLinear(segments=24)),
        {},
        "the segment table is addressed by bits of z; segments must be a power of two, got 24",
    ),
    (
        Infeasible.PE_DIVIDES_HIDDEN,
        network(),
        {"n_pe": 13},
        "n_pe = 13 does not divide hidden = 48; the next useful is 16",
    ),
    (
        Infeasible.PE_DIVIDES_HIDDEN,
        network(),
        {"n_pe": 50},
        "n_pe = 50 does not divide hidden = 48; the next useful is 48",
    ),
    (
        Infeasible.PE_FITS_BLOCK,
        network(recurrent_kernel=kernel(BlockCirculant(block_size=8))),
        {"n_pe": 12},
        "n_pe = 12 is neither a multiple nor a divisor of block_size = 8; the next useful is 16",
    ),
    (
        Infeasible.PE_FITS_SELECTORS,
        network(recurrent_kernel=kernel(COARSE)),
        {"n_pe": 16},
        "n_pe = 16 does not divide level2_block = 8, whose rows share their selectors; the next useful is 8",
    ),
    (
        Infeasible.BLOCK_DIVIDES_HIDDEN,
        network(recurrent_kernel=kernel(BlockCirculant(block_size=32))),
        {},
        "a block of 32 does not divide hidden = 48",
    ),
    (Infeasible.LUT, network(hidden=4096), {"n_pe": 4096, "part": TINY}, "LUT, xc7z020 has 53200"),
    (Infeasible.FF, network(hidden=4096), {"n_pe": 4096, "part": TINY}, "FF, xc7z020 has 106400"),
    (Infeasible.DSP, network(hidden=256), {"n_pe": 256, "part": TINY}, "needs 261 DSP, xc7z020 has 220"),
    (Infeasible.BRAM18, network(hidden=1024), {"part": TINY}, "BRAM18, xc7z020 has 280"),
    (
        Infeasible.NETWORK,
        network(cell="gru", projection=16),
        {},
        "there is no such network: projection and peephole belong to the LSTM; leave them out or use cell = 'lstm'",
    ),
    (
        Infeasible.NETWORK,
        network(cell="lstm", peephole=True, batch_norm=Frozen()),
        {"kind": "dense"},
        "there is no such network: batch_norm cannot be combined with projection or peephole; leave one out",
    ),
    (
        Infeasible.NETWORK,
        network(cell="lstm", projection=48),
        {},
        "there is no such network: projection must be smaller than hidden = 48, got 48",
    ),
    (
        Infeasible.CELL,
        network(cell="lstm", projection=16),
        {},
        "serial_core has no projection; leave it out",
    ),
    (
        Infeasible.CELL,
        network(batch_norm=Frozen()),
        {},
        "serial_core has no batch normalisation; leave it out",
    ),
    (
        Infeasible.CLOCK,
        network(),
        {"clock_hz": 900e6},
        "clock_hz = 9e+08 is above the 4e+08 that xc7vx690t may reach",
    ),
    (
        Infeasible.HEAD_FORMAT,
        network(head_weights=Float()),
        {},
        "serial_core has fixed-point weights in the output layer; use head_weights = 'fixed'",
    ),
    (
        Infeasible.SUPPLY,
        network(),
        {"supply_v": 0.9},
        "xc7vx690t has a supply of its own; supply_v belongs to ASIC nodes",
    ),
    (
        Infeasible.RETICLE,
        network(hidden=4096, layers=3),
        {"part": "asic90"},
        "mm2, more than the 858 that one exposure makes",
    ),
    (Infeasible.BATCH, network(), {"batch": 2}, "serial_core has no streams side by side; use batch = 1"),
    (
        Infeasible.OFF_CHIP,
        network(),
        {"dram_bits_per_s": 1e9},
        "serial_core holds all weights on the chip; use dram_bits_per_s = 0",
    ),
]


@pytest.mark.parametrize(
    ("bit", "net", "options", "text"), REASONS, ids=lambda v: v.name if isinstance(v, Infeasible) else ""
)
def test_every_reason_can_be_reached_and_says_what_is_wrong(
    bit: Infeasible, net: Network, options: dict[str, object], text: str
) -> None:
    cost = run(**({"kind": "serial_core", "net": net} | options))  # type: ignore[arg-type]
    assert bit in Infeasible(int(cost.infeasible[0])) and not cost.feasible[0]
    assert any(text in reason for reason in cost.reasons())
    assert len(cost.reasons()) == int(cost.infeasible[0]).bit_count()


@pytest.mark.parametrize("kind", ["dense", "sparse_state", "binary_ternary"])
def test_memory_outside_the_chip_does_not_feel_the_chip_s_supply(kind: str) -> None:
    def energy(supply_v: float) -> dict[str, float]:
        cost = run(kind, network(), "asic65", dram_bits_per_s=1e9, supply_v=supply_v)
        return {name: float(part[0]) for name, part in cost.breakdown["energy_j"].items()}

    high, low = energy(1.2), energy(0.6)
    for name, joules in high.items():
        factor = 1.0 if name.endswith("_dram") else 0.5 if name == "leakage" else 0.25
        assert low[name] == pytest.approx(factor * joules, rel=1e-9, abs=0.0)
    assert high["input_kernel_dram"] > 0


OF_ONE_KIND = {bit for bit in Infeasible if bit >= Infeasible.PE_FITS_KIND}


def test_every_bit_has_a_sentence_and_a_test() -> None:
    # reasons of one kind only are tested beside that kind
    assert set(SENTENCES) == set(Infeasible) and {bit for bit, *_ in REASONS} >= set(Infeasible) - OF_ONE_KIND


def test_a_useful_size_is_feasible() -> None:
    net = network(hidden=96, recurrent_kernel=kernel(BlockCirculant(block_size=8)))
    for n_pe in range(1, 97):
        useful = int(run("serial_core", net, n_pe=n_pe).facts["useful_n_pe"][0])
        assert run("serial_core", net, n_pe=useful).feasible[0]


def test_an_unknown_kind_offers_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown accelerator 'serial'; did you mean 'serial_core'"):
        run("serial", network())


@pytest.mark.parametrize(
    ("n_pe", "clock_hz", "message"),
    [
        ([0, 4], 1e8, "n_pe must be whole numbers of at least 1"),
        (2.5, 1e8, "n_pe must be whole numbers"),
        (4, -1.0, "clock_hz must be positive"),
        ([1, 2], [1e8, 1e8, 1e8], "settings must be of one length, got n_pe 2, clock_hz 3"),
    ],
)
def test_settings_that_make_no_sense_are_refused(n_pe: object, clock_hz: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings.of(n_pe, clock_hz)  # type: ignore[arg-type]


def test_exported_names_are_sorted_and_exist() -> None:
    names = codesign.hardware.__all__
    assert names == sorted(names) and all(hasattr(codesign.hardware, name) for name in names)


def test_import_loads_no_training_or_search_library() -> None:
    code = "import sys, codesign.hardware; print({'jax', 'flax', 'optax', 'optuna'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "set()"
