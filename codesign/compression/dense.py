"""Dense kernels: every element is a word of its own, stored row by row."""

from typing import Literal

import numpy as np

from codesign.compression.structure import Array, Counts, Layout, Structure


class Dense(Structure):
    """No structure; the baseline, and what every other structure is at its trivial setting."""

    kind: Literal["dense"] = "dense"

    def layout(self, rows: int, cols: int, seed: int = 0) -> Layout:
        """ids[i, j] = i * cols + j."""
        ids = np.arange(rows * cols, dtype=np.int32).reshape(rows, cols)
        return Layout(ids, np.ones((rows, cols), bool), rows * cols)

    def counts(self, rows: int, cols: int) -> Counts:
        """rows * cols words, one multiply-accumulate each."""
        return Counts(n_words=rows * cols, index_bits=0, row_macs=cols, n_rows=rows)

    def matvec(self, words: Array, x: Array, rows: int, seed: int = 0) -> Array:
        """W @ x."""
        return words.reshape(rows, -1) @ x
