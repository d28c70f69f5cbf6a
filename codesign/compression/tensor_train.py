"""Tensor-train (TT) kernels: a chain of cores, one for each mode; the gates are part of the first.

    W[g, i1..id, j1..jd] = sum over r1..r(d-1) of
        G1[g, i1, j1, r1] * G2[r1, i2, j2, r2] * ... * Gd[r(d-1), id, jd]

so r_(k-1) m_k n_k r_k words are in core k, and `gates` times as many in the first. TIE contracts the
input with Gd, ..., G1 ("compact scheme": each core is read once), which takes
sum_k r_(k-1) m_k n_k r_k * n_1..n_(k-1) * m_(k+1)..m_d multiplications.

References:
    Oseledets, "Tensor-Train Decomposition", SIAM J. Sci. Comput. 2011.
    Yang, Krompass, Tresp, "Tensor-Train Recurrent Neural Networks for Video Classification",
        ICML 2017 (TT-LSTM; all gates in one train).
    Deng et al., "TIE: Energy-Efficient Tensor Train-Based Inference Engine for Deep Neural
        Network", ISCA 2019.
"""

from typing import Literal

from pydantic import Field

from codesign.compression.tensor import COLS, GATE, RANKS, ROWS, TensorStructure


class TensorTrain(TensorStructure):
    """A chain of cores over the modes, all ranks alike."""

    kind: Literal["tensor_train"] = "tensor_train"
    rank: int = Field(default=4, ge=1)

    def graph(self) -> tuple[tuple[str, ...], dict[str, int]]:
        """Core k as (rank before, row mode, column mode, rank after)."""
        ranks = RANKS[: self.modes - 1]
        before, after = GATE + ranks, [*ranks, ""]
        factors = tuple(before[k] + ROWS[k] + COLS[k] + after[k] for k in range(self.modes))
        return factors, dict.fromkeys(ranks, self.rank)
