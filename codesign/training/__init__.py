"""Training: one compiled epoch for many networks, and what comes out of it."""

from codesign.training.checkpoint import from_bytes, to_bytes
from codesign.training.trainer import (
    VERSION,
    Checkpoint,
    Evaluation,
    Trained,
    Weights,
    advance,
    begin,
    build,
    compile_key,
    evaluate,
    parent_of,
    restore,
    splits,
    steps_per_epoch,
    train,
    trained,
    training_chunks,
)

__all__ = [
    "VERSION",
    "Checkpoint",
    "Evaluation",
    "Trained",
    "Weights",
    "advance",
    "begin",
    "build",
    "compile_key",
    "evaluate",
    "from_bytes",
    "parent_of",
    "restore",
    "splits",
    "steps_per_epoch",
    "to_bytes",
    "train",
    "trained",
    "training_chunks",
]
