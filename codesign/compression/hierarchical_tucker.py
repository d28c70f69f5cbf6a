"""Hierarchical Tucker (HT) kernels: a balanced binary tree of factors whose leaves hold the modes.

For four modes, with one slice of the root for each gate g (all else is shared by the gates):

    W[g, i1..i4, j1..j4] = sum over r1..r4, s, t of
        G[s, t, g] * B12[r1, r2, s] * B34[r3, r4, t] * U1[i1, j1, r1] * U2[i2, j2, r2] * U3[i3, j3, r3] * U4[i4, j4, r4]

so sum_k m_k n_k r_k words are in the leaves, r_left r_right r in an inner node, r_left r_right in the
root for each gate. A node of several modes leaves the larger half of them to its left child.

The cheapest order joins the root with the smaller factors first, and takes about half of what a walk
from the last leaf to the first does (U4, U3, B34, G, B12, U2, U1): 1.97 instead of 3.41 million
multiplications for 57,600 -> 4 x 256 (8x20x20x18 -> 4x4x4x4, all ranks 4).

References:
    Hackbusch, Kuehn, "A New Scheme for the Tensor Representation", J. Fourier Anal. Appl. 2009.
    Yin et al., "Towards Extremely Compact RNNs for Video Recognition with Fully Decomposed
        Hierarchical Tucker Structure", CVPR 2021 (HT for both the input and the recurrent kernel).
    Gong et al., "Algorithm and Hardware Co-Design of Energy-Efficient LSTM Networks for Video
        Recognition with Hierarchical Tucker Tensor Decomposition", IEEE TC 2022 (FDHT-LSTM).
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from codesign.compression.tensor import (
    COLS,
    GATE,
    RANKS,
    ROWS,
    Sizes,
    TensorStructure,
    check_length,
    parse_sizes,
)


class HierarchicalTucker(TensorStructure):
    """A balanced binary tree over the modes.

    `ranks`, if given, stands for `leaf_rank` and `inner_rank`: one rank for each node below the root,
    level by level from left to right ("s x t x r1 x r2 x r3 x r4" in the equation above).
    """

    kind: Literal["hierarchical_tucker"] = "hierarchical_tucker"
    leaf_rank: int = Field(default=4, ge=1)
    inner_rank: int = Field(default=4, ge=1)
    ranks: Sizes = ""

    @model_validator(mode="after")
    def _a_rank_for_each_node(self) -> Self:
        check_length("ranks", self.ranks, 2 * self.modes - 2)
        return self

    def graph(self) -> tuple[tuple[str, ...], dict[str, int]]:
        """Nodes level by level; a node's rank stands last, its children's first."""
        nodes = [(0, self.modes)]
        factors, default_ranks = [], []
        for node, (begin, end) in enumerate(nodes):  # which grows
            above = RANKS[node - 1] if node else GATE
            default_ranks.append(self.inner_rank if end - begin > 1 else self.leaf_rank)
            if end - begin == 1:
                factors.append(ROWS[begin] + COLS[begin] + above)
                continue
            middle = (begin + end + 1) // 2
            factors.append(RANKS[len(nodes) - 1] + RANKS[len(nodes)] + above)
            nodes += [(begin, middle), (middle, end)]
        return tuple(factors), dict(zip(RANKS, parse_sizes(self.ranks) or default_ranks[1:], strict=False))
