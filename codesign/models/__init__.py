"""Flax models: cells, layers and heads with compressed kernels."""

from codesign.models.cells import Carry
from codesign.models.kernel import CompressedKernel, Traced
from codesign.models.recurrent import Mode, Pass, RecurrentNetwork

__all__ = ["Carry", "CompressedKernel", "Mode", "Pass", "RecurrentNetwork", "Traced"]
