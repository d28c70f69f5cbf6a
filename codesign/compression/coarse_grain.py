"""Hierarchical coarse-grain sparsity (HCGS): blocks, and blocks within them, dropped at random.

    M = M1 * M2,   W = M * W

Level 1 cuts the kernel into B1 x B1 blocks and keeps the same number of them, drawn at random, in
every row of blocks. Level 2 cuts every kept block into B2 x B2 blocks and again keeps the same
number in every row of sub-blocks. The draw is made once, before training, and never changes; equal
counts per row give every output the same number of multiplications. Equal counts and the rounding
up of a fractional count are our reading of the papers, which print no block sizes.

References:
    Kadetotad et al., "A 8.93 TOPS/W LSTM recurrent neural network accelerator featuring
        hierarchical coarse-grain sparsity", ESSCIRC 2019 / JSSC 2020; "Compressing LSTM networks
        with hierarchical coarse-grain sparsity", INTERSPEECH 2020.
"""

from math import ceil, log2
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from codesign.compression.structure import Array, BlockSize, Counts, Layout, Structure, pad

KeepRatio = Annotated[float, Field(gt=0.0, le=1.0)]


class CoarseGrain(Structure):
    """Two levels of random static block sparsity; compression is about 1 / (keep1 * keep2)."""

    kind: Literal["coarse_grain"] = "coarse_grain"
    level1_block: BlockSize
    level1_keep: KeepRatio
    level2_block: BlockSize
    level2_keep: KeepRatio

    @model_validator(mode="after")
    def _blocks_nest(self) -> Self:
        if self.level2_block > self.level1_block:
            raise ValueError(
                f"level2_block must not exceed level1_block ({self.level1_block}), "
                f"got {self.level2_block}; use a smaller level2_block"
            )
        return self

    def _kept(self, cols: int) -> tuple[int, int, int, int]:
        """Level-1 blocks in a row and those kept; level-2 blocks in a block's row and those kept."""
        n1, n2 = pad(cols, self.level1_block) // self.level1_block, self.level1_block // self.level2_block
        return n1, ceil(self.level1_keep * n1 - 1e-9), n2, ceil(self.level2_keep * n2 - 1e-9)

    def kept_columns(self, rows: int, cols: int, seed: int = 0) -> NDArray[np.int32]:
        """Columns that each row of level-2 blocks reads, ascending: (padded rows / B2, row_macs)."""
        n1, k1, n2, k2 = self._kept(cols)
        b1, b2 = self.level1_block, self.level2_block
        rng = np.random.default_rng(seed)
        chosen = []
        for _ in range(pad(rows, b1) // b1):
            blocks = np.sort(rng.choice(n1, k1, replace=False))
            for _ in range(b1 // b2):
                subs = np.stack([np.sort(rng.choice(n2, k2, replace=False)) for _ in blocks])
                starts = (blocks[:, None] * b1 + subs * b2).reshape(-1, 1)
                chosen.append((starts + np.arange(b2)).reshape(-1))
        return np.stack(chosen).astype(np.int32)

    def layout(self, rows: int, cols: int, seed: int = 0) -> Layout:
        """Words row by row, within a row by ascending column."""
        columns = np.repeat(self.kept_columns(rows, cols, seed), self.level2_block, axis=0)
        padded_rows, row_macs = columns.shape
        ids = np.zeros((padded_rows, pad(cols, self.level1_block)), np.int32)
        mask = np.zeros(ids.shape, bool)
        row = np.arange(padded_rows)[:, None]
        ids[row, columns] = row * row_macs + np.arange(row_macs)
        mask[row, columns] = True
        return Layout(ids[:rows, :cols], mask[:rows, :cols], padded_rows * row_macs)

    def counts(self, rows: int, cols: int) -> Counts:
        """Kept words; log2(n1) bits per kept block and log2(n2) per kept sub-block, none where all are kept."""
        n1, k1, n2, k2 = self._kept(cols)
        rows = pad(rows, self.level1_block)
        row_macs = k1 * k2 * self.level2_block
        level1_bits = rows // self.level1_block * k1 * (ceil(log2(n1)) if k1 < n1 else 0)
        level2_bits = rows // self.level2_block * k1 * k2 * (ceil(log2(n2)) if k2 < n2 else 0)
        return Counts(n_words=rows * row_macs, index_bits=level1_bits + level2_bits, row_macs=row_macs, n_rows=rows)

    def matvec(self, words: Array, x: Array, rows: int, seed: int = 0) -> Array:
        """Each row of sub-blocks gathers its columns once and multiplies what it keeps."""
        columns = self.kept_columns(rows, len(x), seed)
        x_padded = np.zeros(pad(len(x), self.level1_block))
        x_padded[: len(x)] = x
        blocks = words.reshape(len(columns), self.level2_block, -1)
        return np.asarray(np.einsum("gbn,gn->gb", blocks, x_padded[columns]).reshape(-1)[:rows])
