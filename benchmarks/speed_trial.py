"""The training that all sides of `benchmarks.training_speed` do: noise, one LSTM layer, a linear head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from codesign.design import Fixed, Kernel, Network, Recipe, TaskShape
from codesign.tasks import Sequences, Splits
from codesign.tasks.framewise import PhoneTask

CLASSES = 40

Steps = Callable[[int], None]
"""Takes a training on by so many steps."""

OURS, LOOP, BREVITAS, JIT = "codesign", "PyTorch loop", "Brevitas", "Brevitas, JIT"
FLAX, FLOAT = "Flax, compiled per trial", "torch.nn.LSTM, float"
SETTLING = 6
"""First steps of Brevitas, in which its activation scales are still statistics, and slower."""
FEW_TRIALS = 4
"""Of so many trials of a study Brevitas does one, and of it the first steps; the rest is extrapolated."""


class Shape(NamedTuple):
    """Of a batch and a layer."""

    time: int
    batch: int
    inputs: int
    hidden: int

    @property
    def flops(self) -> int:
        """In the products of one step: forward, gradient of the weights, gradient of the states (not of the input)."""
        into_gates, head = 4 * self.hidden, CLASSES * self.hidden
        both = (self.inputs + self.hidden) * into_gates
        return 2 * self.time * self.batch * (2 * both + self.hidden * into_gates + 3 * head)

    def __str__(self) -> str:
        return f"T {self.time}, B {self.batch}, I {self.inputs}, H {self.hidden}"


class RandomFrames(PhoneTask):
    """Noise with a random class for every frame, in pieces of one length."""

    n_pieces: int
    time: int
    inputs: int

    @property
    def shape(self) -> TaskShape:
        """Features and classes."""
        return TaskShape(self.inputs, CLASSES)

    @property
    def pause(self) -> int:
        """The first class."""
        return 0

    def splits(self) -> Splits:
        """All alike."""
        rng = np.random.default_rng(0)
        x = rng.uniform(-1.0, 1.0, (self.n_pieces, self.time, self.inputs)).astype(np.float32)
        y = rng.integers(CLASSES, size=x.shape[:2]).astype(np.int32)
        made = Sequences(x, y, np.ones(y.shape, np.float32))
        return Splits(made, made, made)

    def checksum(self) -> str:
        """Of the generator."""
        return "noise 0"


@dataclass(frozen=True)
class Trial:
    """A training that every side can do: one LSTM layer and a linear head."""

    shape: Shape
    bits: int
    seed: int
    n_steps: int
    epoch: int

    @property
    def network(self) -> Network:
        """Dense kernels of `bits`, states and head of 8 bits."""
        kernel = Kernel(weights=Fixed(bits=self.bits))
        return Network(cell="lstm", hidden=self.shape.hidden, input_kernel=kernel, recurrent_kernel=kernel)

    @property
    def recipe(self) -> Recipe:
        """Whole epochs."""
        return Recipe(epochs=self.n_steps // self.epoch, batch_size=self.shape.batch, sequence_length=self.shape.time)

    @property
    def task(self) -> RandomFrames:
        """An epoch's pieces."""
        return RandomFrames(n_pieces=self.epoch * self.shape.batch, time=self.shape.time, inputs=self.shape.inputs)
