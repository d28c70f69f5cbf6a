"""Each structure against examples worked out by hand, and the settings that are refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from pydantic import ValidationError

from codesign.compression import BlockCirculant, CoarseGrain, Dense
from codesign.compression.structure import pad
from tests.strategies import coarse_grains, seeds, sizes

COARSE: dict[str, Any] = {"level1_block": 8, "level1_keep": 0.5, "level2_block": 2, "level2_keep": 0.5}


def test_a_circulant_block_runs_down_its_first_column() -> None:
    kernel = BlockCirculant(block_size=4).to_dense(np.array([1.0, 2.0, 3.0, 4.0]), 4, 4)
    assert kernel.tolist() == [[1, 4, 3, 2], [2, 1, 4, 3], [3, 2, 1, 4], [4, 3, 2, 1]]


def test_circulant_blocks_are_stored_row_by_row_and_cut_at_the_edge() -> None:
    kernel = BlockCirculant(block_size=2).to_dense(np.arange(1.0, 9.0), 3, 3)
    # Generators (1 2) (3 4) above (5 6) (7 8); the last row and column of the 4 x 4 kernel are padding.
    assert kernel.tolist() == [[1, 2, 3], [2, 1, 4], [5, 6, 7]]


@pytest.mark.parametrize("k", [1, 2, 8, 64])
def test_every_circulant_element_follows_its_definition(k: int) -> None:
    rows, cols = 51, 39
    words = np.random.default_rng(0).normal(size=BlockCirculant(block_size=k).counts(rows, cols).n_words)
    kernel = BlockCirculant(block_size=k).to_dense(words, rows, cols)
    generators = words.reshape(pad(rows, k) // k, pad(cols, k) // k, k)
    for i in range(rows):
        for j in range(cols):
            assert kernel[i, j] == generators[i // k, j // k, (i % k - j % k) % k]


def test_circulant_words_are_the_mean_along_wrapped_diagonals() -> None:
    dense = np.array([[1.0, 10.0], [20.0, 3.0]])
    assert BlockCirculant(block_size=2).project(dense).tolist() == [2.0, 15.0]


def test_dense_words_stand_row_by_row() -> None:
    assert Dense().to_dense(np.arange(6.0), 2, 3).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_counts_of_a_coarse_grain_kernel_by_hand() -> None:
    counts = CoarseGrain(**COARSE).counts(16, 32)
    # 2 of 4 blocks in each of 2 block rows, 2 bits each; 2 of 4 sub-blocks in each of the 2 kept
    # blocks of 8 rows of sub-blocks, 2 bits each; 2 * 2 sub-blocks of 2 columns in every row.
    assert counts.index_bits == 2 * 2 * 2 + 8 * 2 * 2 * 2
    assert (counts.row_macs, counts.n_rows, counts.n_words) == (8, 16, 128)


def test_an_index_among_five_blocks_takes_three_bits() -> None:
    structure = CoarseGrain(level1_block=8, level1_keep=0.2, level2_block=8, level2_keep=1.0)
    assert structure.counts(51, 39).index_bits == 7 * 1 * 3


@pytest.mark.parametrize(("keep", "kept"), [(0.01, 1), (0.2, 2), (0.21, 3), (0.1 + 0.2, 3), (0.7, 7), (1.0, 10)])
def test_a_fractional_count_is_rounded_up_and_float_error_is_not(keep: float, kept: int) -> None:
    structure = CoarseGrain(level1_block=4, level1_keep=keep, level2_block=4, level2_keep=1.0)
    assert structure.counts(4, 40).row_macs == 4 * kept


def cut(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Blocks (block row, block column, side, side) of a mask."""
    rows, cols = mask.shape
    return mask.reshape(rows // side, side, cols // side, side).swapaxes(1, 2)


@given(coarse_grains(), sizes, sizes, seeds)
def test_every_row_keeps_the_same_count(structure: CoarseGrain, rows: int, cols: int, seed: int) -> None:
    mask = structure.layout(rows, pad(cols, structure.level1_block), seed).mask
    assert set(mask.sum(1)) == {structure.counts(rows, cols).row_macs}


@given(coarse_grains(), sizes, sizes, seeds)
def test_kept_blocks_nest(structure: CoarseGrain, rows: int, cols: int, seed: int) -> None:
    side1, side2 = structure.level1_block, structure.level2_block
    mask = structure.layout(pad(rows, side1), pad(cols, side1), seed).mask
    kept = cut(mask, side1).any((2, 3))
    assert len(set(kept.sum(1))) == 1
    for block in cut(mask, side1)[kept]:
        whole = cut(block, side2)
        np.testing.assert_array_equal(whole.any((2, 3)), whole.all((2, 3)))
        assert len(set(whole.all((2, 3)).sum(1))) == 1


def test_the_same_seed_draws_the_same_mask() -> None:
    first, again = (CoarseGrain(**COARSE).layout(51, 39, seed=3).mask for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_other_seeds_draw_other_masks() -> None:
    masks = {CoarseGrain(**COARSE).layout(51, 39, seed).mask.tobytes() for seed in range(20)}
    assert len(masks) == 20


def test_every_place_is_kept_by_some_seed() -> None:
    kept = np.mean([CoarseGrain(**COARSE).layout(32, 32, seed).mask for seed in range(400)], axis=0)
    # A place is kept with probability 1/4: 400 draws have a standard deviation of 0.022.
    assert 0.15 < kept.min() < kept.max() < 0.35


def test_coarse_grain_words_stand_row_by_row_in_ascending_columns() -> None:
    structure = CoarseGrain(**COARSE)
    layout = structure.layout(16, 32, seed=5)
    np.testing.assert_array_equal(layout.ids[layout.mask], np.arange(128))


@pytest.mark.parametrize("value", [3, 7, 12])
def test_a_block_size_that_is_no_power_of_two_is_refused(value: int) -> None:
    message = f"must be a power of two, got {value}; use 1, 2, 4, 8, 16, ..."
    with pytest.raises(ValidationError, match=message):
        BlockCirculant(block_size=value)
    with pytest.raises(ValidationError, match=message):
        CoarseGrain(**(COARSE | {"level1_block": value}))
    with pytest.raises(ValidationError, match=message):
        CoarseGrain(**(COARSE | {"level2_block": value}))


@pytest.mark.parametrize("value", [0, -4])
def test_a_block_size_below_one_is_refused(value: int) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        BlockCirculant(block_size=value)


@pytest.mark.parametrize(
    ("value", "message"), [(0.0, "greater than 0"), (-0.5, "greater than 0"), (1.01, "less than or equal to 1")]
)
@pytest.mark.parametrize("field", ["level1_keep", "level2_keep"])
def test_a_keep_ratio_outside_its_range_is_refused(field: str, value: float, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CoarseGrain(**(COARSE | {field: value}))


def test_blocks_that_do_not_nest_are_refused() -> None:
    message = r"level2_block must not exceed level1_block \(8\), got 16; use a smaller level2_block"
    with pytest.raises(ValidationError, match=message):
        CoarseGrain(**(COARSE | {"level2_block": 16}))


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        BlockCirculant.model_validate({"block_size": 4, "blocksize": 4})
