"""Random designs of every kind: arrays equal single calls, less work never needs more, nothing is free."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.compression import (
    BlockCirculant,
    CoarseGrain,
    Dense,
    HierarchicalTucker,
    Structure,
    TensorStructure,
    TensorTrain,
)
from codesign.design import (
    ACTIVITY_BATCHES,
    ACTIVITY_BLOCKS,
    Accelerator,
    Activity,
    Binary,
    Fixed,
    Kernel,
    Network,
    PiecewiseLinear,
    PowerOfTwo,
    TaskShape,
    Ternary,
)
from codesign.hardware import ACCELERATORS, Settings, estimate, workload

KINDS = sorted(ACCELERATORS)
PARTS = ("xczu9eg", "asic65")
SIZES = (16, 32, 64)

STRUCTURES: dict[str, st.SearchStrategy[Structure | TensorStructure]] = {
    "dense": st.just(Dense()),
    "block_circulant": st.builds(BlockCirculant, block_size=st.sampled_from([2, 4, 8])),
    "coarse_grain": st.builds(
        CoarseGrain,
        level1_block=st.just(16),
        level1_keep=st.sampled_from([0.25, 0.5]),
        level2_block=st.sampled_from([4, 8]),
        level2_keep=st.sampled_from([0.5, 1.0]),
    ),
    "hierarchical_tucker": st.builds(
        HierarchicalTucker, modes=st.just(2), leaf_rank=st.integers(1, 4), inner_rank=st.integers(1, 4)
    ),
    "tensor_train": st.builds(TensorTrain, modes=st.just(2), rank=st.integers(1, 4)),
}
WEIGHTS: dict[str, st.SearchStrategy[Any]] = {
    "fixed": st.builds(Fixed, bits=st.integers(3, 16)),
    "power_of_two": st.builds(PowerOfTwo, bits=st.integers(3, 8)),
    "binary": st.builds(Binary),
    "ternary": st.builds(Ternary),
}


@st.composite
def networks(draw: st.DrawFn, kind: str) -> Network:
    """Networks whose kernels the kind runs."""
    found = ACCELERATORS[kind]

    def kernel() -> Kernel:
        structure = draw(st.one_of([STRUCTURES[name] for name in found.structures]))
        return Kernel(structure=structure, weights=draw(st.one_of([WEIGHTS[name] for name in found.weights])))

    return Network(
        cell=draw(st.sampled_from(["lstm", "gru"])),
        layers=draw(st.integers(1, 2)),
        hidden=draw(st.sampled_from(SIZES)),
        input_kernel=kernel(),
        recurrent_kernel=kernel(),
        activations=Fixed(bits=draw(st.integers(4, 12))),
        activation_function=PiecewiseLinear(segments=32),
        state_threshold=draw(st.sampled_from([0.0, 0.1])),
    )


def measured(network: Network, seed: int) -> Activity:
    """Histograms that could have been measured."""
    rng = np.random.default_rng(seed)

    def shares(block: int) -> tuple[float, ...]:
        found: list[float] = rng.dirichlet(np.ones(-(-network.state // block) + 1)).tolist()
        return tuple(found)

    return tuple(
        {streams: {block: shares(block) for block in ACTIVITY_BLOCKS} for streams in ACTIVITY_BATCHES}
        for _ in range(network.layers)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", PARTS)
@settings(max_examples=15, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99))
def test_an_array_of_designs_equals_one_call_for_each(kind: str, part: str, data: st.DataObject, seed: int) -> None:
    network, shape = data.draw(networks(kind)), TaskShape(data.draw(st.integers(1, 40)), 7)
    activity = measured(network, seed) if network.state_threshold else None
    rng = np.random.default_rng(seed)
    columns = {
        "n_pe": rng.choice([1, 3, 4, 8, 12, 16, 32, 64, 200], 5),
        "clock_hz": rng.uniform(1e7, 1e9, 5),
        "batch": rng.choice([1, 8, 16], 5),
        "dram_bits_per_s": rng.choice([0.0, 1e9, 1e11], 5),
        "supply_v": rng.choice([0.0, 0.7, 1.0], 5) if part.startswith("asic") else np.zeros(5),
    }
    on = Accelerator(kind=kind, technology=part)
    many = estimate(network, on, shape, activity, Settings.of(*columns.values()))
    for i in range(5):
        one = estimate(
            network, on.model_copy(update={name: column[i].item() for name, column in columns.items()}), shape, activity
        )
        assert one.row() == many.row(i) and one.reasons() == many.reasons(i)


KEEPS_UP = {"circulant_fft": {"lut", "ff", "dsp", "area_mm2"}}
"""Its element-wise units and the head's lanes are as many as the products' pace asks for; one layer's is quicker."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", PARTS)
@settings(max_examples=15, deadline=None)
@given(data=st.data(), n_pe=st.sampled_from([8, 16, 32, 128]))
def test_what_fits_still_fits_with_fewer_layers(kind: str, part: str, data: st.DataObject, n_pe: int) -> None:
    network = data.draw(networks(kind)).model_copy(update={"layers": 2})
    on = Accelerator(kind=kind, technology=part, n_pe=n_pe)
    full, less = (
        estimate(network.model_copy(update={"layers": layers}), on, TaskShape(network.hidden, 7)) for layers in (2, 1)
    )
    for name in ("cycles", "energy_j", "lut", "ff", "dsp", "bram18", "area_mm2", "storage_bits"):
        a, b = getattr(less, name)[0], getattr(full, name)[0]
        assert np.isnan(a) or a <= b * (1 + 1e-12) or name in KEEPS_UP.get(kind, ()), name
    if full.feasible[0]:
        assert less.feasible[0]


def units(kind: str, n_pe: int, network: Network) -> float:
    """Multiply-accumulates that the kind does in a cycle at most, those that a transform saves included."""
    if kind == "circulant_fft":  # a product of a whole block in a cycle
        blocks = [getattr(network, name).structure.block_size for name in ("input_kernel", "recurrent_kernel")]
        return float(n_pe * max(blocks) ** 2)
    return float(n_pe)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), n_pe=st.sampled_from([4, 8, 16, 32, 64, 128]))
def test_no_product_is_free(kind: str, data: st.DataObject, n_pe: int) -> None:
    network, shape = data.draw(networks(kind)).model_copy(update={"state_threshold": 0.0}), TaskShape(16, 7)
    cost = estimate(network, Accelerator(kind=kind, technology="asic65", n_pe=n_pe), shape)
    if not cost.feasible[0]:
        return
    work = workload(network, shape)
    macs = sum(kernel.macs for layer in work.layers for kernel in layer.kernels)
    cycles = float(cost.cycles[0]) - float(cost.breakdown["cycles"].get("head", np.zeros(1))[0])
    # a batch of one; a pipeline of stages works on as many streams in its latency
    assert cycles * units(kind, n_pe, network) >= macs


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_runs_something_on_a_part_and_on_a_node(kind: str) -> None:
    structures: dict[str, Structure | TensorStructure] = {
        "dense": Dense(),
        "block_circulant": BlockCirculant(block_size=8),
        "coarse_grain": CoarseGrain(level1_block=16, level1_keep=0.5, level2_block=8, level2_keep=0.5),
        "hierarchical_tucker": HierarchicalTucker(modes=2),
        "tensor_train": TensorTrain(modes=2),
    }
    formats: dict[str, Any] = {"fixed": Fixed(), "power_of_two": PowerOfTwo(), "binary": Binary(), "ternary": Ternary()}
    found = ACCELERATORS[kind]
    for structure in found.structures:
        for weights in found.weights:
            kernel = Kernel(structure=structures[structure], weights=formats[weights])
            network = Network(
                cell="lstm",
                hidden=64,
                input_kernel=kernel,
                recurrent_kernel=kernel,
                activation_function=PiecewiseLinear(segments=32),
            )
            for part in ("xczu9eg", "asic90", "asic22"):
                sizes = Settings.of([8, 16, 32, 128, 512], 5e7)
                cost = estimate(network, Accelerator(kind=kind, technology=part), TaskShape(32, 7), settings=sizes)
                assert cost.feasible.any(), (structure, weights, part, cost.reasons())
