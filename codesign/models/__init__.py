"""Flax models: cells, layers and heads with compressed kernels."""

from codesign.models.kernel import CompressedKernel, Traced
from codesign.models.recurrent import RecurrentNetwork

__all__ = ["CompressedKernel", "RecurrentNetwork", "Traced"]
