"""What one time step of a network asks of hardware: products, element-wise work, memory.

Everything downstream prices these counts and looks at the network no more. The element-wise work
of a layer of H units, gates applied:

    LSTM   c = f * c + i * g,  h = o * tanh(c)             3H multiplications,  H additions, 5H look-ups
    GRU    n = tanh(nx + r * nh),  h = (1 - z) * n + z * h  3H multiplications, 3H additions, 3H look-ups

Peepholes add 3H multiplications and additions. Batch normalisation, frozen, is one multiplication for
every gate output of either product (its shift is in the bias), and for the LSTM a scale and a shift of c;
with constants of their own for each step, memory holds as many sets of all of them, of which a step reads one.

The GRU applies r after the product ("reset after"), so its candidate has two biases a unit.

A token enters one-hot, so its product is a look-up of one column of the input kernel; hardware that
works in circulant blocks reads the block that the column lies in, and static selectors, which cannot
look one column up, stream all kept ones. A tensor kernel has no columns to look up: it multiplies a token as
it does any vector. An embedded token is a vector as any other, read from a table.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from codesign.compression import BlockCirculant, CoarseGrain, Structure, TensorStructure
from codesign.compression.structure import pad
from codesign.compression.tensor import Path, TensorNetwork
from codesign.design import GATES, Activity, Kernel, Network, PerStep, PiecewiseLinear, TaskShape
from codesign.errors import InputError

FIXED_BIAS_BITS, FLOAT_BIAS_BITS = 16, 32
"""Stored bits of a bias, beside fixed-point and floating-point weights."""

_BIASES = {"lstm": 4, "gru": 4}
_MULTIPLICATIONS = {"lstm": 3, "gru": 3}
_ADDITIONS = {"lstm": 1, "gru": 3}
_LOOKUPS = {"lstm": 5, "gru": 3}


@dataclass(frozen=True)
class Gather:
    """What a step of a contraction reads, for one term of its sum, of a result that lies as (columns, rows).

    Attributes:
        outer: runs of consecutive columns.
        inner: columns of a run.
        stride: columns from the begin of one run to that of the next; 0 where that varies.
        rows: rows of each column.
    """

    outer: int
    inner: int
    stride: int
    rows: int

    @property
    def transposes(self) -> bool:
        """Whether the words are needed in another order than they were written."""
        return self.stride != self.inner


@dataclass(frozen=True)
class Contraction:
    """One step of the product with a tensor kernel: (columns, contracted) times (contracted, rows).

    The left operand holds the columns. It is the input or what the step before made of it, the right one a factor
    or a product of factors; a step before which no input has entered has factors on both sides.

    Attributes:
        columns, contracted, rows: extents.
        from_input: whether the input has entered.
        gather: how it reads what an earlier step made of the input; None where there was none.
    """

    columns: int
    contracted: int
    rows: int
    from_input: bool
    gather: Gather | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.columns * self.contracted * self.rows

    @property
    def left_words(self) -> int:
        """Entries of the left operand."""
        return self.columns * self.contracted

    @property
    def right_words(self) -> int:
        """Entries of the right operand."""
        return self.contracted * self.rows

    @property
    def n_words(self) -> int:
        """Entries of the result."""
        return self.columns * self.rows


@dataclass(frozen=True)
class Product:
    """A matrix-vector product that a step computes once for each of `gates`.

    Attributes:
        rows, cols: shape of one gate's kernel.
        padded_rows, padded_cols: the same in whole blocks.
        row_macs: multiply-accumulates of one output, padding included.
        n_words, index_bits: stored weights and position memory of all gates, padding included.
        word_length: bits of a weight.
        block_size: side of the circulant blocks; 1 where there are none.
        level1_block, level2_block: sides of the coarse-grain blocks; None where there are none.
        one_hot: whether its input is a token.
        misfit: why the structure cannot hold the kernel; the counts then are those of sizes that can.
        steps: of the contraction with a tensor kernel, in their order.
    """

    structure: str
    number_format: str
    gates: int
    rows: int
    cols: int
    padded_rows: int
    padded_cols: int
    row_macs: int
    n_words: int
    index_bits: int
    word_length: int
    block_size: int = 1
    level1_block: int | None = None
    level2_block: int | None = None
    one_hot: bool = False
    misfit: str | None = None
    steps: tuple[Contraction, ...] = ()

    @property
    def columns(self) -> int:
        """Columns that a step streams past each row, of `row_macs` stored ones."""
        return self.block_size if self.one_hot and self.level1_block is None else self.row_macs

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all gates, time-domain, padding included."""
        return self.gates * self.padded_rows * self.columns

    @property
    def largest_block(self) -> int:
        """The side to which the kernel is padded."""
        return self.level1_block or self.block_size


@dataclass(frozen=True)
class Layer:
    """One recurrent layer; the element-wise counts are those of one step.

    `n_biases` are all constants of a step that are no weights: biases, peepholes, scales and shifts.
    Memory holds `n_bias_sets` sets of them.
    """

    input_kernel: Product
    recurrent_kernel: Product
    projection: Product | None
    n_biases: int
    bias_bits: int
    multiplications: int
    additions: int
    lookups: int
    n_bias_sets: int = 1

    @property
    def kernels(self) -> tuple[Product, ...]:
        """In the order of use."""
        projection = () if self.projection is None else (self.projection,)
        return (self.input_kernel, self.recurrent_kernel, *projection)

    @property
    def stored_biases(self) -> int:
        """Words of all sets."""
        return self.n_biases * self.n_bias_sets


@dataclass(frozen=True)
class Workload:
    """One time step of a network.

    Attributes:
        activation_bits: word length of x, h and the gate outputs.
        embedding: entries of the vector that stands for a token, 0 where there is none.
        embedding_words, embedding_word_length: stored words of the table, and their bits.
        function: kind of the activation function.
        segments: of the activation function; None where it has none.
        peephole: whether the gates see c.
        batch_norm: kind of the normalisation in the cell, "none" where there is none.
        contradiction: why no such network exists; None for all others.
        skips_state: whether small state entries are zeroed, so that hardware may skip them.
        activity: measured zeros of the state; None before training.
    """

    cell: str
    hidden: int
    layers: tuple[Layer, ...]
    head: Product
    head_bias_bits: int
    activation_bits: int
    activation_format: str
    segments: int | None
    skips_state: bool
    activity: Activity | None
    embedding: int = 0
    embedding_words: int = 0
    embedding_word_length: int = 0
    function: str = "piecewise_linear"
    batch_norm: str = "none"
    peephole: bool = False
    contradiction: str | None = None

    @cached_property
    def storage(self) -> dict[str, int]:
        """Bits of the whole model by what they store, padding included."""
        kernels = [kernel for layer in self.layers for kernel in layer.kernels]
        projections = [layer.projection for layer in self.layers if layer.projection is not None]
        return {
            "input_kernel": sum(_bits(layer.input_kernel) for layer in self.layers),
            "recurrent_kernel": sum(_bits(layer.recurrent_kernel) for layer in self.layers),
            "indices": sum(kernel.index_bits for kernel in kernels),
            "biases": sum(layer.stored_biases * layer.bias_bits for layer in self.layers),
            "head": _bits(self.head) + self.head.rows * self.head_bias_bits,
            **({"projection": sum(map(_bits, projections))} if projections else {}),
            **({"embedding": self.embedding_words * self.embedding_word_length} if self.embedding else {}),
        }

    @property
    def storage_bits(self) -> int:
        """Bits of the whole model: weights, indices, biases, head."""
        return sum(self.storage.values())

    @property
    def products(self) -> tuple[Product, ...]:
        """All kernels, layer by layer, then the head."""
        return (*(kernel for layer in self.layers for kernel in layer.kernels), self.head)

    @property
    def gate_kernels(self) -> dict[str, list[Product]]:
        """Input and recurrent kernels of all layers."""
        return {
            "input_kernel": [layer.input_kernel for layer in self.layers],
            "recurrent_kernel": [layer.recurrent_kernel for layer in self.layers],
        }

    @property
    def largest_block(self) -> int:
        """The largest block a layer of this height may have: `hidden` rounded up to a power of two."""
        return 1 << (self.hidden - 1).bit_length()

    @property
    def oversized_block(self) -> int | None:
        """A block larger than the layer, if there is one; no accelerator runs such a network."""
        block = max(product.largest_block for product in self.products)
        return block if block > self.largest_block else None


def workload(network: Network, shape: TaskShape, activity: Activity | None = None) -> Workload:
    """Count one time step of `network` on a task of the given shape.

    Example:
        >>> workload(Network(cell="lstm", hidden=64), TaskShape(16, 10)).storage["input_kernel"]
        32768
    """
    for name, value in (("n_inputs", shape.n_inputs), ("n_outputs", shape.n_outputs)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    if network.embedding and not shape.tokens:
        raise InputError("network.embedding must be 0 for a task whose inputs are no tokens")
    if activity is not None:
        _check_activity(activity, network)
    hidden, function = network.hidden, network.activation_function
    head = Kernel(weights=network.head_weights)
    width, one_hot = network.embedding or shape.n_inputs, shape.tokens and not network.embedding
    layers = tuple(_layer(network, network.state if i else width, i == 0 and one_hot) for i in range(network.layers))
    misfits = (kernel.misfit for layer in layers for kernel in layer.kernels if kernel.misfit)
    return Workload(
        cell=network.cell,
        hidden=hidden,
        layers=layers,
        head=_product(head, 1, shape.n_outputs, network.state),
        head_bias_bits=_bias_bits(head),
        activation_bits=network.activations.word_length,
        activation_format=network.activations.kind,
        segments=function.segments if isinstance(function, PiecewiseLinear) else None,
        skips_state=network.state_threshold > 0,
        activity=activity,
        embedding=network.embedding,
        embedding_words=shape.n_inputs * network.embedding,
        embedding_word_length=network.embedding_weights.word_length,
        function=function.kind,
        batch_norm=network.batch_norm.kind,
        peephole=network.peephole,
        contradiction=network.contradiction or next(misfits, None),
    )


def _layer(network: Network, cols: int, one_hot: bool) -> Layer:
    cell, hidden, gates = network.cell, network.hidden, GATES[network.cell]
    projection = _product(network.projection_kernel, 1, network.projection, hidden) if network.projection else None
    peepholes = 3 * network.peephole
    normalised = network.batch_norm.kind != "none"
    of_c = normalised and cell == "lstm"
    return Layer(
        input_kernel=_product(network.input_kernel, gates, hidden, cols, one_hot),
        recurrent_kernel=_product(network.recurrent_kernel, gates, hidden, network.state),
        projection=projection,
        n_biases=(_BIASES[cell] + peepholes + 2 * gates * normalised + 2 * of_c) * hidden,
        bias_bits=_bias_bits(network.input_kernel),
        multiplications=(_MULTIPLICATIONS[cell] + peepholes + 2 * gates * normalised + of_c) * hidden,
        additions=(_ADDITIONS[cell] + peepholes + of_c) * hidden,
        lookups=_LOOKUPS[cell] * hidden,
        n_bias_sets=network.batch_norm.steps if isinstance(network.batch_norm, PerStep) else 1,
    )


def _product(kernel: Kernel, gates: int, rows: int, cols: int, one_hot: bool = False) -> Product:
    structure = kernel.structure
    if isinstance(structure, TensorStructure):
        return _tensor_product(structure, kernel, gates, rows, cols)
    counts = structure.counts(rows, cols)
    block_size, level1_block, level2_block = _blocks(structure)
    return Product(
        structure=structure.kind,
        number_format=kernel.weights.kind,
        gates=gates,
        rows=rows,
        cols=cols,
        padded_rows=counts.n_rows,
        padded_cols=pad(cols, level1_block or block_size),
        row_macs=counts.row_macs,
        n_words=gates * counts.n_words,
        index_bits=gates * counts.index_bits,
        word_length=kernel.weights.word_length,
        block_size=block_size,
        level1_block=level1_block,
        level2_block=level2_block,
        one_hot=one_hot,
    )


def _tensor_product(structure: TensorStructure, kernel: Kernel, gates: int, rows: int, cols: int) -> Product:
    """All gates share the factors; the multiplications of one product are spread over its rows."""
    misfit = None
    try:
        counts = structure.counts(gates, rows, cols)
    except InputError as error:
        misfit = str(error)
        structure = structure.model_copy(update={"row_modes": "", "col_modes": ""})
        counts = structure.counts(gates, rows, cols)
    return Product(
        structure=structure.kind,
        number_format=kernel.weights.kind,
        gates=gates,
        rows=rows,
        cols=cols,
        padded_rows=rows,
        padded_cols=cols,
        row_macs=-(-counts.macs // (gates * rows)),
        n_words=counts.n_words,
        index_bits=0,
        word_length=kernel.weights.word_length,
        misfit=misfit,
        steps=contractions(structure.network(gates, rows, cols)),
    )


def contractions(network: TensorNetwork, path: Path | None = None) -> tuple[Contraction, ...]:
    """The steps of a product with one input along `path` (the cheapest if None)."""
    found: list[Contraction] = []
    written: tuple[str, str] | None = None  # columns and rows of the last result that the input has entered
    for step in network.steps(path=path):
        left, right = step.equation.replace("...", "").partition("->")[0].split(",")
        shared = "".join(index for index in left if index in right)
        columns, rows = (
            "".join(index for index in side if index not in shared and network.sizes[index] > 1)
            for side in (left, right)
        )
        gather = _gather(network, *written, shared) if written else None
        n_columns, contracted, n_rows = (network.volume(indices) for indices in (columns, shared, rows))
        found.append(Contraction(n_columns, contracted, n_rows, step.from_input, gather if step.from_input else None))
        written = (columns, rows) if step.from_input else written
    return tuple(found)


def _gather(network: TensorNetwork, columns: str, rows: str, shared: str) -> Gather:
    """The reads of a step that sums over `shared` of a result whose last indices run fastest."""
    summed = [place for place, index in enumerate(columns) if index in shared]
    first, after = (summed[0], summed[-1] + 1) if summed else (0, 0)
    inner = network.volume(columns[after:])
    kept = network.volume("".join(index for index in columns if index not in shared))
    return Gather(
        outer=kept // inner,
        inner=inner,
        stride=network.volume(columns[first:]) if len(summed) == after - first else 0,
        rows=network.volume("".join(index for index in rows if index not in shared)),
    )


def _blocks(structure: Structure) -> tuple[int, int | None, int | None]:
    """Circulant block, coarse-grain level-1 block, coarse-grain level-2 block."""
    if isinstance(structure, BlockCirculant):
        return structure.block_size, None, None
    if isinstance(structure, CoarseGrain):
        return 1, structure.level1_block, structure.level2_block
    return 1, None, None


def _bits(product: Product) -> int:
    return product.n_words * product.word_length


def _bias_bits(kernel: Kernel) -> int:
    return FLOAT_BIAS_BITS if kernel.weights.kind == "float" else FIXED_BIAS_BITS


def _check_activity(activity: Activity, network: Network) -> None:
    """Histograms must fit the network; a wrong one would silently shift every cost."""
    if len(activity) != network.layers:
        raise InputError(f"activity must have {network.layers} entries, one a layer, got {len(activity)}")
    for streams, block, shares in (
        (streams, block, shares)
        for layer in activity
        for streams, histograms in layer.items()
        for block, shares in histograms.items()
    ):
        where, wanted = f"activity, batch {streams}, block size {block}", pad(network.state, block) // block + 1
        if len(shares) != wanted:
            raise InputError(f"{where}: needs {wanted} shares, got {len(shares)}")
        if min(shares) < 0 or not np.isclose(sum(shares), 1.0, atol=1e-6):
            raise InputError(f"{where}: shares must sum to 1, got {sum(shares):g}")
