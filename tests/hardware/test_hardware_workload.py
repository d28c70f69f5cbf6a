"""Counts of a workload against loops over materialised layouts."""

from typing import Any

import numpy as np
import pytest

from codesign.compression import BlockCirculant, CoarseGrain, Dense, Structure
from codesign.design import Fixed, Float, Kernel, Network, PiecewiseLinear, TaskShape
from codesign.errors import InputError
from codesign.hardware.workload import workload

COARSE = CoarseGrain(level1_block=8, level1_keep=0.5, level2_block=4, level2_keep=0.5)
STRUCTURES = [Dense(), BlockCirculant(block_size=4), COARSE]


def network(structure: Structure, cell: Any = "lstm", **fields: Any) -> Network:
    kernel = Kernel(structure=structure)
    return Network(cell=cell, hidden=16, input_kernel=kernel, recurrent_kernel=kernel, **fields)


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: s.kind)
def test_counts_equal_a_loop_over_the_mask(structure: Structure) -> None:
    work = workload(network(structure), TaskShape(16, 5))
    kernel = work.layers[0].recurrent_kernel
    layout = structure.layout(16, 16)
    multiplications = sum(int(layout.mask[row, col]) for row in range(16) for col in range(16))
    assert kernel.macs == 4 * multiplications
    assert kernel.n_words == 4 * len(np.unique(layout.ids[layout.mask]))
    assert [int(n) for n in layout.mask.sum(1)] == [kernel.row_macs] * 16


def test_padding_is_stored_and_multiplied() -> None:
    kernel = workload(network(BlockCirculant(block_size=8)), TaskShape(39, 1)).layers[0].input_kernel
    assert (kernel.cols, kernel.padded_cols, kernel.row_macs) == (39, 40, 40)
    assert kernel.n_words == 4 * 16 * 40 // 8


def test_storage_of_a_small_gru_by_hand() -> None:
    work = workload(
        Network(cell="gru", layers=2, hidden=8, recurrent_kernel=Kernel(weights=Fixed(bits=6))),
        TaskShape(3, 2),
    )
    assert work.storage == {
        "input_kernel": 3 * 8 * (3 + 8) * 8,
        "recurrent_kernel": 3 * 8 * (8 + 8) * 6,
        "indices": 0,
        "biases": 2 * 4 * 8 * 16,
        "head": 2 * 8 * 8 + 2 * 16,
    }
    assert work.storage_bits == sum(work.storage.values())


def test_biases_are_written_like_the_input_kernel_s_words() -> None:
    work = workload(Network(hidden=8, input_kernel=Kernel(weights=Float())), TaskShape(3, 2))
    assert work.storage["biases"] == 4 * 8 * 32


@pytest.mark.parametrize(("cell", "expected"), [("lstm", (48, 16, 80)), ("gru", (48, 48, 48))])
def test_element_wise_counts(cell: str, expected: tuple[int, int, int]) -> None:
    layer = workload(network(Dense(), cell), TaskShape(4, 4)).layers[0]
    assert (layer.multiplications, layer.additions, layer.lookups) == expected


def test_selectors_are_stored() -> None:
    work = workload(network(COARSE), TaskShape(16, 1))
    # 2 rows of blocks keep 1 of 2 blocks: 1 bit each; 4 rows of sub-blocks keep 1 of 2: 1 bit each
    assert work.layers[0].recurrent_kernel.index_bits == 4 * (2 + 4)
    assert work.storage["indices"] == 2 * 4 * (2 + 4)


@pytest.mark.parametrize(
    "structure",
    [
        BlockCirculant(block_size=32),
        CoarseGrain(level1_block=32, level1_keep=1, level2_block=4, level2_keep=1),
    ],
    ids=lambda s: s.kind,
)
def test_blocks_larger_than_the_layer_are_named(structure: Structure) -> None:
    work = workload(network(structure), TaskShape(4, 1))
    assert (work.oversized_block, work.largest_block) == (32, 16)


def test_the_padded_height_is_not_oversized() -> None:
    kernel = Kernel(structure=BlockCirculant(block_size=16))
    assert workload(Network(hidden=12, recurrent_kernel=kernel), TaskShape(4, 1)).oversized_block is None


def test_segments_of_the_activation_function() -> None:
    assert workload(network(Dense()), TaskShape(4, 1)).segments is None
    assert workload(network(Dense(), activation_function=PiecewiseLinear(segments=16)), TaskShape(4, 1)).segments == 16


@pytest.mark.parametrize(
    ("activity", "message"),
    [
        ((), "activity must have 1 entries, one a layer, got 0"),
        (({1: {8: (0.5, 0.5)}},), "activity, batch 1, block size 8: needs 3 shares, got 2"),
        (({1: {8: (0.5, 0.4, 0.4)}},), "activity, batch 1, block size 8: shares must sum to 1, got 1.3"),
    ],
)
def test_activity_that_does_not_fit_is_refused(
    activity: tuple[dict[int, dict[int, tuple[float, ...]]], ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        workload(network(Dense()), TaskShape(4, 1), activity)


@pytest.mark.parametrize(("n_inputs", "n_outputs", "name"), [(0, 1, "n_inputs"), (1, 0, "n_outputs")])
def test_empty_inputs_and_outputs_are_refused(n_inputs: int, n_outputs: int, name: str) -> None:
    with pytest.raises(InputError, match=f"{name} must be at least 1, got 0"):
        workload(network(Dense()), TaskShape(n_inputs, n_outputs))
