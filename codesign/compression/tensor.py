"""What tensor structures share: all gates of a kernel are one network of small factors, multiplied.

Rows and columns are cut into d modes each, i = (i_1 .. i_d) and j = (j_1 .. j_d), the last fastest:

    W[g, i, j] = sum over the ranks of  F_1[...] * F_2[...] * ... * F_K[...]

where each factor has some of the indices g, i_k, j_k, and the ranks join the factors into a tree. A
structure is *data* here too: it says only which indices each factor has (`graph`). Product, counts,
initial words and decomposition follow from that. The product never builds W: it contracts the
factors and the input two by two, in the cheapest order, which is searched over all orders without
outer products (those could help only beside a rank of 1, by a tenth). Where sizes do not
multiply up to the kernel's, the kernel is padded: rows beyond it are dropped, inputs beyond it zero.

`project` splits off one factor after the other, leaves first, by a truncated SVD of what is left.
Each step is an orthogonal projection within the range of those before it, so squared errors add up,
and none exceeds that of the best member: the whole error is at most sqrt(number of ranks) times the
best. (The best itself is out of reach: to find it is NP-hard even where all ranks are 1.)

References:
    Oseledets, "Tensor-Train Decomposition", SIAM J. Sci. Comput. 2011 (TT-SVD).
    Grasedyck, "Hierarchical Singular Value Decomposition of Tensors", SIAM J. Matrix Anal. Appl. 2010.
    Pfeifer, Haegeman, Verstraete, "Faster identification of optimal contraction sequences for
        tensor networks", Phys. Rev. E 2014 (the order; here as opt_einsum has it).
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from math import prod, sqrt
from string import ascii_lowercase, ascii_uppercase
from typing import Annotated, Self, TypeVar

import numpy as np
from opt_einsum.paths import DynamicProgramming  # type: ignore[import-untyped]
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from codesign.compression.structure import Array
from codesign.errors import InputError

MAX_MODES = 10  # with more, the search for the cheapest order takes seconds
COLS, ROWS, GATE = ascii_lowercase[:MAX_MODES], ascii_uppercase[:MAX_MODES], "Z"
RANKS = (ascii_lowercase[MAX_MODES:] + ascii_uppercase[MAX_MODES:-1])[::-1]

Tensor = TypeVar("Tensor")
Path = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Step:
    """Two operands contracted into one.

    Attributes:
        places: of the two among the operands left; both are removed, the result is appended.
        equation: for einsum; "..." stands for the batch in what depends on the input.
        macs: multiply-accumulates.
        n_words: size of the result.
        from_input: whether the result depends on the input; others change only with the words.
    """

    places: tuple[int, int]
    equation: str
    macs: int
    n_words: int
    from_input: bool


def contract(
    steps: Sequence[Step], operands: Sequence[Tensor], einsum: Callable[[str, Tensor, Tensor], Tensor]
) -> Tensor:
    """What the steps make of the factors and the input, which is the last operand: (..., gates, row modes)."""
    left = list(operands)
    for step in steps:
        pair = [left[place] for place in step.places]
        left = [operand for place, operand in enumerate(left) if place not in step.places]
        left.append(einsum(step.equation, *pair))
    return left[0]


@dataclass(frozen=True)
class TensorCounts:
    """What the kernel of all gates stores, and what one product with it takes.

    Attributes:
        n_words: stored weights.
        macs: multiply-accumulates in the cheapest order.
        intermediate_words: size of the largest result of a step.
    """

    n_words: int
    macs: int
    intermediate_words: int


@dataclass(frozen=True)
class TensorNetwork:
    """A kernel as factors: one letter an index, and the size of each.

    Attributes:
        factors: the indices of each factor; the first is the root, each other one hangs on an earlier one.
        inputs: the indices of the input, its modes.
        outputs: the indices of the output: the gate, then the row modes.
        sizes: of every index, padding included.
    """

    factors: tuple[str, ...]
    inputs: str
    outputs: str
    sizes: Mapping[str, int]

    def __hash__(self) -> int:
        """Of all sizes too: a network is static data of a compiled program."""
        return hash((self.factors, self.inputs, self.outputs, tuple(sorted(self.sizes.items()))))

    def shape(self, indices: str) -> tuple[int, ...]:
        """The sizes of some indices."""
        return tuple(self.sizes[index] for index in indices)

    def volume(self, indices: str) -> int:
        """How many elements some indices run over."""
        return prod(self.shape(indices))

    @property
    def ranks(self) -> str:
        """The indices that are summed within the kernel."""
        return "".join(sorted(set("".join(self.factors)) - set(self.inputs + self.outputs)))

    @property
    def n_words(self) -> int:
        """Stored words of all factors."""
        return sum(map(self.volume, self.factors))

    def split(self, words: Array) -> list[Array]:
        """The factors as views of their words, which stand one factor after the other, each in C order."""
        ends = np.cumsum([self.volume(factor) for factor in self.factors])
        return [
            part.reshape(self.shape(factor))
            for part, factor in zip(np.split(words, ends[:-1]), self.factors, strict=True)
        ]

    def path(self, batch: int = 1) -> Path:
        """The order of contraction with the fewest multiplications, as pairs of places (see `Step`)."""
        sizes = tuple(sorted(self.sizes.items()))
        return _cheapest_path((*self.factors, self.inputs), self.outputs, sizes, batch)

    def steps(self, batch: int = 1, path: Path | None = None) -> tuple[Step, ...]:
        """The product with `batch` inputs at once, step by step along `path` (the cheapest if None).

        Steps before which no input has entered are counted once a batch.
        """
        left = [(factor, False) for factor in self.factors] + [(self.inputs, True)]
        steps = []
        for places in self.path(batch) if path is None else path:
            first, second = sorted(places, key=lambda place: not left[place][1])  # the input's side stands first
            (a, from_input), (b, _) = left[first], left[second]
            left = [item for place, item in enumerate(left) if place not in places]
            needed = set(self.outputs).union(*(indices for indices, _ in left))
            both = "".join(dict.fromkeys(a + b))
            result = "".join(index for index in both if index in needed) if left else self.outputs
            dots, times = ("...", batch) if from_input else ("", 1)
            macs, n_words = times * self.volume(both), times * self.volume(result)
            steps.append(Step((first, second), f"{dots}{a},{b}->{dots}{result}", macs, n_words, from_input))
            left.append((result, from_input))
        return tuple(steps)


@lru_cache(maxsize=1024)
def _cheapest_path(terms: tuple[str, ...], outputs: str, sizes: tuple[tuple[str, int], ...], batch: int) -> Path:
    many = "batch"  # an index of the input and of the output
    operands = [frozenset(term) for term in terms[:-1]] + [frozenset([*terms[-1], many])]
    search = DynamicProgramming(minimize="flops")  # counts multiplications: the volume of all indices of a step
    pairs = search(operands, frozenset([*outputs, many]), dict(sizes) | {many: batch})
    return tuple((first, second) for first, second in pairs)


def parse_sizes(text: str) -> tuple[int, ...]:
    """The numbers of "8x20x20x18".

    >>> parse_sizes("8x20x20x18"), parse_sizes("")
    ((8, 20, 20, 18), ())
    """
    return tuple(map(int, text.split("x"))) if text else ()


def check_length(name: str, text: str, wanted: int) -> None:
    """Refuse sizes that are given and are not as many as wanted."""
    if text and len(parse_sizes(text)) != wanted:
        raise ValueError(f"{name} must have {wanted} sizes, got {len(parse_sizes(text))} in '{text}'")


def _sizes_between_x(text: str) -> str:
    if not re.fullmatch(r"([1-9][0-9]*(x[1-9][0-9]*)*)?", text):
        raise ValueError(f"must be sizes with x between them such as 4x8x8, got '{text}'")
    return text


Sizes = Annotated[str, AfterValidator(_sizes_between_x)]
"""Whole numbers above zero such as "4x8x8", or nothing."""


class TensorStructure(BaseModel, ABC):
    """A family of kernels that are trees of small factors. Final classes stand one to a file.

    `row_modes` and `col_modes` give sizes such as "4x4x4x4"; empty ones are chosen by `fold`, the rows
    descending and the columns ascending, which makes the sum of the products of both smallest. A rank
    that exceeds what the factors at its ends can use is cut to that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    modes: int = Field(default=4, ge=2, le=MAX_MODES)
    row_modes: Sizes = ""
    col_modes: Sizes = ""

    @model_validator(mode="after")
    def _a_size_for_each_mode(self) -> Self:
        for name in ("row_modes", "col_modes"):
            check_length(name, getattr(self, name), self.modes)
        return self

    @abstractmethod
    def graph(self) -> tuple[tuple[str, ...], dict[str, int]]:
        """The indices of each factor, in the order of `TensorNetwork.factors`, and the wanted size of each rank.

        Row mode k is `ROWS[k]`, column mode k `COLS[k]`, the gate `GATE`, and ranks are of `RANKS`.
        """

    def network(self, gates: int, rows: int, cols: int) -> TensorNetwork:
        """The factors of `gates` matrices (rows, cols); InputError if the sizes given are too small."""
        factors, ranks = self.graph()
        row_sizes = self._sizes("row_modes", rows) or fold(rows, self.modes)[::-1]
        col_sizes = self._sizes("col_modes", cols) or fold(cols, self.modes)
        sizes = {GATE: gates, **dict(zip(ROWS, row_sizes, strict=False)), **dict(zip(COLS, col_sizes, strict=False))}
        sizes = cut_ranks(factors, sizes, ranks)
        return TensorNetwork(factors, COLS[: self.modes], GATE + ROWS[: self.modes], sizes)

    def _sizes(self, name: str, wanted: int) -> tuple[int, ...]:
        sizes = parse_sizes(getattr(self, name))
        if sizes and prod(sizes) < wanted:
            raise InputError(
                f"{self.kind}.{name} must multiply up to at least {wanted}, got '{getattr(self, name)}' = "
                f"{prod(sizes)}; use larger sizes, or leave {name} out"
            )
        return sizes

    def counts(self, gates: int, rows: int, cols: int) -> TensorCounts:
        """Stored words, and the operations of one product."""
        network = self.network(gates, rows, cols)
        steps = network.steps()
        return TensorCounts(network.n_words, sum(step.macs for step in steps), max(step.n_words for step in steps))

    def bound(self, gates: int, rows: int, cols: int, gain: float = 1.0) -> float:
        """Initial words are uniform in +-bound: an output then has variance gain times the mean square of its input.

        An element of W is a sum over all ranks of products of K words, so its variance is
        (product of the ranks) * (variance of a word)^K, and it must be gain / cols. All factors take an
        equal share: one scale quantizes all words, and a step of Adam, equal for all words, then
        changes each factor by the same proportion.
        """
        network = self.network(gates, rows, cols)
        variance = gain / cols / network.volume(network.ranks)
        return sqrt(3 * variance ** (1 / len(network.factors)))

    def matvec(self, words: Array, x: Array, gates: int, rows: int) -> Array:
        """W @ x without building W: (cols,) -> (gates * rows,), gate after gate."""
        network = self.network(gates, rows, len(x))
        padded = np.zeros(network.volume(network.inputs))
        padded[: len(x)] = x
        operands = [*network.split(words), padded.reshape(network.shape(network.inputs))]
        product = contract(network.steps(), operands, lambda equation, a, b: np.einsum(equation, a, b, optimize=True))
        return product.reshape(gates, -1)[:, :rows].reshape(-1)

    def to_dense(self, words: Array, gates: int, rows: int, cols: int) -> Array:
        """The kernel (gates * rows, cols) itself, by its definition."""
        network = self.network(gates, rows, cols)
        equation = ",".join(network.factors) + "->" + network.outputs + network.inputs
        kernel = np.einsum(equation, *network.split(words), optimize=True)
        kernel = kernel.reshape(gates, -1, network.volume(network.inputs))
        return np.ascontiguousarray(kernel[:, :rows, :cols]).reshape(gates * rows, cols)

    def project(self, dense: Array, gates: int) -> Array:
        """Words of a quasi-optimal member: at most sqrt(number of ranks) times as far as the nearest one.

        A member comes back as it is, up to rounding, unless it was padded: the padding counts as zeros
        that are to be met. The words are balanced: all factors get the same mean square.
        """
        rows, cols = len(dense) // gates, dense.shape[1]
        network = self.network(gates, rows, cols)
        padded = np.zeros((gates, network.volume(network.outputs[1:]), network.volume(network.inputs)))
        padded[:, :rows, :cols] = dense.reshape(gates, rows, cols)
        left, rest = network.outputs + network.inputs, padded.reshape(network.shape(network.outputs + network.inputs))
        found = []
        for place in range(len(network.factors) - 1, 0, -1):
            factor = network.factors[place]
            rank = next(index for index in factor if index in "".join(network.factors[:place]))
            own = factor.replace(rank, "")
            others = "".join(index for index in left if index not in own)
            matrix = np.einsum(f"{left}->{own}{others}", rest).reshape(network.volume(own), -1)
            u, s, vh = np.linalg.svd(matrix, full_matrices=False)
            u, s, vh = u[:, : network.sizes[rank]], s[: network.sizes[rank]], vh[: network.sizes[rank]]
            found.append(np.einsum(f"{own}{rank}->{factor}", u.reshape(network.shape(own + rank))))
            left, rest = rank + others, (s[:, None] * vh).reshape(network.shape(rank + others))
        found.append(np.einsum(f"{left}->{network.factors[0]}", rest))
        levels = np.array([np.sqrt(np.mean(factor**2)) for factor in found])
        scales = np.exp(np.mean(np.log(levels))) / levels if levels.all() else np.ones(len(found))
        return np.concatenate([scale * factor.reshape(-1) for scale, factor in zip(scales, found, strict=True)][::-1])


def cut_ranks(factors: Sequence[str], sizes: Mapping[str, int], ranks: Mapping[str, int]) -> dict[str, int]:
    """All sizes, each rank at most the product of the other sizes of any factor that has it.

    >>> cut_ranks(["zy", "Aaz", "Bby"], {"A": 2, "a": 2, "B": 3, "b": 3}, {"z": 10, "y": 10})
    {'A': 2, 'a': 2, 'B': 3, 'b': 3, 'z': 4, 'y': 4}
    """
    cut = {**sizes, **ranks}
    while True:
        before = dict(cut)
        for factor in factors:
            for rank in set(factor) & ranks.keys():
                cut[rank] = min(cut[rank], prod(cut[index] for index in factor if index != rank))
        if cut == before:
            return cut


@lru_cache(maxsize=1024)
def fold(size: int, n: int) -> tuple[int, ...]:
    """`n` ascending modes whose product is the first number from `size` on that factorises well.

    Well: the sum of the modes is at most 15 % above n * product^(1/n), that of equal ones.

    >>> fold(57600, 4), fold(256, 4), fold(39, 4), fold(39, 2)
    ((15, 15, 16, 16), (4, 4, 4, 4), (2, 2, 2, 5), (5, 8))
    """
    return next(
        modes
        for padded in count(size)
        for modes in [min(_factorisations(padded, n, 1), key=sum)]
        if sum(modes) <= 1.15 * n * padded ** (1 / n)
    )


def _factorisations(product: int, n: int, least: int) -> Iterator[tuple[int, ...]]:
    """All ascending tuples of `n` numbers from `least` on that multiply up to `product`."""
    if n == 1:
        yield (product,)
        return
    for mode in range(least, int(product ** (1 / n) + 1e-9) + 1):
        if product % mode == 0:
            for modes in _factorisations(product // mode, n - 1, mode):
                yield (mode, *modes)
