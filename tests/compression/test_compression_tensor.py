"""Tensor structures against their papers' counts, explicit sums and the bounds of their decompositions."""

from collections.abc import Sequence
from itertools import product
from math import prod, sqrt
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from codesign.compression import TENSOR_STRUCTURES, HierarchicalTucker, TensorStructure, TensorTrain
from codesign.compression.tensor import Path, contract, fold
from codesign.errors import InputError
from codesign.knobs import Choice, Reader

Array = NDArray[np.float64]

HIDDEN, PIXELS, FOURS = 256, 57_600, "4x4x4x4"
UCF, YOUTUBE = "8x20x20x18", "4x20x20x36"


def tucker(rank: int, col_modes: str) -> HierarchicalTucker:
    return HierarchicalTucker(leaf_rank=rank, inner_rank=rank, row_modes=FOURS, col_modes=col_modes)


def train(col_modes: str) -> TensorTrain:
    modes = col_modes.count("x") + 1
    return TensorTrain(modes=modes, row_modes="x".join("4" * modes), col_modes=col_modes)


EXAMPLES: dict[str, TensorStructure] = {
    "tree of 2": HierarchicalTucker(modes=2, leaf_rank=3),
    "tree of 3": HierarchicalTucker(modes=3, leaf_rank=2, inner_rank=3),
    "tree of 4": HierarchicalTucker(),
    "tree of 5": HierarchicalTucker(modes=5, leaf_rank=2, inner_rank=3),
    "tree of 4, a rank for each node": HierarchicalTucker(ranks="2x3x1x2x3x4"),
    "train of 2": TensorTrain(modes=2, rank=3),
    "train of 4": TensorTrain(rank=2),
    "train of 5": TensorTrain(modes=5, rank=3),
}
every_example = pytest.mark.parametrize("structure", EXAMPLES.values(), ids=EXAMPLES)

UNPADDED = [(1, 16, 24), (4, 12, 30)]
SHAPES = [*UNPADDED, (3, 51, 39), (4, 5, 1), (1, 1, 7)]
"""Gates, rows and columns; the first are met exactly by 2 to 4 modes, the others are padded."""

every_shape = pytest.mark.parametrize(("gates", "rows", "cols"), SHAPES)


@st.composite
def structures(draw: st.DrawFn, inner: int = 3, last: tuple[int, int] = (6, 8)) -> TensorStructure:
    """Trees and trains of up to five modes, given ones up to `inner` but for the last of each side."""
    modes, rank = draw(st.integers(2, 5)), st.integers(1, 5)

    def sizes() -> str:
        first = draw(st.lists(st.integers(1, inner), min_size=modes - 1, max_size=modes - 1))
        return draw(st.sampled_from(["", "x".join(map(str, [*first, draw(st.integers(*last))]))]))

    rows, cols = sizes(), sizes()
    if draw(st.booleans()):
        return TensorTrain(modes=modes, rank=draw(rank), row_modes=rows, col_modes=cols)
    return HierarchicalTucker(modes=modes, leaf_rank=draw(rank), inner_rank=draw(rank), row_modes=rows, col_modes=cols)


few, gate_counts, seeds = st.integers(1, 6), st.sampled_from([1, 3, 4]), st.integers(0, 1000)


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def random_words(structure: TensorStructure, gates: int, rows: int, cols: int, seed: int = 0) -> Array:
    return normal(structure.counts(gates, rows, cols).n_words, seed=seed)


def distance(structure: TensorStructure, dense: Array, gates: int) -> float:
    """How far the projection of a kernel is from it."""
    words = structure.project(dense, gates)
    return float(np.linalg.norm(dense - structure.to_dense(words, gates, len(dense) // gates, dense.shape[1])))


# Counts of the papers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rank", "ucf", "youtube", "hidden"), [(2, 560, 672, 160), (4, 1248, 1472, 448)])
def test_words_of_a_tree_with_four_gates(rank: int, ucf: int, youtube: int, hidden: int) -> None:
    assert tucker(rank, UCF).counts(4, HIDDEN, PIXELS).n_words == ucf
    assert tucker(rank, YOUTUBE).counts(4, HIDDEN, PIXELS).n_words == youtube
    assert tucker(rank, FOURS).counts(4, HIDDEN, HIDDEN).n_words == hidden


def test_gates_share_a_tree_but_for_one_slice_of_the_root() -> None:
    one, four = (tucker(4, UCF).network(gates, HIDDEN, PIXELS) for gates in (1, 4))
    assert [four.volume(factor) - one.volume(factor) for factor in one.factors] == [3 * 16, 0, 0, 0, 0, 0, 0]
    assert one.n_words == 4 * 4 * (8 + 20 + 20 + 18) + 2 * 64 + 16


def test_gates_are_part_of_the_first_core_of_a_train() -> None:
    network = train(UCF).network(4, HIDDEN, PIXELS)
    assert [network.volume(factor) for factor in network.factors] == [512, 1280, 1280, 288]
    assert network.n_words == 3360


@pytest.mark.parametrize(
    ("col_modes", "compression"),
    [("2x7x8x8x7x4", 50_972), ("4x4x4x4x4x4", 14_564), (UCF, 4954), (YOUTUBE, 4608)],
)
def test_compression_of_the_trains_of_tie(col_modes: str, compression: int) -> None:
    structure = train(col_modes)
    rows, cols = 4**structure.modes, prod(map(int, col_modes.split("x")))
    assert rows * cols / structure.counts(1, rows, cols).n_words == pytest.approx(compression, abs=1)


def last_to_first(structure: TensorStructure) -> Path:
    """The published orders, as places: from the last factor to the first; in the tree both sides meet at the root."""
    if isinstance(structure, TensorTrain):
        return tuple((k, k + 1) for k in reversed(range(structure.modes)))
    return (6, 7), (5, 6), (2, 5), (0, 4), (0, 3), (1, 2), (0, 1)  # U4 U3 B34 G B12 U2 U1


def macs(structure: TensorStructure, gates: int, rows: int, cols: int, path: Path | None = None) -> int:
    return sum(step.macs for step in structure.network(gates, rows, cols).steps(path=path))


@pytest.mark.parametrize(
    ("col_modes", "published"),
    [("2x7x8x8x7x4", 3_645_440), ("4x4x4x4x4x4", 1_179_648), (UCF, 1_912_832), (YOUTUBE, 1_417_216)],
)
def test_multiplications_of_the_trains_of_tie(col_modes: str, published: int) -> None:
    structure = train(col_modes)
    shape = (1, 4**structure.modes, prod(map(int, col_modes.split("x"))))
    assert macs(structure, *shape, last_to_first(structure)) == published
    assert structure.counts(*shape).macs <= published


@pytest.mark.parametrize(
    ("col_modes", "rank", "published", "cheapest"),
    [
        (UCF, 2, 989_184, 707_392),
        (UCF, 3, 1_982_976, 1_265_400),
        (UCF, 4, 3_411_968, 1_967_616),
        (UCF, 5, 5_352_960, 2_792_300),
        (YOUTUBE, 4, 2_166_784, 1_488_896),
        (FOURS, 4, 200_704, 108_544),
    ],
)
def test_multiplications_of_a_tree(col_modes: str, rank: int, published: int, cheapest: int) -> None:
    structure, cols = tucker(rank, col_modes), prod(map(int, col_modes.split("x")))
    assert macs(structure, 4, HIDDEN, cols, last_to_first(structure)) == published
    assert structure.counts(4, HIDDEN, cols).macs == cheapest


def test_the_largest_intermediate_of_a_train_follows_its_first_stage() -> None:
    assert train(UCF).counts(4, HIDDEN, PIXELS).intermediate_words == 8 * 20 * 20 * 4 * 4


# What a kernel is ----------------------------------------------------------------------------------------------------


def join(node: Array, left: Array, right: Array) -> Array:
    """What an inner node makes of its children's vectors, as an explicit sum."""
    total = np.zeros(node.shape[2])
    for a, b in product(range(len(left)), range(len(right))):
        total += node[a, b] * left[a] * right[b]
    return total


def tree_element(factors: Sequence[Array], gate: int, i: Sequence[int], j: Sequence[int]) -> float:
    """W[g, i, j] of a tree of two to five modes, each written out."""

    def leaf(place: int, mode: int) -> Array:
        vector: Array = factors[place][i[mode], j[mode]]
        return vector

    if len(i) == 2:
        sides = leaf(1, 0), leaf(2, 1)
    elif len(i) == 3:
        sides = join(factors[1], leaf(3, 0), leaf(4, 1)), leaf(2, 2)
    elif len(i) == 4:
        sides = join(factors[1], leaf(3, 0), leaf(4, 1)), join(factors[2], leaf(5, 2), leaf(6, 3))
    else:
        first = join(factors[3], leaf(7, 0), leaf(8, 1))
        sides = join(factors[1], first, leaf(4, 2)), join(factors[2], leaf(5, 3), leaf(6, 4))
    return float(join(factors[0], *sides)[gate])


def train_element(factors: Sequence[Array], gate: int, i: Sequence[int], j: Sequence[int]) -> float:
    """W[g, i, j] of a train: a product of matrices."""
    row: Array = factors[0][gate, i[0], j[0]]
    for k in range(1, len(i) - 1):
        row = row @ factors[k][:, i[k], j[k]]
    return float(row @ factors[-1][:, i[-1], j[-1]])


def digits(number: int, sizes: Sequence[int]) -> list[int]:
    """The mode indices of a row or a column; the last runs fastest."""
    found = []
    for size in reversed(sizes):
        number, digit = divmod(number, size)
        found.append(digit)
    return found[::-1]


@pytest.mark.parametrize("modes", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", TENSOR_STRUCTURES)
def test_every_element_follows_its_definition(kind: str, modes: int) -> None:
    row_sizes, col_sizes = [2, 1, 2, 1, 2][:modes], [1, 3, 2, 2, 1][:modes]
    explicit = {"row_modes": "x".join(map(str, row_sizes)), "col_modes": "x".join(map(str, col_sizes))}
    structure = TENSOR_STRUCTURES[kind].model_validate({"modes": modes, **explicit})
    gates, rows, cols = 3, prod(row_sizes), prod(col_sizes)
    words = random_words(structure, gates, rows, cols)
    factors = structure.network(gates, rows, cols).split(words)
    element = tree_element if kind == "hierarchical_tucker" else train_element
    kernel = structure.to_dense(words, gates, rows, cols).reshape(gates, rows, cols)
    for gate, row, col in product(range(gates), range(rows), range(cols)):
        expected = element(factors, gate, digits(row, row_sizes), digits(col, col_sizes))
        assert kernel[gate, row, col] == pytest.approx(expected, abs=1e-12)


def test_ranks_of_a_tree_stand_level_by_level() -> None:
    structure = HierarchicalTucker(ranks="2x3x4x5x6x7", row_modes="3x3x3x3", col_modes="3x3x3x3")
    network = structure.network(4, 81, 81)
    shapes = [network.shape(factor) for factor in network.factors]
    leaves = [(3, 3, 4), (3, 3, 5), (3, 3, 6), (3, 3, 7)]
    assert shapes == [(2, 3, 4), (4, 5, 2), (6, 7, 3), *leaves]


def test_a_padded_kernel_is_the_corner_of_the_whole_one() -> None:
    structure = HierarchicalTucker(modes=3, row_modes="3x3x2", col_modes="2x4x5")
    words = random_words(structure, 3, 18, 40)
    whole = structure.to_dense(words, 3, 18, 40).reshape(3, 18, 40)
    part = structure.to_dense(words, 3, 17, 39).reshape(3, 17, 39)
    np.testing.assert_allclose(part, whole[:, :17, :39], atol=1e-13)


# Products ------------------------------------------------------------------------------------------------------------


@every_shape
@every_example
def test_the_product_from_words_equals_that_of_the_dense_kernel(
    structure: TensorStructure, gates: int, rows: int, cols: int
) -> None:
    words, x = random_words(structure, gates, rows, cols), normal(cols, seed=1)
    expected = structure.to_dense(words, gates, rows, cols) @ x
    np.testing.assert_allclose(structure.matvec(words, x, gates, rows), expected, rtol=1e-10, atol=1e-10)


@given(structures(), gate_counts, few, few, seeds)
def test_the_product_agrees_for_any_structure_and_shape(
    structure: TensorStructure, gates: int, rows: int, cols: int, seed: int
) -> None:
    words, x = random_words(structure, gates, rows, cols, seed), normal(cols, seed=seed + 1)
    expected = structure.to_dense(words, gates, rows, cols) @ x
    np.testing.assert_allclose(structure.matvec(words, x, gates, rows), expected, rtol=1e-9, atol=1e-9)


@every_example
def test_the_same_steps_run_a_batch(structure: TensorStructure) -> None:
    gates, rows, cols = 4, 12, 30
    network, words = structure.network(gates, rows, cols), random_words(structure, gates, rows, cols)
    inputs = normal(2, 5, network.volume(network.inputs))
    operands = [*network.split(words), inputs.reshape(2, 5, *network.shape(network.inputs))]
    together = contract(network.steps(batch=10), operands, np.einsum).reshape(2, 5, gates, -1)
    assert together.shape[-1] >= rows
    for place in product(range(2), range(5)):
        alone = structure.matvec(words, inputs[place], gates, together.shape[-1])
        np.testing.assert_allclose(together[place].reshape(-1), alone, rtol=1e-10, atol=1e-10)


@every_shape
@every_example
def test_counts_are_the_sums_of_what_the_steps_do(structure: TensorStructure, gates: int, rows: int, cols: int) -> None:
    network, words = structure.network(gates, rows, cols), random_words(structure, gates, rows, cols)
    done: list[tuple[int, int]] = []

    def einsum(equation: str, a: Array, b: Array) -> Array:
        terms, _ = equation.replace("...", "").split("->")
        sizes: dict[str, int] = {}
        for term, operand in zip(terms.split(","), (a, b), strict=True):
            sizes |= dict(zip(term, operand.shape, strict=True))
        result: Array = np.einsum(equation, a, b)
        done.append((prod(sizes.values()), result.size))
        return result

    inputs = normal(*network.shape(network.inputs))
    contract(network.steps(), [*network.split(words), inputs], einsum)
    counts = structure.counts(gates, rows, cols)
    assert [(step.macs, step.n_words) for step in network.steps()] == done
    assert counts.macs == sum(step_macs for step_macs, _ in done)
    assert counts.intermediate_words == max(size for _, size in done)
    assert counts.n_words == sum(factor.size for factor in network.split(words)) == len(words)


@given(structures(), gate_counts, few, few, st.randoms(use_true_random=False))
def test_no_order_of_connected_steps_is_cheaper(
    structure: TensorStructure, gates: int, rows: int, cols: int, random: Random
) -> None:
    network = structure.network(gates, rows, cols)
    left, path = [set(factor) for factor in (*network.factors, network.inputs)], []
    while len(left) > 1:
        pairs = [(i, j) for j in range(len(left)) for i in range(j) if left[i] & left[j]]
        pair = random.choice(pairs)
        joined = left[pair[0]] | left[pair[1]]
        left = [indices for place, indices in enumerate(left) if place not in pair]
        left.append(joined & set(network.outputs).union(*left))
        path.append(pair)
    assert structure.counts(gates, rows, cols).macs <= macs(structure, gates, rows, cols, tuple(path))


def test_a_batch_shares_the_steps_that_no_input_enters() -> None:
    network = tucker(4, FOURS).network(4, HIDDEN, HIDDEN)
    steps = network.steps(batch=1000)
    before = [step for step in steps if not step.from_input]
    assert before and all("..." not in step.equation for step in before)
    assert all(step.macs % 1000 == 0 for step in steps if step.from_input)
    # 81,920 for each input and 26,624 for all; the order that is cheapest for one input takes 98,304 and 10,240.
    assert sum(step.macs for step in steps) == 81_920_000 + 26_624
    assert sum(step.macs for step in network.steps(batch=1000, path=network.path())) == 98_304_000 + 10_240


# Initial words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [0.5, 1.0])
@every_shape
@every_example
def test_initial_elements_have_the_variance_that_keeps_a_signal(
    structure: TensorStructure, gates: int, rows: int, cols: int, gain: float
) -> None:
    # Words are independent with mean zero: products of different words add their variances.
    word_variance = structure.bound(gates, rows, cols, gain) ** 2 / 3
    variances = np.full(structure.counts(gates, rows, cols).n_words, word_variance)
    np.testing.assert_allclose(structure.to_dense(variances, gates, rows, cols), gain / cols)


@every_example
def test_drawn_elements_have_that_variance(structure: TensorStructure) -> None:
    gates, rows, cols = 4, 12, 24
    rng, bound = np.random.default_rng(0), structure.bound(gates, rows, cols)
    n_words = structure.counts(gates, rows, cols).n_words
    draws = [structure.to_dense(rng.uniform(-bound, bound, n_words), gates, rows, cols) for _ in range(400)]
    power = np.array([np.mean(kernel**2) for kernel in draws]) * cols
    error = np.std(power) / sqrt(len(power))
    assert error < 0.1
    assert abs(np.mean(power) - 1) < 4 * error


def test_an_initial_output_of_a_wide_kernel_has_the_power_of_its_input() -> None:
    for structure in (tucker(4, UCF), train(UCF)):
        bound = structure.bound(4, HIDDEN, PIXELS)
        n_words = structure.counts(4, HIDDEN, PIXELS).n_words
        words = np.random.default_rng(0).uniform(-bound, bound, n_words)
        output = structure.matvec(words, normal(PIXELS, seed=1), 4, HIDDEN)
        assert 0.5 < np.mean(output**2) < 2.0


# Projection ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gates", "rows", "cols"), UNPADDED)
@every_example
def test_projecting_a_member_gives_it_back(structure: TensorStructure, gates: int, rows: int, cols: int) -> None:
    sizes = structure.network(gates, rows, cols)
    rows, cols = sizes.volume(sizes.outputs[1:]), sizes.volume(sizes.inputs)
    member = structure.to_dense(random_words(structure, gates, rows, cols), gates, rows, cols)
    assert distance(structure, member, gates) < 1e-12 * np.linalg.norm(member)


@every_shape
@pytest.mark.parametrize("modes", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", TENSOR_STRUCTURES)
def test_full_ranks_represent_every_matrix(kind: str, modes: int, gates: int, rows: int, cols: int) -> None:
    full = {"leaf_rank": 10**6, "inner_rank": 10**6} if kind == "hierarchical_tucker" else {"rank": 10**6}
    structure, dense = TENSOR_STRUCTURES[kind].model_validate({"modes": modes, **full}), normal(gates * rows, cols)
    assert distance(structure, dense, gates) < 1e-12 * np.linalg.norm(dense)


def tails(structure: TensorStructure, dense: Array, gates: int) -> list[float]:
    """For each rank the distance to the nearest kernel that meets this rank alone: no member is nearer than any."""
    network = structure.network(gates, len(dense) // gates, dense.shape[1])
    indices = network.outputs + network.inputs
    kernel, found = dense.reshape(network.shape(indices)), []
    for rank in network.ranks:
        inside = below(network.factors, rank)
        own = [place for place, index in enumerate(indices) if index in inside]
        matrix = np.moveaxis(kernel, own, range(len(own))).reshape(prod(kernel.shape[k] for k in own), -1)
        found.append(float(np.linalg.norm(np.linalg.svd(matrix, compute_uv=False)[network.sizes[rank] :])))
    return found


def below(factors: Sequence[str], rank: str) -> set[str]:
    """The modes beyond a rank, seen from the root."""
    place = max(place for place, factor in enumerate(factors) if rank in factor)
    later, inside = "".join(factors[place + 1 :]), set[str]()
    for index in set(factors[place]) - {rank}:
        inside |= below(factors, index) if index in later else {index}
    return inside


@given(structures(2, (1, 4)), gate_counts, seeds)
def test_a_projection_is_quasi_optimal(structure: TensorStructure, gates: int, seed: int) -> None:
    network = structure.network(gates, 1, 1)
    dense = normal(gates * network.volume(network.outputs[1:]), network.volume(network.inputs), seed=seed)
    nearest, error = tails(structure, dense, gates), distance(structure, dense, gates)
    assert max(nearest) - 1e-9 <= error <= np.linalg.norm(nearest) + 1e-9


@pytest.mark.parametrize("gates", [1, 4])
@every_example
def test_a_projection_is_near_where_a_member_is_near(structure: TensorStructure, gates: int) -> None:
    network = structure.network(gates, 16, 24)
    rows, cols = network.volume(network.outputs[1:]), network.volume(network.inputs)
    member = structure.to_dense(random_words(structure, gates, rows, cols), gates, rows, cols)
    noise = normal(*member.shape, seed=1)
    # With one gate, both children of the root of a tree see the same matrix: 2 d - 3 different ranks.
    n_ranks = len(network.ranks) - (gates == 1 and isinstance(structure, HierarchicalTucker))
    assert distance(structure, member + noise, gates) <= sqrt(n_ranks) * np.linalg.norm(noise)


@every_shape
@every_example
def test_projected_words_are_balanced(structure: TensorStructure, gates: int, rows: int, cols: int) -> None:
    words = structure.project(normal(gates * rows, cols), gates)
    levels = [np.mean(factor**2) for factor in structure.network(gates, rows, cols).split(words)]
    np.testing.assert_allclose(levels, levels[0])


@every_example
def test_nothing_is_projected_to_nothing(structure: TensorStructure) -> None:
    words = structure.project(np.zeros((4 * 12, 30)), 4)
    assert not structure.to_dense(words, 4, 12, 30).any()


# Modes and ranks -----------------------------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.integers(2, 6))
def test_modes_are_ascending_and_pad_little(size: int, n: int) -> None:
    modes = fold(size, n)
    assert len(modes) == n
    assert list(modes) == sorted(modes)
    assert size <= prod(modes) <= size * 4 / 3 + 1e-9


@given(st.integers(1, 12), st.integers(2, 5))
def test_a_power_is_cut_into_its_roots(root: int, n: int) -> None:
    assert fold(root**n, n) == (root,) * n


@pytest.mark.parametrize(
    ("size", "modes"), [(39, (5, 8)), (51, (6, 9)), (51, (2, 3, 3, 3)), (128, (8, 16)), (7, (2, 4))]
)
def test_a_size_that_factorises_badly_is_padded(size: int, modes: tuple[int, ...]) -> None:
    assert fold(size, len(modes)) == modes


def test_modes_left_open_pair_large_rows_with_small_columns() -> None:
    network = HierarchicalTucker().network(4, 512, 39)
    assert (network.shape("ABCD"), network.shape("abcd")) == ((8, 4, 4, 4), (2, 2, 2, 5))


def test_leaves_and_inner_nodes_have_their_own_rank() -> None:
    network = HierarchicalTucker(leaf_rank=2, inner_rank=3).network(4, HIDDEN, HIDDEN)
    shapes = [network.shape(factor) for factor in network.factors]
    assert shapes == [(3, 3, 4), (2, 2, 3), (2, 2, 3), *[(4, 4, 2)] * 4]


def test_a_rank_beyond_use_is_cut() -> None:
    structure = HierarchicalTucker(leaf_rank=100, inner_rank=100, row_modes="2x2x2x2", col_modes="2x2x2x2")
    network = structure.network(1, 16, 16)
    assert [network.shape(factor) for factor in network.factors[:4]] == [(16, 16, 1), (4, 4, 16), (4, 4, 16), (2, 2, 4)]
    chain = TensorTrain(modes=2, rank=100, row_modes="2x2", col_modes="1x3").network(4, 4, 3)
    assert [chain.shape(factor) for factor in chain.factors] == [(4, 2, 1, 6), (6, 2, 3)]


# What is refused, and how structures are written ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", TENSOR_STRUCTURES)
def test_a_kind_is_registered_under_its_own_name(kind: str) -> None:
    assert TENSOR_STRUCTURES[kind].model_fields["kind"].default == kind


@every_example
def test_a_structure_survives_its_own_json(structure: TensorStructure) -> None:
    again = TENSOR_STRUCTURES[structure.kind].model_validate_json(structure.model_dump_json())
    assert again == structure


def test_a_search_space_offers_modes_and_ranks() -> None:
    reader = Reader("space.toml")
    tree = reader.tree(HierarchicalTucker, {"leaf_rank": [2, 4], "row_modes": ["", FOURS]}, "structure")
    reader.finish()
    assert tree["row_modes"] == Choice(("", FOURS))


@pytest.mark.parametrize("kind", TENSOR_STRUCTURES)
@pytest.mark.parametrize("text", ["4,4", "4x", "x4", "4x0x2", "4 x 4", "-4x4", "04x4", "four"])
def test_sizes_in_another_form_are_refused(kind: str, text: str) -> None:
    with pytest.raises(ValidationError, match=f"must be sizes with x between them such as 4x8x8, got '{text}'"):
        TENSOR_STRUCTURES[kind].model_validate({"row_modes": text})


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("row_modes", "4x4", "row_modes must have 4 sizes, got 2 in '4x4'"),
        ("col_modes", "4x4x4x4x4", "col_modes must have 4 sizes, got 5 in '4x4x4x4x4'"),
        ("ranks", "4x4x4x4", "ranks must have 6 sizes, got 4 in '4x4x4x4'"),
    ],
)
def test_sizes_that_are_not_as_many_as_the_modes_are_refused(field: str, text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HierarchicalTucker.model_validate({field: text})


def test_modes_that_are_too_small_for_a_kernel_are_refused_in_one_line() -> None:
    structure = TensorTrain(row_modes=FOURS, col_modes="2x2x3x3")
    with pytest.raises(InputError) as caught:
        structure.network(4, 256, 39)
    assert str(caught.value) == (
        "tensor_train.col_modes must multiply up to at least 39, got '2x2x3x3' = 36; "
        "use larger sizes, or leave col_modes out"
    )


@pytest.mark.parametrize("field", ["leaf_rank", "inner_rank"])
def test_a_rank_below_one_is_refused(field: str) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        HierarchicalTucker.model_validate({field: 0})


@pytest.mark.parametrize(("modes", "message"), [(1, "greater than or equal to 2"), (11, "less than or equal to 10")])
def test_modes_outside_their_range_are_refused(modes: int, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TensorTrain(modes=modes)
