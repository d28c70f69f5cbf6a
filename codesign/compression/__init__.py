"""Kernel structures, one to a file. To add one: its file, a line in `STRUCTURES`, a golden test.

`STRUCTURES` are words gathered through indices, each gate for itself; `TENSOR_STRUCTURES` are
networks of small factors that all gates of a kernel share.
"""

from codesign.compression.block_circulant import BlockCirculant
from codesign.compression.coarse_grain import CoarseGrain
from codesign.compression.dense import Dense
from codesign.compression.hierarchical_tucker import HierarchicalTucker
from codesign.compression.structure import Counts, Layout, Structure
from codesign.compression.tensor import TensorCounts, TensorNetwork, TensorStructure
from codesign.compression.tensor_train import TensorTrain

STRUCTURES: dict[str, type[Structure]] = {
    "dense": Dense,
    "block_circulant": BlockCirculant,
    "coarse_grain": CoarseGrain,
}

TENSOR_STRUCTURES: dict[str, type[TensorStructure]] = {
    "hierarchical_tucker": HierarchicalTucker,
    "tensor_train": TensorTrain,
}

__all__ = [
    "STRUCTURES",
    "TENSOR_STRUCTURES",
    "BlockCirculant",
    "CoarseGrain",
    "Counts",
    "Dense",
    "HierarchicalTucker",
    "Layout",
    "Structure",
    "TensorCounts",
    "TensorNetwork",
    "TensorStructure",
    "TensorTrain",
]
