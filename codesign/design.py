"""What is searched: a Design is a Network (what is trained) on an Accelerator (what it runs on).

All classes are frozen, refuse unknown fields and go to and from TOML and JSON unchanged. A field
that holds one of several kinds (a structure, a number format) is a `Family`: the kind's name, or a
table with `kind` and the kind's own parameters.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny

from codesign.compression import STRUCTURES, Dense, Structure
from codesign.errors import unknown


class Spec(BaseModel):
    """A frozen record whose unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Family:
    """The known kinds of a field; `what` names it in messages."""

    what: str
    members: Mapping[str, type[BaseModel]]

    def parse(self, value: Any) -> Any:
        """A member from its name or its table; a member passes unchanged."""
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, dict):
            return value
        kind = str(value.get("kind"))
        if kind not in self.members:
            raise ValueError(unknown(self.what, kind, self.members))
        return self.members[kind].model_validate(value)


class Float(Spec):
    """32-bit floating point."""

    kind: Literal["float"] = "float"

    @property
    def word_length(self) -> int:
        """Stored bits of a word."""
        return 32


class Fixed(Spec):
    """Two's complement fixed point with a power-of-two scale, `bits` long."""

    kind: Literal["fixed"] = "fixed"
    bits: int = Field(default=8, ge=3, le=16)

    @property
    def word_length(self) -> int:
        """Stored bits of a word."""
        return self.bits


class Exact(Spec):
    """The sigmoid and tanh themselves."""

    kind: Literal["exact"] = "exact"


class PiecewiseLinear(Spec):
    """Straight segments of equal width on 0 <= z < 8; tanh(z) = 2 sigmoid(2z) - 1."""

    kind: Literal["piecewise_linear"] = "piecewise_linear"
    segments: int = Field(default=32, ge=2, le=256)


NUMBER_FORMATS: dict[str, type[BaseModel]] = {"float": Float, "fixed": Fixed}
ACTIVATION_FUNCTIONS: dict[str, type[BaseModel]] = {"exact": Exact, "piecewise_linear": PiecewiseLinear}

_STRUCTURE = Family("structure", STRUCTURES)
_FORMAT = Family("number format", NUMBER_FORMATS)
_FUNCTION = Family("activation function", ACTIVATION_FUNCTIONS)
AnyStructure = Annotated[Structure, _STRUCTURE, BeforeValidator(_STRUCTURE.parse), SerializeAsAny()]
NumberFormat = Annotated[Float | Fixed, _FORMAT, BeforeValidator(_FORMAT.parse)]
ActivationFunction = Annotated[Exact | PiecewiseLinear, _FUNCTION, BeforeValidator(_FUNCTION.parse)]

GATES = {"lstm": 4, "gru": 3}
"""Gates a cell computes: i, f, g, o for the LSTM; r, z, n for the GRU."""


ACTIVITY_BLOCKS = (1, 2, 4, 8, 16)
"""Block sizes for which the activity of a state is recorded."""

Activity = tuple[Mapping[int, Sequence[float]], ...]
"""For each layer and block size: the share of steps with 0, 1, 2, ... state blocks that are not zero."""


class Kernel(Spec):
    """One weight matrix per gate: its structure and how its words are written."""

    structure: AnyStructure = Dense()
    weights: NumberFormat = Fixed(bits=8)


class Network(Spec):
    """A recurrent network: `layers` of one cell, then a dense output layer (the head).

    `activations` is the word length of the input x, the state h and the gate outputs, all within
    [-1, 1). Entries of h smaller than `state_threshold` are zero wherever h enters a product. A token
    enters as a trained vector of `embedding` entries, or one-hot where that is 0.
    """

    cell: Literal["lstm", "gru"] = "gru"
    layers: int = Field(default=1, ge=1, le=3)
    hidden: int = Field(default=64, ge=4, le=4096)
    embedding: int = Field(default=0, ge=0, le=4096)
    embedding_weights: NumberFormat = Fixed(bits=8)
    input_kernel: Kernel = Kernel()
    recurrent_kernel: Kernel = Kernel()
    head_weights: NumberFormat = Fixed(bits=8)
    activations: NumberFormat = Fixed(bits=8)
    activation_function: ActivationFunction = Exact()
    state_threshold: float = Field(default=0.0, ge=0.0, lt=1.0)


class Recipe(Spec):
    """How a network is trained: Adam, linear warm-up, cosine decay to zero, clipped gradient.

    `learning_rate` is meant for 64 hidden units and is scaled by sqrt(64 / hidden): what trains 32
    units best makes 256 diverge, and a search over sizes must not favour one by its learning rate.
    `sequence_length` is the steps of a training piece; sequences with one label are never cut.
    """

    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=16, ge=1)
    sequence_length: int = Field(default=100, ge=2)
    learning_rate: float = Field(default=0.02, gt=0.0)
    warmup: float = Field(default=0.1, ge=0.0, lt=1.0)
    max_gradient_norm: float = Field(default=1.0, gt=0.0)

    def peak_learning_rate(self, hidden: int) -> float:
        """Highest learning rate for a network of so many hidden units."""
        return self.learning_rate * math.sqrt(64 / hidden)


class Accelerator(Spec):
    """The hardware: a kind (one file in hardware/accelerators), its technology and its size."""

    kind: str = "serial_core"
    technology: str = "xc7z020"
    n_pe: int = Field(default=16, ge=1, le=65536)
    clock_hz: float = Field(default=100e6, gt=0.0)


@dataclass(frozen=True)
class TaskShape:
    """What one step of a task takes and gives.

    Attributes:
        n_inputs: features of a step, or the number of different tokens.
        n_outputs: classes.
        tokens: whether a step's input is one of `n_inputs` tokens instead of a vector.
    """

    n_inputs: int
    n_outputs: int
    tokens: bool = False


class Design(Spec):
    """One point of the search."""

    network: Network = Network()
    accelerator: Accelerator = Accelerator()


def digest(*parts: Any) -> str:
    """Sixteen hex digits that name plain data or records; equal data, equal digits."""
    plain = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
