"""Tensor contraction: published counts, cycles by hand, every bank conflict listed, and what is not derivable."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product as cartesian
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from codesign.compression import BlockCirculant, Dense, HierarchicalTucker, TensorStructure, TensorTrain
from codesign.compression.tensor import Path, TensorNetwork
from codesign.design import Accelerator, Fixed, Float, Frozen, Kernel, Network, PiecewiseLinear, TaskShape
from codesign.hardware import COST_FIELDS, Cost, Infeasible, Settings, estimate, technology
from codesign.hardware.accelerators import tensor_contraction
from codesign.hardware.accelerators.lanes import lane_area
from codesign.hardware.accelerators.tensor_contraction import (
    PIPELINE,
    conflicts,
    elements,
    stalls,
    traffic,
    work,
    working_words,
)
from codesign.hardware.memory import Memory
from codesign.hardware.workload import Contraction, Gather, Product, Workload, contractions, workload

Words = NDArray[np.int64]

HIDDEN, PIXELS, FOURS = 256, 57_600, "4x4x4x4"
UCF, YOUTUBE, FC6, FC7 = "8x20x20x18", "4x20x20x36", "2x7x8x8x7x4", "4x4x4x4x4x4"
ONE = np.ones(1)


def train(col_modes: str, rank: int = 4) -> TensorTrain:
    modes = col_modes.count("x") + 1
    return TensorTrain(modes=modes, rank=rank, row_modes="x".join("4" * modes), col_modes=col_modes)


def tree(col_modes: str, rank: int = 4) -> HierarchicalTucker:
    return HierarchicalTucker(leaf_rank=rank, inner_rank=rank, row_modes=FOURS, col_modes=col_modes)


def published(structure: TensorStructure) -> Path:
    """The orders of the papers: from the last factor to the first; in the tree both sides meet at the root."""
    if isinstance(structure, TensorTrain):
        return tuple((k, k + 1) for k in reversed(range(structure.modes)))
    return (6, 7), (5, 6), (2, 5), (0, 4), (0, 3), (1, 2), (0, 1)  # U4 U3 B34 G B12 U2 U1


def tensor_network(structure: TensorStructure, gates: int = 1) -> TensorNetwork:
    row_modes, col_modes = (list(map(int, text.split("x"))) for text in (structure.row_modes, structure.col_modes))
    return structure.network(gates, prod(row_modes), prod(col_modes))


def in_published_order(structure: TensorStructure, gates: int = 1) -> tuple[Contraction, ...]:
    return contractions(tensor_network(structure, gates), published(structure))


def product(structure: TensorStructure, rows: int = 0, cols: int = 0, gates: int = 1) -> Product:
    """One tensor kernel as a workload has it, in the cheapest order."""
    network = structure.network(gates, rows, cols) if rows else tensor_network(structure, gates)
    rows, cols = rows or network.volume(network.outputs[1:]), cols or network.volume(network.inputs)
    return Product(
        structure=structure.kind,
        number_format="fixed",
        gates=gates,
        rows=rows,
        cols=cols,
        padded_rows=rows,
        padded_cols=cols,
        row_macs=1,
        n_words=network.n_words,
        index_bits=0,
        word_length=16,
        steps=contractions(network),
    )


def total_work(steps: tuple[Contraction, ...], n_elements: int = 16) -> float:
    return sum(float(work(step, np.array([float(n_elements)]), ONE)[0]) for step in steps)


def lstm(x: Any, h: Any, **fields: Any) -> Network:
    def kernel(structure: Any) -> Kernel:
        return Kernel(structure=structure, weights=Fixed(bits=16))

    given: dict[str, Any] = {
        "cell": "lstm",
        "hidden": HIDDEN,
        "input_kernel": kernel(x),
        "recurrent_kernel": kernel(h),
        "activations": Fixed(bits=16),
        "head_weights": Fixed(bits=16),
        "activation_function": PiecewiseLinear(),
    }
    return Network(**(given | fields))


def run(net: Network, n_pe: int = 256, part: str = "asic28", n_inputs: int = PIXELS, **options: Any) -> Cost:
    on = Accelerator(kind="tensor_contraction", technology=part, n_pe=n_pe, clock_hz=100e6, **options)
    return estimate(net, on, TaskShape(n_inputs, 11))


def of(cost: Cost, figure: str, part: str) -> float:
    return float(cost.breakdown[figure][part][0])


# Steps of a contraction ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["cheapest", "published"])
@pytest.mark.parametrize("gates", [1, 4])
@pytest.mark.parametrize(
    "structure", [train(UCF), train(FC6), train(FC7), tree(UCF), tree(YOUTUBE), tree(FOURS, rank=3)]
)
def test_steps_have_the_sizes_that_the_structure_counts(structure: TensorStructure, gates: int, order: str) -> None:
    network = tensor_network(structure, gates)
    path = published(structure) if order == "published" else None
    steps, counted = contractions(network, path), network.steps(path=path)
    assert [(step.macs, step.n_words, step.from_input) for step in steps] == [
        (step.macs, step.n_words, step.from_input) for step in counted
    ]
    assert steps[-1].n_words == network.volume(network.outputs)
    entered = [step for step in steps if step.from_input]
    assert entered[0].left_words == network.volume(network.inputs)
    assert all(after.left_words == before.n_words for before, after in zip(entered, entered[1:], strict=False))
    assert [step.gather is None for step in entered] == [True] + [False] * (len(entered) - 1)
    assert sum(step.right_words for step in in_published_order(structure, gates)) == network.n_words


def test_a_workload_has_the_steps_of_its_tensor_kernels_only() -> None:
    layer = workload(lstm(tree(UCF), Dense()), TaskShape(PIXELS, 11)).layers[0]
    assert layer.input_kernel.steps == contractions(tensor_network(tree(UCF), 4))
    assert layer.recurrent_kernel.steps == ()


def test_modes_that_do_not_fit_have_the_steps_of_those_that_do() -> None:
    work_of = workload(lstm(train("2x2x2x2"), train(FOURS)), TaskShape(PIXELS, 11))
    assert work_of.contradiction and work_of.layers[0].input_kernel.steps == contractions(
        TensorTrain(modes=4, rank=4).network(4, HIDDEN, PIXELS)
    )


def test_reads_of_a_train_by_hand() -> None:
    # columns (n1 n2 n3), rows (r3 m4); then n3 and r3 are summed over, and (n1 n2) with m4 are read: and so on
    gathers = [step.gather for step in in_published_order(train(UCF))]
    assert gathers == [None, Gather(160, 1, 20, 4), Gather(8, 4, 80, 4), Gather(1, 16, 128, 4)]
    assert all(gather.transposes for gather in gathers if gather)


def test_a_sum_over_rows_alone_transposes_nothing() -> None:
    # a mode of one is no index: the second core meets nothing but the rank
    steps = contractions(train("4x1").network(1, 16, 4), published(train("4x1")))
    assert steps[1].gather == Gather(outer=1, inner=1, stride=4, rows=4)
    last_first = contractions(train("1x4").network(1, 16, 4), published(train("1x4")))
    assert last_first[1].gather == Gather(outer=1, inner=1, stride=1, rows=4)
    assert last_first[1].gather and not last_first[1].gather.transposes


# Published counts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("col_modes", "compression"), [(FC6, 50_972), (FC7, 14_564), (UCF, 4954), (YOUTUBE, 4608)])
def test_compression_of_tie(col_modes: str, compression: int) -> None:
    kernel = product(train(col_modes))
    assert kernel.rows * kernel.cols / kernel.n_words == pytest.approx(compression, abs=1)


@pytest.mark.parametrize(
    ("col_modes", "macs", "ideal", "tiled"),
    [
        (FC6, 3_645_440, 14_240, 14_624),
        (FC7, 1_179_648, 4_608, 5_376),
        (UCF, 1_912_832, 7_472, 7_568),
        (YOUTUBE, 1_417_216, 5_536, 5_584),
    ],
)
def test_cycles_of_tie(col_modes: str, macs: int, ideal: int, tiled: int) -> None:
    steps = in_published_order(train(col_modes))
    assert sum(step.macs for step in steps) == macs == 256 * ideal
    # only the last step, whose 4 rows fill 4 of 16 units, takes longer than ideal
    assert total_work(steps) == tiled
    assert tiled - ideal == 3 * steps[-1].macs // 256


@pytest.mark.parametrize("col_modes", [FC6, FC7, UCF, YOUTUBE])
def test_no_bank_of_tie_has_a_conflict_in_its_own_workloads(col_modes: str) -> None:
    kernel = product(train(col_modes))
    for steps in (kernel.steps, in_published_order(train(col_modes))):
        assert not stalls(replace(kernel, steps=steps), np.array([16.0]), ONE).any()


def test_the_average_rate_of_tie_is_near_the_recalled_one() -> None:
    rates, ideal = [], []
    for col_modes in (FC6, FC7, UCF, YOUTUBE):
        kernel, steps = product(train(col_modes)), in_published_order(train(col_modes))
        operations = 2 * kernel.rows * kernel.cols / 1e3  # at 1 GHz, in TOPS for each cycle
        ideal.append(operations / (sum(step.macs for step in steps) / 256))
        rates.append(operations / (total_work(steps) + PIPELINE * len(steps)))
    assert np.mean(ideal) == pytest.approx(7.75, abs=0.005)
    assert np.mean(rates) == pytest.approx(7.34, abs=0.005)  # 7.64 is recalled and decides nothing


def test_parameters_of_tt_lstm_and_of_a_tree() -> None:
    assert product(train(UCF), gates=4).n_words == 3360
    assert (product(tree(UCF), gates=4).n_words, product(tree(FOURS), gates=4).n_words) == (1248, 448)


def test_working_memory_holds_the_input_and_the_largest_result() -> None:
    assert max(step.n_words for step in in_published_order(train(UCF))) == 51_200
    assert working_words(workload(lstm(train(UCF), train(FOURS)), TaskShape(PIXELS, 11))) == PIXELS
    # behind a short input the results are larger: 4 x 4 x 4 (gates, rank, rows) of 64 columns
    assert working_words(workload(lstm(train(FOURS), Dense()), TaskShape(256, 11))) == 1024
    assert working_words(workload(lstm(train("2x2x2x2"), Dense()), TaskShape(16, 11))) == 1024  # the output itself
    assert working_words(workload(lstm(Dense(), Dense()), TaskShape(256, 11))) == 0
    assert max(max(step.left_words, step.n_words) for step in in_published_order(train(FC6))) == 100_352


def test_working_memory_holds_no_product_of_factors() -> None:
    found = workload(lstm(train("2x2x2x2"), Dense()), TaskShape(16, 11))
    layer, network = found.layers[0], tensor_network(train("2x2x2x2"), 4)
    steps = contractions(network, ((0, 1), (0, 3), (0, 2), (0, 1)))  # the whole kernel first
    assert [step.from_input for step in steps] == [False, False, False, True]
    layer = replace(layer, input_kernel=replace(layer.input_kernel, steps=steps))
    assert working_words(replace(found, layers=(layer,))) == 1024 < steps[2].n_words == 16 * 1024


def test_area_and_power_of_tie_from_operations_and_memories_alone() -> None:
    part = technology("asic28")
    operations = part.operations
    working = Memory(np.array([256.0 * 16]), np.array([100_352 / 256]), copies=2)
    weights = Memory(np.array([16.0 * 16]), np.array([product(train(FC6)).n_words / 16]))
    memories = sum(operations.sram.area_mm2(memory)[0] for memory in (working, weights))
    lanes = sum(float(area[0]) for area in lane_area(np.array([256.0]), 16, 16, 41, operations).values())
    assert memories == pytest.approx(0.59, rel=0.1)
    assert lanes == pytest.approx(0.12, rel=0.1)  # of 1.74 mm2 together
    on = Accelerator(kind="tensor_contraction", technology="asic28", n_pe=256, clock_hz=1e9)
    cost = estimate(lstm(train(UCF), train(FOURS)), on, TaskShape(PIXELS, 11))
    assert cost.feasible[0] and cost.power_w[0] == pytest.approx(0.102, rel=0.1)  # 154.8 mW is recalled


# Cycles --------------------------------------------------------------------------------------------------------------


def test_cycles_of_a_step_by_hand() -> None:
    step = Contraction(columns=100, contracted=7, rows=20, from_input=True)
    sixteen = np.array([16.0])
    assert work(step, sixteen, ONE) == 7 * 7 * 2
    assert work(step, sixteen, np.array([3.0])) == 19 * 7 * 2
    assert work(replace(step, from_input=False), sixteen, np.array([3.0])) == 7 * 7 * 2


def test_a_step_of_the_network_by_hand() -> None:
    cost = run(lstm(train(UCF), Dense()))
    assert cost.breakdown["cycles"] == {
        "input_kernel": 200 * 18 + 40 * 80 + 8 * 80 + 4 * 32,
        "recurrent_kernel": 4 * 256,
        "transposition": 0,
        "element_wise": 3,
        "head": 256,
        "fill": 2 * 16 + 4 * 6,
    }
    assert cost.facts["utilisation"] == 1.0 and cost.feasible[0] and cost.unproven


def test_a_gru_of_two_layers_by_hand() -> None:
    cost = run(lstm(tree(FOURS), tree(FOURS), cell="gru", layers=2), n_inputs=256)
    kernel = product(tree(FOURS), gates=3)
    assert of(cost, "cycles", "input_kernel") == of(cost, "cycles", "recurrent_kernel") == 2 * total_work(kernel.steps)
    assert of(cost, "cycles", "fill") == 3 * 16 + 4 * 6 * len(kernel.steps)


def test_units_that_have_no_row_or_column_are_idle() -> None:
    # a rank of 2 leaves 8 rows to the 16 units
    assert run(lstm(train(UCF, rank=2), Dense())).facts["utilisation"][0] < 0.6
    layer = run(lstm(train(UCF), train(FOURS)), n_pe=512)
    assert layer.facts["utilisation"][0] == 1.0
    used = run(lstm(tree(UCF), tree(FOURS))).facts["utilisation"][0]
    macs = sum(step.macs for modes in (UCF, FOURS) for step in product(tree(modes), gates=4).steps)
    cycles = sum(total_work(product(tree(modes), gates=4).steps) for modes in (UCF, FOURS))
    assert used == pytest.approx(macs / cycles / 256)


def test_a_batch_shares_the_steps_that_no_input_has_entered() -> None:
    net = lstm(tree(FOURS), tree(FOURS))
    one, eight = (run(net, n_inputs=256, batch=batch) for batch in (1, 8))
    steps = product(tree(FOURS), gates=4).steps
    before = total_work(tuple(step for step in steps if not step.from_input))
    assert before > 0
    assert of(eight, "cycles", "input_kernel") - before == 8 * (of(one, "cycles", "input_kernel") - before)
    assert eight.throughput * eight.latency_s == pytest.approx(8)
    assert of(eight, "energy_j", "input_kernel_macs") < of(one, "energy_j", "input_kernel_macs")
    assert of(eight, "energy_j", "input_kernel_weights") < of(one, "energy_j", "input_kernel_weights")


def test_a_batch_of_dense_kernels_takes_turns() -> None:
    net, macros = lstm(Dense(), train(FOURS)), technology("asic28").operations.sram
    one, four = (run(net, n_inputs=256, batch=batch) for batch in (1, 4))
    for name in ("input_kernel", "recurrent_kernel", "element_wise", "head"):
        assert of(four, "cycles", name) == 4 * of(one, "cycles", name)
    assert of(four, "energy_j", "input_kernel_macs") == of(one, "energy_j", "input_kernel_macs")
    assert of(four, "energy_j", "input_kernel_weights") == of(one, "energy_j", "input_kernel_weights") / 4
    assert four.facts["utilisation"] == one.facts["utilisation"] == 1.0
    held = {"activations": Memory(np.array([16.0]), np.array([4 * 1792.0]))}
    held["working"] = Memory(np.array([256.0 * 16]), np.array([4 * 1024 / 256]), copies=2)
    for name, memory in held.items():
        assert of(four, "area_mm2", f"{name}_memory") == pytest.approx(macros.area_mm2(memory)[0])


def test_a_batch_fills_elements_that_one_stream_leaves_idle() -> None:
    cycles = [
        of(run(lstm(train(FOURS), train(FOURS)), 4096, n_inputs=256, batch=b), "cycles", "input_kernel") for b in (1, 4)
    ]
    assert cycles[1] == cycles[0] == 4 + 16 + 16 + 16


# Transposition -------------------------------------------------------------------------------------------------------


def reads(network: TensorNetwork, path: Path | None, p: int, batch: int) -> Iterator[list[int]]:
    """For each step after the first, the cycles of its reads: every word put where it was written, and read as used."""
    written: tuple[list[str], list[str]] | None = None
    for step in network.steps(path=path):
        left, right = step.equation.replace("...", "").partition("->")[0].split(",")
        if not step.from_input:
            continue
        shared = set(left) & set(right)
        if written:
            columns, rows = written
            rows = sorted(rows, key=lambda index: index not in shared)  # what is summed over next stands first
            place_of_column, place_of_row = grid(network, columns, shared, batch), grid(network, rows, shared)
            cycles = []
            for these_columns in place_of_column:
                for these_rows in place_of_row:
                    banks = [(column % p, row % 16) for column in these_columns for row in these_rows]
                    cycles += [max(Counter(banks[at : at + p]).values()) for at in range(0, len(banks), p)]
            yield cycles
        written = [index for index in left if index not in shared], [index for index in right if index not in shared]


def grid(network: TensorNetwork, indices: list[str], shared: set[str], batch: int = 1) -> list[list[int]]:
    """Where the columns or rows stand that are read, one list for each term of the sum over the shared indices."""
    shape = (batch, *network.shape("".join(indices)))
    places: Words = np.arange(prod(shape)).reshape(shape)
    summed = [axis + 1 for axis, index in enumerate(indices) if index in shared]
    kept = [0] + [axis + 1 for axis, index in enumerate(indices) if index not in shared]
    terms = prod(shape[axis] for axis in summed)
    return [list(map(int, row)) for row in places.transpose(summed + kept).reshape(terms, -1)]


def steps_and_reads(
    structure: TensorStructure, gates: int, path: Path | None, p: int, batch: int = 1
) -> Iterator[tuple[Gather, list[int]]]:
    network = tensor_network(structure, gates)
    gathers = [step.gather for step in contractions(network, path) if step.gather]
    yield from zip(gathers, reads(network, path, p, batch), strict=True)


def modelled(gather: Gather, p: int, batch: int = 1) -> int:
    return int(conflicts(gather, np.array([float(p)]), np.array([float(batch)]))[0])


# Cores of which each read meets whole runs: (row modes, column modes, rank)
NESTED = [
    (FOURS, "4x4x4x4", 4),
    (FOURS, "2x4x20x6", 4),
    (FOURS, "4x8x16x4", 4),
    (FOURS, "8x16x8x2", 2),
    ("2x2x2x2", "8x8x8x8", 2),
    ("2x4x2x4", "4x32x4x2", 2),
    ("2x2x2x2", "4x4x16x4", 4),
    ("4x4x8", "16x3x8", 8),
    ("2x2x32", "2x16x2", 4),
]


@pytest.mark.parametrize("p", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize(("row_modes", "col_modes", "rank"), NESTED)
def test_conflicts_equal_a_list_of_every_word_where_sizes_nest(
    row_modes: str, col_modes: str, rank: int, p: int
) -> None:
    structure = TensorTrain(modes=row_modes.count("x") + 1, rank=rank, row_modes=row_modes, col_modes=col_modes)
    for gather, cycles in steps_and_reads(structure, 1, published(structure), p):
        assert modelled(gather, p) == max(cycles)


def listed(gather: Gather, terms: int, p: int, batch: int = 1) -> int:
    """The worst read of any term of the sum, from the place of every word."""
    worst = 0
    for term in range(terms):
        columns = [
            (run * terms + term) * gather.inner + column
            for run in range(gather.outer * batch)
            for column in range(gather.inner)
        ]
        banks = [(column % p, row % 16) for column in columns for row in range(gather.rows)]
        worst = max(worst, *(max(Counter(banks[at : at + p]).values()) for at in range(0, len(banks), p)))
    return worst


def nest(a: int, b: int) -> bool:
    return a % b == 0 or b % a == 0


def test_conflicts_against_a_list_of_every_word() -> None:
    n_listed = n_exact = 0
    sizes = [1, 2, 4, 8, 16, 32], [1, 3, 4, 20, 32], [1, 5, 8], [1, 3, 4, 8], [1, 3, 8, 16]
    for p, rows, outer, inner, terms in cartesian(*sizes):
        gather = Gather(outer, inner, inner * terms, rows)
        found, expected = modelled(gather, p), listed(gather, terms, p)
        assert found >= expected
        if nest(rows, p) and nest(max(1, p // rows), inner) and nest(inner, p):
            assert found == expected
        n_listed, n_exact = n_listed + 1, n_exact + (found == expected)
    assert (n_listed, n_exact) == (1440, 1388)  # as docs/accelerators/tensor_contraction.md says


def test_those_cores_have_conflicts() -> None:
    found = set()
    for row_modes, col_modes, rank in NESTED:
        structure = TensorTrain(modes=row_modes.count("x") + 1, rank=rank, row_modes=row_modes, col_modes=col_modes)
        found |= {modelled(step.gather, 16) for step in in_published_order(structure) if step.gather}
    assert found >= {1, 2, 4, 8}


small = st.sampled_from([1, 2, 3, 4, 5, 8])


@st.composite
def trains(draw: st.DrawFn) -> TensorTrain:
    modes = draw(st.integers(2, 3))
    row_modes, col_modes = ("x".join(str(draw(small)) for _ in range(modes)) for _ in range(2))
    return TensorTrain(modes=modes, rank=draw(small), row_modes=row_modes, col_modes=col_modes)


def test_reads_of_which_the_runs_lie_unevenly_are_said_to_meet() -> None:
    # the middle core first: columns (n1 n3), then (n3 m2 r2) of which n3 and r2 are summed over
    structure = TensorTrain(modes=3, rank=2, row_modes="4x4x4", col_modes="4x4x4")
    path: Path = ((1, 3), (0, 2), (0, 1))
    steps = contractions(tensor_network(structure), path)
    assert steps[2].gather == Gather(outer=4, inner=1, stride=0, rows=4)
    for gather, cycles in steps_and_reads(structure, 1, path, 16):
        assert modelled(gather, 16) >= max(cycles)
    assert modelled(Gather(outer=4, inner=1, stride=0, rows=4), 16) == 4


def test_a_mode_of_one_is_no_index() -> None:
    structure = TensorTrain(modes=3, rank=1, row_modes="4x4x4", col_modes="4x4x4")
    steps = contractions(tensor_network(structure), ((1, 3), (0, 2), (0, 1)))
    assert steps[2].gather == Gather(outer=1, inner=4, stride=16, rows=4)  # without the rank of 1: n3, then m2


def test_steps_without_the_input_read_no_result_of_it() -> None:
    path: Path = ((3, 4), (0, 1), (0, 1), (0, 1))
    steps = contractions(tensor_network(train(FOURS)), path)
    assert [step.from_input for step in steps] == [True, False, True, True]
    assert [step.gather is None for step in steps] == [True, True, False, False]
    gathers = [Gather(outer=16, inner=1, stride=4, rows=4), Gather(outer=1, inner=4, stride=64, rows=4)]
    assert [step.gather for step in steps[2:]] == gathers


@settings(max_examples=60)
@given(trains(), st.sampled_from([1, 4]), st.booleans(), st.sampled_from([1, 2, 4, 8, 16]), st.integers(1, 3))
def test_conflicts_are_never_fewer_than_listed(
    structure: TensorTrain, gates: int, cheapest: bool, p: int, batch: int
) -> None:
    for gather, cycles in steps_and_reads(structure, gates, None if cheapest else published(structure), p, batch):
        assert modelled(gather, p, batch) >= max(cycles)


def test_conflicts_by_hand() -> None:
    # 4 columns of 4 rows a read, 16 columns apart: all in the banks of one element, by row in 4 of its 16
    assert modelled(Gather(outer=64, inner=1, stride=16, rows=4), 16) == 4
    assert modelled(Gather(outer=64, inner=1, stride=8, rows=4), 16) == 2
    assert modelled(Gather(outer=64, inner=1, stride=7, rows=4), 16) == 1
    assert modelled(Gather(outer=64, inner=4, stride=16, rows=4), 16) == 1
    # 16 words of columns of 6 rows: no row is there more than three times, wherever the read begins
    assert modelled(Gather(outer=64, inner=1, stride=16, rows=6), 16) == listed(Gather(64, 1, 16, 6), 16, 16) == 3
    # of 6 columns beside each other no more than two have the same place in runs of 4
    assert modelled(Gather(outer=64, inner=4, stride=64, rows=3), 16) == listed(Gather(64, 4, 64, 3), 16, 16) == 2
    # 6 columns have a part in three runs of 4, which may begin anywhere
    assert modelled(Gather(outer=64, inner=4, stride=0, rows=3), 16) == 3
    # what is read at all is one column, or lies side by side
    assert modelled(Gather(outer=1, inner=1, stride=16, rows=1), 16) == 1
    assert modelled(Gather(outer=1, inner=1, stride=16, rows=1), 16, batch=2) == 2
    assert modelled(Gather(outer=1, inner=5, stride=5, rows=1), 16, batch=4) == 1
    # 32 rows of one column: two for each of an element's 16 banks
    assert modelled(Gather(outer=64, inner=1, stride=3, rows=32), 32) == 2


def test_a_train_waits_for_its_banks_and_a_tree_does_not() -> None:
    kernel = product(train("4x4x16x4"))
    gather = Gather(outer=16, inner=1, stride=16, rows=4)
    assert kernel.steps[1].gather == gather and modelled(gather, 16) == 4
    step = work(kernel.steps[1], np.array([16.0]), ONE)
    assert stalls(kernel, np.array([16.0]), ONE) == 3 * step
    assert not stalls(replace(kernel, structure="hierarchical_tucker"), np.array([16.0]), ONE)
    cost = run(lstm(train("4x4x16x4"), train(FOURS)), n_inputs=1024)
    expected = stalls(product(train("4x4x16x4"), gates=4), np.array([16.0]), ONE)
    assert of(cost, "cycles", "transposition") == expected > 0
    assert cost.facts["utilisation"][0] < 0.7


def test_a_step_leaves_elements_idle_where_that_is_sooner() -> None:
    # 5 rows of one column: a read of 2 words may meet 2 streams in one bank, one of 1 word does not
    gather = Gather(outer=1, inner=1, stride=2, rows=5)
    step = Contraction(columns=5, contracted=4, rows=8, from_input=True, gather=gather)
    kernel = replace(product(train(FOURS)), steps=(step,))
    two, streams = np.array([2.0]), np.array([3.0])
    assert work(step, two, streams) * conflicts(gather, two, streams) == 64 > work(step, ONE, streams) == 60
    assert work(step, two, streams) + stalls(kernel, two, streams) == 60


@settings(max_examples=60)
@given(trains(), st.integers(1, 3))
def test_more_units_never_take_more_cycles(structure: TensorTrain, batch: int) -> None:
    kernel = product(structure, gates=4)
    n_elements, streams = np.array([2.0**power for power in range(9)]), np.full(9, float(batch))
    cycles = np.sum([work(step, n_elements, streams) for step in kernel.steps], axis=0)
    cycles = cycles + stalls(kernel, n_elements, streams)
    assert (np.diff(cycles) <= 0).all()
    macs = sum(step.macs * (batch if step.from_input else 1) for step in kernel.steps)
    assert (cycles * n_elements * 16 >= macs).all()


# Traffic, memories, energy -------------------------------------------------------------------------------------------


def test_words_read_and_written_by_hand() -> None:
    kernel = replace(product(train(UCF)), steps=in_published_order(train(UCF)))
    weights, activations = traffic(kernel, np.array([256.0]), ONE)
    assert weights == 288 * 200 + 1280 * 40 + 1280 * 8 + 128 * 4  # a factor once for 16 columns
    assert activations == PIXELS + 2 * 51_200 + 2 * 10_240 + 2 * 2048 + 2 * 256  # each result once written, once read
    weights, activations = traffic(product(train(FC7)), np.array([256.0]), ONE)
    # two products of two cores, each made once; then 64 rows are four passes over the input
    before = (64 * 4 + 256 + 1024) + (256 + 64 * 4 + 1024)
    assert weights == before + 1024 * 16 + 256 * 64 + 256 * 64 + 1024 * 16
    assert activations == 4 * 4096 + 2 * (16_384 + 16_384 + 16_384) + 2 * 4096


def test_a_factor_is_read_once_for_the_columns_of_all_streams() -> None:
    kernel = product(train(FOURS))
    one, four = (traffic(kernel, np.array([256.0]), np.array([streams])) for streams in (1.0, 4.0))
    assert one == four  # 64 columns fill 16 elements
    wide = [traffic(kernel, np.array([4096.0]), np.array([streams]))[0] for streams in (1.0, 4.0)]
    assert wide[1] == wide[0] / 4


def test_energy_is_traffic_and_operations_at_the_prices_of_the_memories() -> None:
    cost, operations = run(lstm(train(UCF), train(FOURS))), technology("asic28").operations
    weights, activations = traffic(product(train(UCF), gates=4), np.array([256.0]), ONE)
    factors = Memory(np.array([16.0 * 16]), np.array([3360 / 16]))
    working = Memory(np.array([256.0 * 16]), np.array([PIXELS / 256]), copies=2)
    assert of(cost, "energy_j", "input_kernel_weights") == pytest.approx(weights * 16 * operations.read_j(factors))
    assert of(cost, "energy_j", "input_kernel_activations") == pytest.approx(
        activations * 16 * operations.read_j(working)
    )
    # the longest sum is that of the head: 256 terms, and a bit to add up both kernels
    mac_j = operations.multiply_j(16, 16) + operations.add_j(16 + 16 + 8 + 1)
    assert of(cost, "energy_j", "input_kernel_macs") == pytest.approx(1_937_408 * mac_j)
    macros = operations.sram
    assert of(cost, "area_mm2", "working_memory") == pytest.approx(macros.area_mm2(working)[0])
    assert of(cost, "area_mm2", "input_kernel_memory") == pytest.approx(macros.area_mm2(factors)[0])


def test_products_of_factors_are_stored_beside_the_factors() -> None:
    cost, macros = run(lstm(tree(UCF), tree(FOURS))), technology("asic28").operations.sram
    made = 256 + 2048 + 1152
    expected = Memory(np.array([16.0 * 16]), np.array([(1248 + made) / 16]))
    assert of(cost, "area_mm2", "input_kernel_memory") == pytest.approx(macros.area_mm2(expected)[0])


def test_vectors_and_sums_of_the_gates_are_kept() -> None:
    macros = technology("asic28").operations.sram

    def held(net: Network, n_words: int) -> bool:
        memory = Memory(np.array([16.0]), np.array([float(n_words)]))
        return of(run(net, n_inputs=256), "area_mm2", "activations_memory") == pytest.approx(macros.area_mm2(memory)[0])

    assert held(lstm(train(FOURS), Dense()), 2 * 256 + 4 * 256)
    assert held(lstm(Dense(), train(FOURS)), 256 + 2 * 256 + 4 * 256)
    assert held(lstm(Dense(), train(FOURS), cell="gru"), 256 + 2 * 256 + 4 * 256)
    assert held(lstm(Dense(), Dense()), 256 + 2 * 256)


# What every kind keeps, with tensor kernels --------------------------------------------------------------------------

SMALL = st.sampled_from(
    [Dense(), TensorTrain(modes=2, rank=2), TensorTrain(modes=3, rank=3), HierarchicalTucker(leaf_rank=2, inner_rank=3)]
)


@pytest.mark.parametrize("part", ["xc7vx690t", "asic65"])
@settings(max_examples=15)
@given(SMALL, SMALL, st.sampled_from(["lstm", "gru"]), st.integers(1, 3), st.integers(1, 600), st.integers(1, 5))
def test_figures_are_finite_and_one_call_is_many(
    part: str, x: Any, h: Any, cell: str, layers: int, n_pe: int, batch: int
) -> None:
    net = lstm(x, h, cell=cell, layers=layers, hidden=36)
    on = Accelerator(kind="tensor_contraction", technology=part)
    sizes = [n_pe, 16, 256]
    many = estimate(net, on, TaskShape(10, 7), settings=Settings.of(sizes, 1e8, [batch, 1, 3]))
    for place, (size, streams) in enumerate(zip(sizes, [batch, 1, 3], strict=True)):
        one = estimate(net, on.model_copy(update={"n_pe": size, "batch": streams}), TaskShape(10, 7))
        assert one.row() == many.row(place) and one.reasons() == many.reasons(place)
    absent = {"lut", "ff", "dsp", "bram18"} if part == "asic65" else {"area_mm2"}
    for name in set(COST_FIELDS) - absent:
        values = getattr(many, name)
        assert np.isfinite(values).all() and (values > 0).all() or name == "bram18"
    for name, parts in many.breakdown.items():
        assert (sum(parts.values()) == getattr(many, name)).all()
        assert all((values >= 0).all() for values in parts.values())


@pytest.mark.parametrize("structure", [train(FOURS), tree(FOURS)], ids=lambda s: s.kind)
@pytest.mark.parametrize("field", ["input_kernel", "activations", "head_weights"])
def test_longer_words_never_use_less(structure: TensorStructure, field: str) -> None:
    costs = []
    for bits in range(3, 17):
        words = Fixed(bits=bits)
        value = Kernel(structure=structure, weights=words) if field == "input_kernel" else words
        costs.append(run(lstm(structure, Dense(), **{field: value}), n_inputs=256))
    for name in ("energy_j", "storage_bits", "area_mm2"):
        assert min(np.diff([getattr(cost, name)[0] for cost in costs])) >= 0


@pytest.mark.parametrize(
    ("net", "options", "bit", "text"),
    [
        (lstm(train(UCF), Dense()), {"n_pe": 48}, Infeasible.PE_FITS_KIND, "the next useful is 64"),
        (lstm(train(UCF), Dense()), {"n_pe": 8}, Infeasible.PE_FITS_KIND, "the next useful is 16"),
        (lstm(train(UCF), Dense()), {"dram_bits_per_s": 1e9}, Infeasible.OFF_CHIP, "use dram_bits_per_s = 0"),
        (
            lstm(train(UCF), BlockCirculant(block_size=4)),
            {},
            Infeasible.STRUCTURE,
            "tensor_contraction runs dense, hierarchical_tucker, tensor_train kernels, not block_circulant",
        ),
        (
            lstm(train(UCF), Dense(), input_kernel=Kernel(structure=train(UCF), weights=Float())),
            {},
            Infeasible.WEIGHT_FORMAT,
            "'float'",
        ),
        (lstm(train(UCF), Dense(), projection=64), {}, Infeasible.CELL, "has no projection"),
        (lstm(train(UCF), Dense(), batch_norm=Frozen()), {}, Infeasible.CELL, "has no batch normalisation"),
        (lstm(train(UCF), Dense(), peephole=True), {}, Infeasible.CELL, "has no peepholes"),
        (lstm(train("2x2x2x2"), Dense()), {}, Infeasible.NETWORK, "col_modes must multiply up to at least 57600"),
    ],
    ids=lambda v: v.name if isinstance(v, Infeasible) else "",
)
def test_reasons(net: Network, options: dict[str, Any], bit: Infeasible, text: str) -> None:
    cost = run(net, **options)
    assert cost.infeasible[0] == bit and len(cost.reasons()) == 1 and text in cost.reasons()[0]


def test_useful_sizes_are_powers_of_two_of_whole_elements() -> None:
    net, on = lstm(train(FOURS), Dense()), Accelerator(kind="tensor_contraction", technology="asic28")
    sizes = np.arange(1, 600)
    cost = estimate(net, on, TaskShape(256, 2), settings=Settings.of(sizes, 1e8))
    useful = cost.facts["useful_n_pe"]
    assert set(sizes[cost.feasible]) == {16, 32, 64, 128, 256, 512}
    assert (useful >= sizes).all() and estimate(
        net, on, TaskShape(256, 2), settings=Settings.of(useful, 1e8)
    ).feasible.all()
    assert elements(np.array([1.0, 16.0, 48.0, 256.0])).tolist() == [1, 1, 2, 16]


@pytest.mark.parametrize(
    ("name", "value", "figure"),
    [("PIPELINE", 7, "cycles"), ("FILL", 17, "cycles"), ("UNITS", 8.0, "cycles"), ("UNITS", 8.0, "energy_j")],
)
def test_each_coefficient_matters(monkeypatch: pytest.MonkeyPatch, name: str, value: Any, figure: str) -> None:
    net = lstm(train(UCF, rank=2), train(FOURS))
    before = getattr(run(net), figure)[0]
    old = getattr(tensor_contraction, name)
    monkeypatch.setattr(tensor_contraction, name, replace(old, value=value) if name == "UNITS" else value)
    assert getattr(run(net), figure)[0] != before


def test_doubts_follow_what_is_run() -> None:
    trains, trees, dense = (run(lstm(x, Dense()), n_inputs=256).unproven for x in (train(FOURS), tree(FOURS), Dense()))
    assert any("TIE's grouped memory" in text for text in trains) and any("FDHT-LSTM's claim" in text for text in trees)
    assert len(dense) < len(trees) == len(trains)
    eight = lstm(train(FOURS), Dense(), activations=Fixed(bits=8))
    assert len(run(eight, n_inputs=256).unproven) == len(trains) + 1
    assert any(
        "block RAMs" in text for text in run(lstm(train(FOURS), Dense()), part="xc7vx690t", n_inputs=256).unproven
    )


# FDHT-LSTM against TIE: the range that docs/accelerators/tensor_contraction.md gives --------------------------------


def in_order(x: TensorStructure, h: TensorStructure, cheapest: bool, gates: int = 4) -> Workload:
    """The LSTM with both kernels in an order; gates of one kernel, as of a train for each."""
    found = workload(lstm(x, h), TaskShape(PIXELS, 11))
    if cheapest:
        return found
    layer = found.layers[0]
    kernels = [
        replace(kernel, steps=in_published_order(structure, gates))
        for structure, kernel in ((x, layer.input_kernel), (h, layer.recurrent_kernel))
    ]
    return replace(found, layers=(replace(layer, input_kernel=kernels[0], recurrent_kernel=kernels[1]),))


def kernel_cycles(cost: Cost) -> Any:
    return sum(cost.breakdown["cycles"][name] for name in ("input_kernel", "recurrent_kernel", "transposition"))


@pytest.mark.parametrize(
    ("col_modes", "one_train", "four_trains", "energy", "per_area"),
    [
        (YOUTUBE, (0.20, 1.18), (0.80, 4.73), (0.31, 2.32), (0.10, 1.21)),
        (UCF, (0.16, 1.35), (0.66, 5.40), (0.22, 2.64), (0.04, 1.38)),
    ],
    ids=["LSTM-Youtube", "LSTM-UCF"],
)
def test_fdht_against_tie_is_a_range(
    col_modes: str, one_train: Any, four_trains: Any, energy: Any, per_area: Any
) -> None:
    run_on, sizes = tensor_contraction.estimate, Settings.of([64, 128, 256, 512, 1024], 1e9)
    part = technology("asic28")
    tie = run_on(in_order(train(col_modes), train(FOURS), cheapest=False), sizes, part)
    a_gate = run_on(in_order(train(col_modes), train(FOURS), cheapest=False, gates=1), sizes, part)
    ratios: dict[str, list[Any]] = {"one": [], "four": [], "energy": [], "per_area": []}
    for rank in (2, 3, 4, 5):
        for cheapest in (True, False):
            fdht = run_on(in_order(tree(col_modes, rank), tree(FOURS, rank), cheapest), sizes, part)
            faster = kernel_cycles(tie) / kernel_cycles(fdht)
            ratios["one"].append(faster)
            ratios["four"].append(4 * kernel_cycles(a_gate) / kernel_cycles(fdht))
            ratios["energy"].append(tie.energy_j / fdht.energy_j)
            ratios["per_area"].append(faster * tie.area_mm2 / fdht.area_mm2)
    found = {name: (float(np.min(ratio)), float(np.max(ratio))) for name, ratio in ratios.items()}
    assert found["one"] == pytest.approx(one_train, abs=0.005)
    assert found["four"] == pytest.approx(four_trains, abs=0.005)
    # these move with the prices of operations and memories
    assert found["energy"] == pytest.approx(energy, rel=0.1)
    assert found["per_area"] == pytest.approx(per_area, rel=0.1, abs=0.01)
