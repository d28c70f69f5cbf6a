"""What every kernel structure promises, tried on all of them."""

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from codesign.compression import STRUCTURES, Dense, Structure
from codesign.compression.structure import pad
from tests.strategies import EXAMPLES, SHAPES, TRIVIAL, Example, seeds, sizes, structures

SEED = 7

every_example = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
every_shape = pytest.mark.parametrize(("rows", "cols"), SHAPES)
every_trivial = pytest.mark.parametrize("structure", TRIVIAL.values(), ids=TRIVIAL)


def normal(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=shape)


def random_words(structure: Structure, rows: int, cols: int, seed: int = 0) -> NDArray[np.float64]:
    return normal(structure.counts(rows, cols).n_words, seed=seed)


def test_every_registered_kind_has_an_example_and_a_trivial_setting() -> None:
    assert {example.structure.kind for example in EXAMPLES.values()} == set(STRUCTURES) == set(TRIVIAL)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_a_kind_is_registered_under_its_own_name(kind: str) -> None:
    assert STRUCTURES[kind].model_fields["kind"].default == kind


@every_shape
@every_example
def test_the_product_from_words_equals_that_of_the_dense_kernel(example: Example, rows: int, cols: int) -> None:
    words, x = random_words(example.structure, rows, cols), normal(cols, seed=1)
    expected = example.structure.to_dense(words, rows, cols, SEED) @ x
    np.testing.assert_allclose(example.structure.matvec(words, x, rows, SEED), expected, rtol=0, atol=1e-12)


@given(structures, sizes, sizes, seeds)
def test_the_product_agrees_for_any_structure_and_shape(structure: Structure, rows: int, cols: int, seed: int) -> None:
    words, x = random_words(structure, rows, cols, seed), normal(cols, seed=seed + 1)
    expected = structure.to_dense(words, rows, cols, seed) @ x
    np.testing.assert_allclose(structure.matvec(words, x, rows, seed), expected, rtol=0, atol=1e-12)


@every_shape
@every_example
def test_projecting_a_member_gives_it_back(example: Example, rows: int, cols: int) -> None:
    structure = example.structure
    member = structure.to_dense(random_words(structure, rows, cols), rows, cols, SEED)
    again = structure.to_dense(structure.project(member, SEED), rows, cols, SEED)
    np.testing.assert_allclose(again, member, atol=1e-14)


@every_shape
@every_example
def test_what_a_projection_leaves_is_orthogonal_to_the_family(example: Example, rows: int, cols: int) -> None:
    structure, dense = example.structure, normal(rows, cols)
    rest = dense - structure.to_dense(structure.project(dense, SEED), rows, cols, SEED)
    for seed in range(5):
        member = structure.to_dense(random_words(structure, rows, cols, seed), rows, cols, SEED)
        assert abs(np.sum(rest * member)) < 1e-10


@given(structures, sizes, sizes, seeds)
def test_no_member_is_nearer_than_the_projection(structure: Structure, rows: int, cols: int, seed: int) -> None:
    dense, words = normal(rows, cols, seed=seed), random_words(structure, rows, cols, seed + 1)
    best = structure.project(dense, seed)
    nearest = np.linalg.norm(dense - structure.to_dense(best, rows, cols, seed))
    for other in (words, best + 0.01 * words):
        assert nearest <= np.linalg.norm(dense - structure.to_dense(other, rows, cols, seed)) + 1e-12


@every_shape
@every_trivial
def test_the_trivial_setting_represents_every_matrix(structure: Structure, rows: int, cols: int) -> None:
    dense = normal(rows, cols)
    np.testing.assert_array_equal(structure.to_dense(structure.project(dense), rows, cols), dense)


@every_shape
@every_trivial
def test_the_trivial_setting_multiplies_and_stores_what_a_dense_kernel_does(
    structure: Structure, rows: int, cols: int
) -> None:
    counts, dense = structure.counts(rows, cols), Dense().counts(rows, cols)
    assert (counts.n_words, counts.row_macs, counts.n_rows) == (dense.n_words, dense.row_macs, dense.n_rows)


@every_shape
@every_example
def test_counts_equal_a_loop_over_the_padded_layout(example: Example, rows: int, cols: int) -> None:
    counts = example.structure.counts(rows, cols)
    padded_rows, padded_cols = pad(rows, example.side), pad(cols, example.side)
    layout = example.structure.layout(padded_rows, padded_cols, SEED)
    used: set[int] = set()
    macs_of_row = []
    for i in range(padded_rows):
        kept = [int(layout.ids[i, j]) for j in range(padded_cols) if layout.mask[i, j]]
        used.update(kept)
        macs_of_row.append(len(kept))
    assert counts.n_rows == padded_rows
    assert macs_of_row == [counts.row_macs] * padded_rows
    assert counts.macs == sum(macs_of_row)
    assert used == set(range(counts.n_words))


@every_shape
@every_example
def test_every_index_is_a_stored_word_and_zero_where_masked(example: Example, rows: int, cols: int) -> None:
    layout = example.structure.layout(rows, cols, SEED)
    assert layout.n_words == example.structure.counts(rows, cols).n_words
    assert layout.ids.min() >= 0
    assert layout.ids.max() < layout.n_words
    assert not layout.ids[~layout.mask].any()


@every_example
def test_a_smaller_kernel_is_the_corner_of_the_padded_one(example: Example) -> None:
    structure, side = example.structure, example.side
    small, padded = structure.layout(51, 39, SEED), structure.layout(pad(51, side), pad(39, side), SEED)
    np.testing.assert_array_equal(small.ids, padded.ids[:51, :39])
    np.testing.assert_array_equal(small.mask, padded.mask[:51, :39])


@every_example
def test_a_structure_survives_its_own_json(example: Example) -> None:
    again = STRUCTURES[example.structure.kind].model_validate_json(example.structure.model_dump_json())
    assert again == example.structure
