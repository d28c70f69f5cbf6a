"""What one writes today without codesign: fake quantization in PyTorch, trained by an eager loop.

    model = model_of(network, task.shape)
    errors = train_plain(network, recipe, task, seed=0)

The baseline of `training_speed` and `search_efficiency`. It means what codesign means - fixed-point words with
a power-of-two scale, straight-through gradients, the same structures, recipe, data and error - and is written as
well as a plain loop over time can be: kernels are quantized once a pass, the input's product is taken out of the
loop, the gates share one activation and one quantization, and Adam is PyTorch's fused one. Rounding inside an
autograd.Function was measured to be faster here than `torch.fake_quantize_per_tensor_affine`.
Needs `pip install torch`.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from math import cos, pi
from typing import Any

import numpy as np

from codesign import training
from codesign.compression import BlockCirculant, CoarseGrain, Dense
from codesign.design import GATES, Exact, Fixed, Float, Kernel, Network, PiecewiseLinear, Recipe, TaskShape
from codesign.errors import InputError
from codesign.tasks import Task

torch: Any = import_module("torch")
nn: Any = torch.nn
Tensor = Any

BIAS_BITS = 16
N_EXPONENTS = 3  # scales tried for a kernel
TABLE_RANGE = 8.0  # beyond it the piecewise-linear sigmoid is constant
INPUT_GAIN = 16.0  # features are scaled so that four standard deviations fill [-1, 1)
INT8_UNIT = 1.0 / 128.0  # of features that a task holds as int8
HALF = torch.tensor(0.5)


class Round(torch.autograd.Function):  # type: ignore[misc]
    """Fixed-point words of `bits` bits and a given unit: halves go up, what is too large saturates."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int, unit: float) -> Tensor:
        """Nearest word."""
        half = 2.0 ** (bits - 1)
        return torch.add(HALF, x, alpha=1.0 / unit).floor_().clamp_(-half, half - 1.0).mul_(unit)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Straight through."""
        return gradient, None, None


class PiecewiseSigmoid(torch.autograd.Function):  # type: ignore[misc]
    """Straight segments between equally spaced points of the sigmoid; the gradient is the sigmoid's own."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, start: Tensor, slope: Tensor) -> Tensor:
        """The segment's line, of which the tables hold the value at zero and the slope."""
        ctx.save_for_backward(torch.sigmoid(z))
        middle, last = 0.5 * len(slope), len(slope) - 1
        position = torch.add(start.new_tensor(middle), z, alpha=(middle - 1.0) / TABLE_RANGE)
        index = position.clamp_(0.0, last).to(torch.int32).flatten()
        lines = [table.index_select(0, index).view_as(z) for table in (start, slope)]
        return torch.addcmul(lines[0], lines[1], z)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """s(1 - s)."""
        (s,) = ctx.saved_tensors
        return gradient * s * (1.0 - s), None, None


def segments_of(n: int) -> tuple[Tensor, Tensor]:
    """Value at zero and slope of each segment on -8 <= z < 8, and of the two level ends."""
    points = torch.sigmoid(torch.linspace(0.0, TABLE_RANGE, n + 1, dtype=torch.float64))
    points = torch.cat([1.0 - points[1:].flip(0), points])
    ends = torch.linspace(-TABLE_RANGE, TABLE_RANGE, 2 * n + 1, dtype=torch.float64)
    slope = points.diff() * (n / TABLE_RANGE)
    start = points[:-1] - slope * ends[:-1]
    level = torch.zeros(1, dtype=torch.float64)
    return torch.cat([points[:1], start, points[-1:]]).float(), torch.cat([level, slope, level]).float()


def fixed_point(words: Tensor, bits: int) -> Tensor:
    """Words with the power-of-two unit, out of three, that leaves the least squared error."""
    with torch.no_grad():
        _, top = torch.frexp(words.abs().max())
        units = [2.0 ** (int(top) - (bits - 1) - less) for less in range(N_EXPONENTS)]
        errors = [float((Round.apply(words, bits, unit) - words).square_().sum()) for unit in units]
    return Round.apply(words, bits, units[int(np.argmin(errors))])


class QuantKernel(nn.Module):  # type: ignore[misc]
    """The matrices of all gates of a kernel, (gates * rows, cols), of dense, block-circulant or block-sparse form.

    Args:
        kernel: structure and word length.
        gates, rows, cols: size.
        gain: variance of a row's output over the mean square of its input, at the start.
        seed: draws the blocks that are kept.
    """

    def __init__(self, kernel: Kernel, gates: int, rows: int, cols: int, gain: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        self.bits = _bits(kernel.weights)
        self.size = gates, rows, cols
        shape: tuple[int, ...] = (gates * rows, cols)
        nonzeros, mask, index = float(cols), None, None
        structure = kernel.structure
        if isinstance(structure, BlockCirculant):
            k = structure.block_size
            shape = (gates * -(-rows // k), -(-cols // k), k)
            index = (torch.arange(k)[:, None] - torch.arange(k)) % k
        elif isinstance(structure, CoarseGrain):
            layouts = [structure.layout(rows, cols, seed * gates + gate) for gate in range(gates)]
            mask = torch.from_numpy(np.concatenate([layout.mask for layout in layouts])).float()
            nonzeros = float(mask.sum()) / len(mask)
        elif not isinstance(structure, Dense):
            raise InputError(f"a plain kernel is dense, block_circulant or coarse_grain, got {structure.kind}")
        bound = (3.0 * gain / nonzeros) ** 0.5
        self.words = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.register_buffer("mask", mask)
        self.register_buffer("index", index)

    def forward(self) -> Tensor:
        """The kernel as products see it, (cols, gates * rows)."""
        words = self.words if self.mask is None else self.words * self.mask
        if self.bits:
            words = fixed_point(words, self.bits)
        if self.index is not None:
            gates, rows, cols = self.size
            p, q, k = words.shape
            blocks = words[:, :, self.index].transpose(1, 2)  # (p, k, q, k)
            words = blocks.reshape(gates, p // gates * k, q * k)[:, :rows, :cols].reshape(gates * rows, cols)
        return words.t()


class QuantRNN(nn.Module):  # type: ignore[misc]
    """One recurrent layer and a linear head, with fake quantization."""

    def __init__(self, network: Network, shape: TaskShape, seed: int) -> None:
        super().__init__()
        gates, hidden, function = GATES[network.cell], network.hidden, network.activation_function
        self.cell, self.hidden, self.bits = network.cell, hidden, _bits(network.activations)
        self.input_kernel = QuantKernel(network.input_kernel, gates, hidden, shape.n_inputs, INPUT_GAIN, 2 * seed)
        self.recurrent_kernel = QuantKernel(network.recurrent_kernel, gates, hidden, hidden, seed=2 * seed + 1)
        self.head = QuantKernel(Kernel(weights=network.head_weights), 1, shape.n_outputs, hidden)
        self.bias = nn.Parameter(torch.zeros(4 * hidden))
        self.head_bias = nn.Parameter(torch.zeros(shape.n_outputs))
        if self.cell == "lstm":
            with torch.no_grad():
                self.bias[hidden : 2 * hidden] = 1.0  # an open forget gate
        tables = segments_of(function.segments) if isinstance(function, PiecewiseLinear) else (None, None)
        self.register_buffer("start", tables[0])
        self.register_buffer("slope", tables[1])

    def forward(self, x: Tensor) -> Tensor:
        """Scores (time, batch, classes) of features (time, batch, inputs)."""
        bias = fixed_point(self.bias, BIAS_BITS) if self.input_kernel.bits else self.bias
        given = self.quantized(x) @ self.input_kernel() + bias[: self.input_kernel.size[0] * self.hidden]
        recurrent = self.recurrent_kernel()
        run = self.lstm if self.cell == "lstm" else self.gru
        states = run(given, recurrent, bias[3 * self.hidden :])
        head_bias = fixed_point(self.head_bias, BIAS_BITS) if self.head.bits else self.head_bias
        return states @ self.head() + head_bias

    def lstm(self, given: Tensor, recurrent: Tensor, _: Tensor) -> Tensor:
        """States (time, batch, hidden); gates in the order i, f, o, g, so that three share one sigmoid."""
        hidden = self.hidden
        c = h = given.new_zeros(given.shape[1], hidden)
        states = []
        for x in given.unbind(0):
            z = torch.addmm(x, h, recurrent)
            i, f, o = self.quantized(self.sigmoid(z[:, : 3 * hidden])).chunk(3, 1)
            c = f * c + i * self.quantized(self.tanh(z[:, 3 * hidden :]))
            h = self.quantized(o * self.quantized(self.tanh(c)))
            states.append(h)
        return torch.stack(states)

    def gru(self, given: Tensor, recurrent: Tensor, bias_hn: Tensor) -> Tensor:
        """States (time, batch, hidden); gates in the order r, z, n, the reset after the product."""
        hidden = self.hidden
        h = given.new_zeros(given.shape[1], hidden)
        states = []
        for x in given.unbind(0):
            product = h @ recurrent
            both = x[:, : 2 * hidden] + product[:, : 2 * hidden]
            r, z = self.quantized(self.sigmoid(both)).chunk(2, 1)
            seen = x[:, 2 * hidden :] + r * (product[:, 2 * hidden :] + bias_hn)
            n = self.quantized(self.tanh(seen))
            h = self.quantized((1.0 - z) * n + z * h)
            states.append(h)
        return torch.stack(states)

    def quantized(self, x: Tensor) -> Tensor:
        """As words within [-1, 1)."""
        return Round.apply(x, self.bits, 2.0 ** (1 - self.bits)) if self.bits else x

    def sigmoid(self, z: Tensor) -> Tensor:
        """Exact, or in straight segments."""
        return torch.sigmoid(z) if self.slope is None else PiecewiseSigmoid.apply(z, self.start, self.slope)

    def tanh(self, z: Tensor) -> Tensor:
        """Exact, or 2 sigmoid(2z) - 1."""
        return torch.tanh(z) if self.slope is None else 2.0 * self.sigmoid(2.0 * z) - 1.0


def model_of(network: Network, shape: TaskShape, seed: int = 0) -> Any:
    """The module that stands for a network; PyTorch's own generator draws its words, `seed` its structure.

    Raises:
        InputError: if the network is more than one plain layer on features.
    """
    plain = Network(
        cell=network.cell,
        hidden=network.hidden,
        input_kernel=network.input_kernel,
        recurrent_kernel=network.recurrent_kernel,
        head_weights=network.head_weights,
        activations=network.activations,
        activation_function=network.activation_function,
    )
    if network != plain or shape.tokens or not isinstance(network.activation_function, Exact | PiecewiseLinear):
        raise InputError(f"a plain model is one layer on features, exact or piecewise_linear, got {network!r}")
    return QuantRNN(network, shape, seed)


class Recurrent(nn.Module):  # type: ignore[misc]
    """A layer of a library, (time, batch, inputs) -> (states, carry), and a head."""

    def __init__(self, layer: Any, head: Any) -> None:
        super().__init__()
        self.layer, self.head = layer, head

    def forward(self, x: Tensor) -> Tensor:
        """Scores (time, batch, classes)."""
        return self.head(self.layer(x)[0])


def float_model(network: Network, shape: TaskShape) -> Any:
    """PyTorch's own layer of the network's size, dense and nothing quantized."""
    layer = {"lstm": nn.LSTM, "gru": nn.GRU}[network.cell]
    return Recurrent(layer(shape.n_inputs, network.hidden), nn.Linear(network.hidden, shape.n_outputs))


def brevitas_model(network: Network, shape: TaskShape) -> Any:
    """Brevitas' dense LSTM of the network's size and word lengths, its other quantizers left as they are: 8 bits."""
    qnn: Any = import_module("brevitas.nn")
    bits, head_bits = _bits(network.recurrent_kernel.weights), _bits(network.head_weights)
    layer = qnn.QuantLSTM(shape.n_inputs, network.hidden, weight_bit_width=bits)
    head = qnn.QuantLinear(network.hidden, shape.n_outputs, bias=True, weight_bit_width=head_bits)
    return Recurrent(layer, head)


class Training:
    """A model with its optimizer and schedule: Adam, warm-up, a cosine to zero, clipped gradient.

    Args:
        model: (time, batch, inputs) -> (time, batch, classes).
        recipe: as codesign's.
        rate: highest learning rate.
        n_steps: of the whole training.
    """

    def __init__(self, model: Any, recipe: Recipe, rate: float, n_steps: int) -> None:
        self.model, self.max_norm = model, recipe.max_gradient_norm
        self.optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)

        def factor(step: int) -> float:
            done = step / n_steps
            rising = (done + 1.0 / n_steps) / max(recipe.warmup, 1e-6)
            falling = min(max((done - recipe.warmup) / (1.0 - recipe.warmup), 0.0), 1.0)
            return min(rising, 1.0, 0.5 * (1.0 + cos(pi * falling)))

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)

    def step(self, x: Tensor, y: Tensor, mask: Tensor) -> None:
        """One update from a batch, batch first."""
        scores = self.model(x.transpose(0, 1))
        losses = nn.functional.cross_entropy(scores.flatten(0, 1), y.t().flatten(), reduction="none")
        counted = mask.t().flatten()
        loss = (losses * counted).sum() / counted.sum().clamp(min=1.0)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.optimizer.step()
        self.schedule.step()


def orders(n: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Rows of one batch after another, shuffled anew every epoch; what fills no batch is left out."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(n, generator=generator)
        yield from order[: max(1, n // batch_size) * batch_size].split(batch_size)


def train_plain(
    network: Network,
    recipe: Recipe,
    task: Task,
    seed: int,
    on_epoch: Callable[[int, float], None] = lambda epoch, error: None,
) -> list[float]:
    """Validation error after every epoch of a training of the recipe's last phase alone.

    Args:
        on_epoch: told the number of epochs done and the error.
    """
    torch.manual_seed(seed)
    chunks = training.training_chunks(task, recipe.sequence_length, recipe.batch_size)
    x, y, mask = _features(chunks.x), _tensor(chunks.y).long(), _tensor(chunks.mask).float()
    steps = training.steps_per_epoch(recipe, task)
    model = model_of(network, task.shape, seed)
    run = Training(model, recipe, recipe.peak_learning_rate(network.hidden), recipe.epochs * steps)
    batches = orders(len(x), recipe.batch_size, seed)
    errors = []
    for epoch in range(1, recipe.epochs + 1):
        for _ in range(steps):
            rows = next(batches)
            run.step(x[rows], y[rows], mask[rows])
        errors.append(validation_error(model, task))
        on_epoch(epoch, errors[-1])
    return errors


def validation_error(model: Any, task: Task) -> float:
    """Share of wrong answers in the counted steps of the validation data."""
    truth = training.splits(task).validation
    with torch.no_grad():
        best = model(_features(truth.x).transpose(0, 1)).argmax(-1).t().numpy()
    return float((best != truth.y)[truth.mask > 0].mean())


def _bits(words: Any) -> int:
    """Word length, 0 for float."""
    if not isinstance(words, Fixed | Float):
        raise InputError(f"plain words are fixed or float, got {words.kind}")
    return words.bits if isinstance(words, Fixed) else 0


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array))


def _features(array: Any) -> Tensor:
    """float32, of int8 in units of 1/128 too."""
    found = _tensor(array)
    return found * INT8_UNIT if found.dtype == torch.int8 else found
