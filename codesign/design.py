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

from codesign.compression import STRUCTURES, TENSOR_STRUCTURES, Dense, Structure, TensorStructure
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


class PowerOfTwo(Spec):
    """Zero or a signed power of two: the sign and one of 2^(bits-1) - 1 exponents; products are shifts."""

    kind: Literal["power_of_two"] = "power_of_two"
    bits: int = Field(default=4, ge=2, le=8)

    @property
    def word_length(self) -> int:
        """Stored bits of a word."""
        return self.bits


class Binary(Spec):
    """One constant with a sign, drawn anew for every batch in training where `stochastic`."""

    kind: Literal["binary"] = "binary"
    stochastic: bool = True

    @property
    def word_length(self) -> int:
        """Stored bits of a word."""
        return 1


class Ternary(Spec):
    """Zero or one constant with a sign, drawn anew for every batch in training where `stochastic`."""

    kind: Literal["ternary"] = "ternary"
    stochastic: bool = True

    @property
    def word_length(self) -> int:
        """Stored bits of a word."""
        return 2


class Exact(Spec):
    """The sigmoid and tanh themselves."""

    kind: Literal["exact"] = "exact"


class PiecewiseLinear(Spec):
    """Straight segments of equal width on 0 <= z < 8; tanh(z) = 2 sigmoid(2z) - 1."""

    kind: Literal["piecewise_linear"] = "piecewise_linear"
    segments: int = Field(default=32, ge=2, le=256)


class Hard(Spec):
    """Clipped lines that need a shift only: sigmoid(z) = clip(z/4 + 1/2, 0, 1), tanh(z) = clip(z, -1, 1)."""

    kind: Literal["hard"] = "hard"


NUMBER_FORMATS: dict[str, type[BaseModel]] = {"float": Float, "fixed": Fixed}
WEIGHT_FORMATS: dict[str, type[BaseModel]] = {
    **NUMBER_FORMATS,
    "power_of_two": PowerOfTwo,
    "binary": Binary,
    "ternary": Ternary,
}
ACTIVATION_FUNCTIONS: dict[str, type[BaseModel]] = {"exact": Exact, "piecewise_linear": PiecewiseLinear, "hard": Hard}


class NoBatchNorm(Spec):
    """No normalisation in the cell."""

    kind: Literal["none"] = "none"


class PerStep(Spec):
    """Constants of their own for each of the first `steps` steps of a sequence; later steps share the last's."""

    kind: Literal["per_step"] = "per_step"
    steps: int = Field(default=100, ge=1, le=4096)


class Frozen(Spec):
    """One set of constants for all steps: one scale and one shift for each gate output."""

    kind: Literal["frozen"] = "frozen"


BATCH_NORMS: dict[str, type[BaseModel]] = {"none": NoBatchNorm, "per_step": PerStep, "frozen": Frozen}

_STRUCTURE = Family("structure", {**STRUCTURES, **TENSOR_STRUCTURES})
_FORMAT = Family("number format", NUMBER_FORMATS)
_WEIGHT_FORMAT = Family("weight format", WEIGHT_FORMATS)
_FUNCTION = Family("activation function", ACTIVATION_FUNCTIONS)
AnyStructure = Annotated[Structure | TensorStructure, _STRUCTURE, BeforeValidator(_STRUCTURE.parse), SerializeAsAny()]
NumberFormat = Annotated[Float | Fixed, _FORMAT, BeforeValidator(_FORMAT.parse)]
WeightFormat = Annotated[
    Float | Fixed | PowerOfTwo | Binary | Ternary, _WEIGHT_FORMAT, BeforeValidator(_WEIGHT_FORMAT.parse)
]
ActivationFunction = Annotated[Exact | PiecewiseLinear | Hard, _FUNCTION, BeforeValidator(_FUNCTION.parse)]

_BATCH_NORM = Family("batch normalisation", BATCH_NORMS)
BatchNorm = Annotated[NoBatchNorm | PerStep | Frozen, _BATCH_NORM, BeforeValidator(_BATCH_NORM.parse)]

GATES = {"lstm": 4, "gru": 3}
"""Gates a cell computes: i, f, g, o for the LSTM; r, z, n for the GRU."""


ACTIVITY_BLOCKS = (1, 2, 4, 8, 16)
"""Block sizes for which the activity of a state is recorded."""

ACTIVITY_BATCHES = (1, 8, 16)
"""Numbers of streams, side by side, for which it is recorded."""

Activity = tuple[Mapping[int, Mapping[int, Sequence[float]]], ...]
"""For each layer, batch and block size: the share of steps with 0, 1, 2, ... state blocks that are not zero
in every stream of the batch."""


class Kernel(Spec):
    """One weight matrix per gate: its structure and how its words are written."""

    structure: AnyStructure = Dense()
    weights: WeightFormat = Fixed(bits=8)


class Network(Spec):
    """A recurrent network: `layers` of one cell, then a dense output layer (the head).

    `activations` is the word length of the input x, the state h and the gate outputs, all within
    [-1, 1). Entries of h smaller than `state_threshold` are zero where h meets the recurrent kernel;
    the next layer and the head see them all. A token enters as a trained vector of `embedding` entries,
    or one-hot where that is 0. An LSTM may have peepholes and a `projection` that shortens its state
    (0: none), or else batch normalisation in the cell, as a GRU may. `state_sparsity` above zero is a
    share of zeros in the state that training reaches by a pressure on the size of the state's entries,
    which it finds; it needs a threshold.
    """

    cell: Literal["lstm", "gru"] = "gru"
    layers: int = Field(default=1, ge=1, le=3)
    hidden: int = Field(default=64, ge=4, le=4096)
    projection: int = Field(default=0, ge=0, le=4096)
    projection_kernel: Kernel = Kernel()
    peephole: bool = False
    batch_norm: BatchNorm = NoBatchNorm()
    embedding: int = Field(default=0, ge=0, le=4096)
    embedding_weights: NumberFormat = Fixed(bits=8)
    input_kernel: Kernel = Kernel()
    recurrent_kernel: Kernel = Kernel()
    head_weights: NumberFormat = Fixed(bits=8)
    activations: NumberFormat = Fixed(bits=8)
    activation_function: ActivationFunction = Exact()
    state_threshold: float = Field(default=0.0, ge=0.0, lt=1.0)
    state_sparsity: float = Field(default=0.0, ge=0.0, lt=1.0)

    @property
    def contradiction(self) -> str | None:
        """Why no such network exists; a search refuses it, with this reason."""
        if self.cell == "gru" and (self.projection or self.peephole):
            return "projection and peephole belong to the LSTM; leave them out or use cell = 'lstm'"
        if self.batch_norm.kind != "none" and (self.projection or self.peephole):
            return "batch_norm cannot be combined with projection or peephole; leave one out"
        if self.state_sparsity and not self.state_threshold:
            return "state_sparsity needs a state_threshold above 0; 0.1 is a good one"
        if self.projection >= self.hidden:
            return f"projection must be smaller than hidden = {self.hidden}, got {self.projection}"
        return None

    @property
    def state(self) -> int:
        """Length of a layer's state h."""
        return self.projection or self.hidden


class Recipe(Spec):
    """How a network is trained: Adam, linear warm-up, cosine decay to zero, clipped gradient.

    `learning_rate` is meant for 64 hidden units and is scaled by sqrt(64 / hidden): what trains 32
    units best makes 256 diverge, and a search over sizes must not favour one by its learning rate.
    `sequence_length` is the steps of a training piece; sequences with one label are never cut.

    Before its `epochs` a network may be trained dense and in float for `dense_epochs`, and then toward its structure by
    ADMM for `admm_epochs`, with a penalty `admm_rho` that grows by `admm_growth` every epoch; what follows
    starts from the projection. Each phase has a warm-up and a cosine of its own, every phase but the first
    with `later_rate` times the learning rate.
    """

    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=16, ge=1)
    sequence_length: int = Field(default=100, ge=2)
    learning_rate: float = Field(default=0.02, gt=0.0)
    warmup: float = Field(default=0.1, ge=0.0, lt=1.0)
    max_gradient_norm: float = Field(default=1.0, gt=0.0)
    dense_epochs: int = Field(default=0, ge=0)
    admm_epochs: int = Field(default=0, ge=0)
    admm_rho: float = Field(default=1e-3, gt=0.0)
    admm_growth: float = Field(default=1.0, ge=1.0)
    later_rate: float = Field(default=0.5, gt=0.0, le=1.0)

    @property
    def total_epochs(self) -> int:
        """Of all phases."""
        return self.dense_epochs + self.admm_epochs + self.epochs

    def peak_learning_rate(self, hidden: int) -> float:
        """Highest learning rate for a network of so many hidden units."""
        return self.learning_rate * math.sqrt(64 / hidden)


class Accelerator(Spec):
    """The hardware: a kind (one file in hardware/accelerators), its technology and its size.

    `batch` independent streams share every weight that is read. Where `dram_bits_per_s` is not 0 the kernels
    lie in memory outside the chip with that bandwidth. `supply_v` is an ASIC's supply voltage, 0 the node's
    nominal one.
    """

    kind: str = "serial_core"
    technology: str = "xc7z020"
    n_pe: int = Field(default=16, ge=1, le=65536)
    clock_hz: float = Field(default=100e6, gt=0.0)
    batch: int = Field(default=1, ge=1, le=1024)
    dram_bits_per_s: float = Field(default=0.0, ge=0.0)
    supply_v: float = Field(default=0.0, ge=0.0, le=2.0)


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
