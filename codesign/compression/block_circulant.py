"""Block-circulant kernels: each k x k block is circulant and stored as its first column.

    W[i, j] = w[(i - j) mod k]   within a block, so   W @ x = irfft(rfft(w) * rfft(x))

The generator is the first *column*; Wang et al. and the code of E-RNN's authors write the transpose
(w[(j - i) mod k], first row). Block size 1 is a dense kernel, a block as large as the matrix Wang's
circulant one.

References:
    Wang, Lin, Wang, "Accelerating Recurrent Neural Networks: A Memory-Efficient Approach",
        IEEE TVLSI 2017 (circulant).
    Wang et al., "C-LSTM", FPGA 2018; Li et al., "E-RNN", HPCA 2019 (block-circulant; FFT and IFFT
        moved out of the double sum over blocks).
"""

from typing import Literal

import numpy as np

from codesign.compression.structure import Array, BlockSize, Counts, Layout, Structure, pad


class BlockCirculant(Structure):
    """Circulant blocks of side `block_size`; both sides of the kernel are padded to whole blocks."""

    kind: Literal["block_circulant"] = "block_circulant"
    block_size: BlockSize

    def layout(self, rows: int, cols: int, seed: int = 0) -> Layout:
        """Word of element (i, j): its block's generator, at (i - j) mod k."""
        k = self.block_size
        block_cols = pad(cols, k) // k
        i, j = np.arange(rows)[:, None], np.arange(cols)[None, :]
        ids = ((i // k) * block_cols + j // k) * k + (i - j) % k
        return Layout(ids.astype(np.int32), np.ones((rows, cols), bool), self.counts(rows, cols).n_words)

    def counts(self, rows: int, cols: int) -> Counts:
        """p * q * k words for p x q blocks; the time-domain product saves no multiplication."""
        rows, cols = pad(rows, self.block_size), pad(cols, self.block_size)
        return Counts(n_words=rows * cols // self.block_size, index_bits=0, row_macs=cols, n_rows=rows)

    def matvec(self, words: Array, x: Array, rows: int, seed: int = 0) -> Array:
        """y_i = IFFT( sum_j FFT(w_ij) * FFT(x_j) ): q forward and p inverse transforms in all."""
        k = self.block_size
        x_blocks = np.zeros(pad(len(x), k))
        x_blocks[: len(x)] = x
        w_spectra = np.fft.rfft(words.reshape(-1, len(x_blocks) // k, k))
        x_spectra = np.fft.rfft(x_blocks.reshape(-1, k))
        return np.fft.irfft((w_spectra * x_spectra).sum(1), k).reshape(-1)[:rows]
