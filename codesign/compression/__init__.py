"""Kernel structures, one to a file. To add one: its file, a line in `STRUCTURES`, a golden test."""

from codesign.compression.block_circulant import BlockCirculant
from codesign.compression.coarse_grain import CoarseGrain
from codesign.compression.dense import Dense
from codesign.compression.structure import Counts, Layout, Structure

STRUCTURES: dict[str, type[Structure]] = {
    "dense": Dense,
    "block_circulant": BlockCirculant,
    "coarse_grain": CoarseGrain,
}

__all__ = ["STRUCTURES", "BlockCirculant", "CoarseGrain", "Counts", "Dense", "Layout", "Structure"]
