"""Accelerator kinds, one to a file. To add one: its file, a line in `ACCELERATORS`, a golden test."""

from codesign.errors import InputError, unknown
from codesign.hardware.accelerators.binary_ternary import BINARY_TERNARY
from codesign.hardware.accelerators.chessboard import CHESSBOARD
from codesign.hardware.accelerators.circulant_fft import CIRCULANT_FFT
from codesign.hardware.accelerators.coarse_grain import COARSE_GRAIN
from codesign.hardware.accelerators.dense import DENSE
from codesign.hardware.accelerators.kind import AcceleratorKind, Settings
from codesign.hardware.accelerators.serial_core import SERIAL_CORE
from codesign.hardware.accelerators.sparse_state import SPARSE_STATE
from codesign.hardware.accelerators.tensor_contraction import TENSOR_CONTRACTION

ACCELERATORS: dict[str, AcceleratorKind] = {
    "binary_ternary": BINARY_TERNARY,
    "chessboard": CHESSBOARD,
    "circulant_fft": CIRCULANT_FFT,
    "coarse_grain": COARSE_GRAIN,
    "dense": DENSE,
    "serial_core": SERIAL_CORE,
    "sparse_state": SPARSE_STATE,
    "tensor_contraction": TENSOR_CONTRACTION,
}


def accelerator_kind(kind: str) -> AcceleratorKind:
    """The accelerator kind of that name."""
    if kind not in ACCELERATORS:
        raise InputError(unknown("accelerator", kind, ACCELERATORS))
    return ACCELERATORS[kind]


__all__ = ["ACCELERATORS", "AcceleratorKind", "Settings", "accelerator_kind"]
