"""Training: one compiled epoch for many networks, and what comes out of it."""

from codesign.training.trainer import (
    VERSION,
    Evaluation,
    Trained,
    Weights,
    build,
    evaluate,
    restore,
    splits,
    train,
    training_chunks,
)

__all__ = [
    "VERSION",
    "Evaluation",
    "Trained",
    "Weights",
    "build",
    "evaluate",
    "restore",
    "splits",
    "train",
    "training_chunks",
]
