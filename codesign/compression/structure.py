"""What all kernel structures share: a kernel is words gathered through indices, times a mask.

A structure is *data*: W = mask * words[ids] (element by element), with `words` the compact vector
that is stored and trained. `to_dense` and `project` therefore need no knowledge of the method; a
method says how its indices run (`layout`), how its product is computed without building W
(`matvec`) and what that costs (`counts`). NumPy only, so that the hardware models can count without
starting jax.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """Where each element of a kernel is stored.

    Attributes:
        ids: (rows, cols) index of the stored word; 0 where the mask is zero.
        mask: (rows, cols) True where the kernel may be non-zero.
        n_words: stored words, those of padding included.
    """

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    n_words: int


@dataclass(frozen=True)
class Counts:
    """What one kernel stores, and what one matrix-vector product with it takes.

    Attributes:
        n_words: stored weights, padding included.
        index_bits: bits of position memory.
        row_macs: multiply-accumulates that one output needs, padding included.
        n_rows: outputs, padding included.
    """

    n_words: int
    index_bits: int
    row_macs: int
    n_rows: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole product, time-domain."""
        return self.row_macs * self.n_rows


class Structure(BaseModel, ABC):
    """A family of matrices with few free words. Final classes stand one to a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str

    @abstractmethod
    def layout(self, rows: int, cols: int, seed: int = 0) -> Layout:
        """Positions of a (rows, cols) kernel; `seed` draws what the method leaves to chance."""

    @abstractmethod
    def counts(self, rows: int, cols: int) -> Counts:
        """Stored words and operations of a (rows, cols) kernel."""

    @abstractmethod
    def matvec(self, words: Array, x: Array, rows: int, seed: int = 0) -> Array:
        """W @ x from the stored words alone, the way an accelerator would: (cols,) -> (rows,)."""

    def to_dense(self, words: Array, rows: int, cols: int, seed: int = 0) -> Array:
        """The kernel (rows, cols) itself, by its definition."""
        layout = self.layout(rows, cols, seed)
        return layout.mask * words[layout.ids]

    def project(self, dense: Array, seed: int = 0) -> Array:
        """Words of the nearest member in the Frobenius norm: the mean over all places of a word."""
        rows, cols = dense.shape
        layout = self.layout(rows, cols, seed)
        where = layout.ids[layout.mask]
        total = np.bincount(where, dense[layout.mask], minlength=layout.n_words)
        return total / np.maximum(1, np.bincount(where, minlength=layout.n_words))


def pad(size: int, block: int) -> int:
    """The next multiple of `block`.

    >>> pad(39, 8)
    40
    """
    return -(-size // block) * block


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError(f"must be a power of two, got {value}; use 1, 2, 4, 8, 16, ...")
    return value


BlockSize = Annotated[int, Field(ge=1), AfterValidator(_power_of_two)]
"""Length of a block's side: 1, 2, 4, ..."""
