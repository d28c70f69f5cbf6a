"""What a token costs: a look-up of one column, or of an entry of the embedding table."""

import pytest

from codesign.compression import BlockCirculant, CoarseGrain, Dense, Structure
from codesign.design import Accelerator, Fixed, Kernel, Network, PiecewiseLinear, TaskShape
from codesign.errors import InputError
from codesign.hardware import estimate, workload

TOKENS = TaskShape(96, 96, tokens=True)
VECTORS = TaskShape(96, 96)
COARSE = CoarseGrain(level1_block=16, level1_keep=0.5, level2_block=8, level2_keep=0.5)


def network(structure: Structure = Dense(), **fields: object) -> Network:  # noqa: B008
    kernel = Kernel(structure=structure)
    values = {"hidden": 32, "cell": "lstm", "activation_function": PiecewiseLinear(segments=32), **fields}
    return Network(input_kernel=kernel, recurrent_kernel=kernel, **values)


@pytest.mark.parametrize(
    ("structure", "columns"), [(Dense(), 1), (BlockCirculant(block_size=8), 8), (COARSE, 24)], ids=lambda v: str(v)
)
def test_a_token_streams_the_columns_that_hold_it(structure: Structure, columns: int) -> None:
    tokens, vectors = (workload(network(structure), shape).layers[0].input_kernel for shape in (TOKENS, VECTORS))
    assert tokens.columns == columns and vectors.columns == vectors.row_macs
    assert tokens.macs == 4 * 32 * columns
    assert tokens.n_words == vectors.n_words  # stored all the same


def test_cycles_of_a_token_on_the_serial_core() -> None:
    """L = 1 + 32 columns instead of 96 + 32: 4 * (H / P) * max(L, P) + P + 19."""
    on = Accelerator(kind="serial_core", n_pe=16)
    cycles = estimate(network(), on, TOKENS).breakdown["cycles"]
    assert sum(float(part[0]) for name, part in cycles.items() if name != "head") == 4 * 2 * 33 + 16 + 19


def test_cycles_of_a_token_on_the_dense_array() -> None:
    cycles = estimate(network(), Accelerator(kind="dense", n_pe=16), TOKENS).breakdown["cycles"]
    assert (cycles["input_kernel"][0], cycles["recurrent_kernel"][0]) == (4 * 32 / 16, 4 * 32 / 16 * 32)


@pytest.mark.parametrize("kind", ["serial_core", "dense"])
def test_tokens_cost_less_time_and_energy_but_the_same_weights(kind: str) -> None:
    tokens, vectors = (estimate(network(), Accelerator(kind=kind), shape) for shape in (TOKENS, VECTORS))
    assert tokens.cycles[0] < vectors.cycles[0] and tokens.energy_j[0] < vectors.energy_j[0]
    assert tokens.storage_bits[0] == vectors.storage_bits[0]
    assert tokens.bram18[0] <= vectors.bram18[0]


@pytest.mark.parametrize("kind", ["serial_core", "dense"])
def test_an_embedding_is_a_vector_and_a_stored_table(kind: str) -> None:
    embedded = network(embedding=24, embedding_weights=Fixed(bits=6))
    table = estimate(embedded, Accelerator(kind=kind), TOKENS)
    plain = estimate(network(), Accelerator(kind=kind), TaskShape(24, 96))
    assert table.cycles[0] == plain.cycles[0]
    assert table.storage_bits[0] - plain.storage_bits[0] == 96 * 24 * 6
    assert table.breakdown["storage_bits"]["embedding"][0] == 96 * 24 * 6
    assert table.breakdown["energy_j"]["embedding"][0] > 0
    assert table.bram18[0] > plain.bram18[0]


def test_only_tokens_can_be_embedded() -> None:
    with pytest.raises(InputError, match="network.embedding must be 0"):
        workload(network(embedding=4), VECTORS)
