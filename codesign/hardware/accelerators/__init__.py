"""Accelerator kinds, one to a file. To add one: its file, a line in `ACCELERATORS`, a golden test."""

from codesign.errors import InputError, unknown
from codesign.hardware.accelerators.dense import DENSE
from codesign.hardware.accelerators.kind import AcceleratorKind, Settings
from codesign.hardware.accelerators.serial_core import SERIAL_CORE

ACCELERATORS: dict[str, AcceleratorKind] = {
    "dense": DENSE,
    "serial_core": SERIAL_CORE,
}


def accelerator_kind(kind: str) -> AcceleratorKind:
    """The accelerator kind of that name."""
    if kind not in ACCELERATORS:
        raise InputError(unknown("accelerator", kind, ACCELERATORS))
    return ACCELERATORS[kind]


__all__ = ["ACCELERATORS", "AcceleratorKind", "Settings", "accelerator_kind"]
