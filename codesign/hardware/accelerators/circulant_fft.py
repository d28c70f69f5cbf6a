"""Block-circulant kernels in the frequency domain, a coarse pipeline: C-LSTM (FPGA 2018), E-RNN (HPCA 2019).

    y_i = IFFT( sum_j FFT(w_ij) o FFT(x_j) )                    (1)
    multiplications of a block product     4 (k/2 - 1) + 2      (2)
    multiplications of a transform         k log2(k)            (3)
    interval = sum over layers of max over stages of ceil(block products / PEs of the stage)   (4)
    latency = stages * interval,  throughput = 1 / interval     (5)

The equations, their assumptions and all published figures stand in docs/accelerators/circulant_fft.md. A PE
completes one block product a cycle. Each stage that multiplies kernels has PEs of its own; everything else is made wide
enough never to be the longest stage, and is paid for.

References:
    Wang et al., "C-LSTM: Enabling Efficient LSTM Using Structured Compression Techniques on FPGAs", FPGA 2018.
    Li et al., "E-RNN: Design Optimization for Efficient Recurrent Neural Networks in FPGAs", HPCA 2019.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.compression import BlockCirculant
from codesign.compression.structure import pad
from codesign.hardware.accelerators.kind import AcceleratorKind, Bill, Settings, network_faults, price
from codesign.hardware.accelerators.lanes import (
    FF_FIT,
    LUT_FIT,
    STATE_BITS,
    FabricFit,
    accumulator_bits,
    step_energy,
    step_memories,
)
from codesign.hardware.cost import Array, Cost, Infeasible, Parts
from codesign.hardware.memory import RAMB18_BITS, Memory
from codesign.hardware.technology import FpgaPart, Operations, Technology
from codesign.hardware.workload import Layer, Product, Workload

STRUCTURES = ("block_circulant",)

COMPLEX_MULTIPLICATIONS = 4
"""Real multiplications of a complex one."""

BUTTERFLY_ADDITIONS = 1.5
"""Additions of a transform for each of its multiplications: a butterfly multiplies 4 times and adds 2 + 4 times."""

GATE_SUMS = 4
"""Sums of products that the element-wise stage takes for a unit: i, f, g, o; or r, z and the two of the candidate."""

LEAST_SAVING = 0.02
"""Doubling the block size pays where it saves this share of the dense multiplications at least; our choice."""


def block_multiplications(block_size: int) -> int:
    """Real multiplications of a block product, equation (2): k/2 + 1 bins, of which 0 and k/2 are real.

    There are as many additions: two in each complex product, and one for each real or imaginary part of a sum.
    """
    return COMPLEX_MULTIPLICATIONS * (block_size // 2 - 1) + 2 if block_size > 1 else 1


def transform_multiplications(block_size: int) -> int:
    """Real multiplications of a real-input transform, equation (3): half a complex radix-2 one, no twiddle spared."""
    return COMPLEX_MULTIPLICATIONS * block_size // 4 * (block_size.bit_length() - 1) if block_size > 1 else 0


@dataclass(frozen=True)
class Task:
    """What one kernel of one layer asks of one stage; `gates` of the product's gates are computed there."""

    kernel: str
    product: Product
    gates: int

    @property
    def block_size(self) -> int:
        """k."""
        return self.product.block_size

    @property
    def block_rows(self) -> int:
        """Output blocks of all gates."""
        return self.gates * self.product.padded_rows // self.block_size

    @property
    def block_cols(self) -> int:
        """Input blocks; a token has one."""
        return self.product.columns // self.block_size

    @property
    def n_products(self) -> int:
        """Block products of a step."""
        return self.block_rows * self.block_cols

    @property
    def n_stored(self) -> int:
        """Blocks in the weight memory."""
        return self.product.n_words * self.gates // self.product.gates // self.block_size

    @property
    def spectrum(self) -> int:
        """Real words of a block's k/2 + 1 complex bins."""
        return 2 * (self.block_size // 2 + 1)


Tasks = list[Task]


def _tasks(layer: Layer, cell: str) -> dict[str, Tasks]:
    """The stages that multiply kernels, in order."""

    def gates(n: int) -> Tasks:
        return [Task("input_kernel", layer.input_kernel, n), Task("recurrent_kernel", layer.recurrent_kernel, n)]

    if cell == "gru":
        return {"gates": gates(2), "candidate": gates(1)}
    projection = [] if layer.projection is None else [Task("projection", layer.projection, 1)]
    return {"gates": gates(layer.input_kernel.gates)} | ({"projection": projection} if projection else {})


def _stages(workload: Workload) -> dict[str, list[Tasks]]:
    """For each stage that multiplies kernels, its tasks layer by layer."""
    layers = [_tasks(layer, workload.cell) for layer in workload.layers]
    return {stage: [tasks[stage] for tasks in layers] for stage in layers[0]}


def _forward(stage: str, tasks: Tasks) -> list[tuple[int, int]]:
    """Forward transforms, (block size, count); the candidate takes over the spectra of the stage before."""
    return [] if stage == "candidate" else [(task.block_size, task.block_cols) for task in tasks]


def _inverse(stage: str, tasks: Tasks) -> list[tuple[int, int]]:
    """Inverse transforms, (block size, count): one for a sum over x and h where both have blocks of one size."""
    # r scales the candidate's sum over h alone
    apart = stage == "candidate" or len({task.block_size for task in tasks}) > 1
    return [(task.block_size, task.block_rows) for task in (tasks if apart else tasks[:1])]


def _transforms(workload: Workload) -> list[tuple[int, int]]:
    """All transforms of a step, (block size, count)."""
    stages = [(stage, tasks) for stage, layers in _stages(workload).items() for tasks in layers]
    return [pair for stage, tasks in stages for pair in _forward(stage, tasks) + _inverse(stage, tasks)]


def multiplications(workload: Workload) -> int:
    """Real multiplications of all kernels in a step, transforms included.

    Example:
        >>> from codesign.design import Kernel, Network, TaskShape
        >>> from codesign.hardware import workload
        >>> kernel = Kernel(structure={"kind": "block_circulant", "block_size": 8})
        >>> network = Network(hidden=64, input_kernel=kernel, recurrent_kernel=kernel)
        >>> multiplications(workload(network, TaskShape(64, 2)))
        6528
    """
    tasks = [task for layers in _stages(workload).values() for tasks in layers for task in tasks]
    products = sum(task.n_products * block_multiplications(task.block_size) for task in tasks)
    return products + sum(count * transform_multiplications(size) for size, count in _transforms(workload))


def spectral_bits(workload: Workload) -> int:
    """Bits of all kernels as their memories hold them: k/2 + 1 complex words a block."""
    tasks = [task for layers in _stages(workload).values() for tasks in layers for task in tasks]
    return sum(task.n_stored * task.spectrum * task.product.word_length for task in tasks)


@dataclass(frozen=True)
class BlockSizeBounds:
    """Block sizes worth training, as in E-RNN's Phase I.

    Attributes:
        smallest: whose weights fit the part's block RAM; None where none do.
        largest: up to which doubling the block size pays; below `smallest` where memory alone asks for more.
    """

    smallest: int | None
    largest: int


def block_size_bounds(
    workload: Workload, technology: Technology, least_saving: float = LEAST_SAVING
) -> BlockSizeBounds:
    """Bounds of the block size of all kernels, whatever structure they have now.

    Args:
        workload: its sizes and word lengths are used.
        technology: an FPGA's block RAM bounds the block size from below; an ASIC has the memory that it needs.
        least_saving: share of the dense multiplications that doubling the block size must save, transforms included.
    """
    capacity = technology.bram18 * RAMB18_BITS if isinstance(technology, FpgaPart) else float("inf")
    sizes = [1 << i for i in range(1, workload.largest_block.bit_length())]
    sized = {size: _with_blocks(workload, size) for size in (1, *sizes)}
    work = {size: multiplications(one) for size, one in sized.items()}
    fit = [size for size in sizes if spectral_bits(sized[size]) <= capacity]
    pay = [size for size in sizes if work[size // 2] - work[size] >= least_saving * work[1]]
    return BlockSizeBounds(smallest=min(fit, default=None), largest=max(pay, default=sizes[0]))


def _with_blocks(workload: Workload, block_size: int) -> Workload:
    """The same step with blocks of one size in every kernel."""
    structure = BlockCirculant(block_size=block_size)

    def sized(product: Product) -> Product:
        counts = structure.counts(product.rows, product.cols)
        return replace(
            product,
            structure=structure.kind,
            block_size=block_size,
            level1_block=None,
            level2_block=None,
            padded_rows=counts.n_rows,
            padded_cols=pad(product.cols, block_size),
            row_macs=counts.row_macs,
            n_words=product.gates * counts.n_words,
        )

    layers = [
        replace(
            layer,
            input_kernel=sized(layer.input_kernel),
            recurrent_kernel=sized(layer.recurrent_kernel),
            projection=None if layer.projection is None else sized(layer.projection),
        )
        for layer in workload.layers
    ]
    return replace(workload, layers=tuple(layers))


@dataclass(frozen=True)
class _Pipeline:
    """A step's stages on so many PEs.

    Attributes:
        stages: those that multiply kernels, each with its tasks layer by layer.
        n_pe: PEs of each.
        interval: cycles from one step to the next.
        n_units: cells that the element-wise stage finishes a cycle.
        head_lanes: multiply-accumulate lanes of the output layer.
    """

    stages: dict[str, list[Tasks]]
    n_pe: dict[str, Array]
    interval: Array
    n_units: Array
    head_lanes: Array

    @property
    def n_stages(self) -> int:
        """The element-wise one included."""
        return len(self.stages) + 1

    def block_size(self, stage: str) -> int:
        """The largest of the stage; its PEs, transforms and words are built for it."""
        return max(task.block_size for task in self.tasks(stage))

    def word_length(self, stage: str) -> int:
        """The longest of the stage's weights [bit]."""
        return max(task.product.word_length for task in self.tasks(stage))

    def tasks(self, stage: str) -> Tasks:
        """Of all layers."""
        return [task for tasks in self.stages[stage] for task in tasks]

    def n_transforms(self, stage: str) -> Array:
        """Transforms of either direction that the stage completes a cycle, so that none makes it longer."""
        counts = [
            sum(count for tasks in self.stages[stage] for _, count in of(stage, tasks)) for of in (_forward, _inverse)
        ]
        return np.asarray(sum(np.ceil(count / self.interval) for count in counts), np.float64)


def _pipeline(workload: Workload, n_pe: NDArray[np.int64]) -> _Pipeline:
    stages = _stages(workload)
    work = [[sum(task.n_products for task in tasks) for tasks in layers] for layers in stages.values()]
    sizes, interval = _shares(work, n_pe)
    return _Pipeline(
        stages=stages,
        n_pe=dict(zip(stages, sizes, strict=True)),
        interval=interval,
        n_units=np.ceil(workload.hidden * len(workload.layers) / interval),
        head_lanes=np.ceil(workload.head.macs / interval),
    )


def _shares(work: list[list[int]], n_pe: NDArray[np.int64]) -> tuple[list[Array], Array]:
    """PEs of one or two stages, and the interval, equation (4).

    Two stages share the PEs in the ratio of their block products, rounded to the better side; this is the best of all
    splits for one layer. More PEs take neither stage one away, so that they never lengthen the interval.
    """

    def interval(*sizes: Array) -> Array:
        cycles = [np.stack([np.ceil(n / size) for n in layers]) for layers, size in zip(work, sizes, strict=True)]
        return np.asarray(np.max(np.stack(cycles), axis=0).sum(axis=0), np.float64)

    if len(work) == 1:
        alone = n_pe.astype(np.float64)
        return [alone], interval(alone)
    first, second = sum(work[0]), sum(work[1])
    n = np.maximum(n_pe, 2)
    low = np.clip(n * first // (first + second), 1, n - 1)
    high = np.minimum(low + 1, n - 1)
    better = interval(high, n - high) < interval(low, n - low)
    share = np.where(better, high, low).astype(np.float64)
    return [share, n - share], interval(share, n - share)


def _weights(pipeline: _Pipeline, stage: str) -> Memory:
    """A word feeds all PEs of the stage; a shorter block or word length leaves part of it empty."""
    n_pe = pipeline.n_pe[stage]
    width = max(task.spectrum * task.product.word_length for task in pipeline.tasks(stage))
    stored = [sum(task.n_stored for task in tasks) for tasks in pipeline.stages[stage]]
    return Memory(n_pe * width, np.sum([np.ceil(n / n_pe) for n in stored], axis=0))


def _inputs_name(stage: str) -> str:
    return "activations" if stage == "gates" else f"{stage}_inputs"


def _inputs(pipeline: _Pipeline, stage: str, bits: int) -> Memory:
    """Spectra of a stage's inputs, a bank for each stream in flight."""
    tasks, one = pipeline.tasks(stage), np.ones_like(pipeline.interval)
    depth = pipeline.n_stages * sum(task.block_cols for task in tasks)
    return Memory(max(task.spectrum for task in tasks) * bits * one, depth * one)


def _memories(workload: Workload, pipeline: _Pipeline) -> dict[str, Memory]:
    bits, units, one = workload.activation_bits, pipeline.n_units, np.ones_like(pipeline.interval)
    memories = {f"{stage}_weights": _weights(pipeline, stage) for stage in pipeline.stages}
    memories |= {_inputs_name(stage): _inputs(pipeline, stage, bits) for stage in pipeline.stages}
    # two banks: one is filled by the products while the element-wise stage empties the other
    memories["gate_sums"] = Memory(units * GATE_SUMS * bits, 2 * np.ceil(workload.hidden / units))
    lanes = np.minimum(pipeline.head_lanes, workload.head.rows)
    memories |= step_memories(workload, lanes, pipeline.n_stages)
    tables = units * (workload.layers[0].lookups // workload.hidden)
    return memories | {"function_table": replace(memories["function_table"], copies=tables * one)}


def _kernel_energy(
    workload: Workload, pipeline: _Pipeline, memories: dict[str, Memory], operations: Operations
) -> Parts:
    """Block products, whole words of weights, spectra of inputs, transforms, sums on their way to the gates."""
    bits, one = workload.activation_bits, np.ones_like(pipeline.interval)
    parts: Parts = {}

    def add(name: str, energy: Array) -> None:
        parts[name] = parts.get(name, 0.0 * one) + energy

    for stage in pipeline.stages:
        n_pe, weights = pipeline.n_pe[stage], memories[f"{stage}_weights"]
        inputs = memories[_inputs_name(stage)]
        weights_j, inputs_j = (memory.width * operations.read_j(memory) for memory in (weights, inputs))
        for task in pipeline.tasks(stage):
            word_length = task.product.word_length
            one_j = operations.multiply_j(word_length, bits) + operations.add_j(word_length + bits)
            n_real = task.n_products * block_multiplications(task.block_size)
            add(f"{task.kernel}_macs", n_real * one_j * one)
            add(f"{task.kernel}_weights", task.n_products / n_pe * weights_j)
            # PEs that work on rows of one column of blocks share its spectrum
            add(f"{task.kernel}_activations", task.n_products / np.minimum(n_pe, task.block_rows) * inputs_j)
        written = sum(task.block_cols for task in pipeline.tasks(stage))
        add("transforms", written * inputs_j)
    butterfly_j = operations.multiply_j(bits, bits) + BUTTERFLY_ADDITIONS * operations.add_j(bits)
    n_real = sum(count * transform_multiplications(size) for size, count in _transforms(workload))
    add("transforms", n_real * butterfly_j * one)
    moved = 2 * GATE_SUMS * workload.hidden * len(workload.layers) * bits
    add("gate_sums", moved * operations.read_j(memories["gate_sums"]))
    return parts


def _multipliers(workload: Workload, pipeline: _Pipeline) -> Parts:
    """Multipliers of each part; a DSP multiplies 18 x 25 bits, so one is a DSP."""
    layer, sizes = workload.layers[0], {stage: pipeline.block_size(stage) for stage in pipeline.stages}
    # of a cell, and one for the slope of each look-up
    per_unit = -(-layer.multiplications // workload.hidden) + layer.lookups // workload.hidden
    transforms = [pipeline.n_transforms(stage) * transform_multiplications(k) for stage, k in sizes.items()]
    return {stage: pipeline.n_pe[stage] * block_multiplications(k) for stage, k in sizes.items()} | {
        "transforms": np.sum(transforms, axis=0),
        "element_wise": pipeline.n_units * per_unit,
        "head": pipeline.head_lanes,
    }


def _adder_fabric(workload: Workload, pipeline: _Pipeline, fit: FabricFit) -> Parts:
    """Whole LUT or FF: those of an accumulator bit for every bit of an adder, our core's pipeline for a unit."""
    bits, multipliers = workload.activation_bits, _multipliers(workload, pipeline)
    adder_bits = {stage: multipliers[stage] * (pipeline.word_length(stage) + bits) for stage in pipeline.stages} | {
        "transforms": multipliers["transforms"] * BUTTERFLY_ADDITIONS * bits,
        "head": multipliers["head"] * accumulator_bits(workload),
    }
    parts = {name: fit.accumulator_bit * n_bits for name, n_bits in adder_bits.items()}
    parts["element_wise"] = pipeline.n_units * (fit.base + fit.activation_bit * (bits - 8))
    return {name: np.round(part) for name, part in parts.items()}


def _area(workload: Workload, pipeline: _Pipeline, operations: Operations) -> Parts:
    """Multipliers and adders [mm2]."""
    bits, words = workload.activation_bits, {stage: pipeline.word_length(stage) for stage in pipeline.stages}
    multiply, add = operations.multiply_mm2, operations.add_mm2
    each = {stage: multiply(word, bits) + add(word + bits) for stage, word in words.items()} | {
        "transforms": multiply(bits, bits) + BUTTERFLY_ADDITIONS * add(bits),
        "element_wise": multiply(bits, STATE_BITS) + add(STATE_BITS),
        "head": multiply(workload.head.word_length, bits) + add(accumulator_bits(workload)),
    }
    return {name: n * each[name] for name, n in _multipliers(workload, pipeline).items()}


def _faults(workload: Workload, pipeline: _Pipeline, settings: Settings) -> tuple[NDArray[np.int64], dict[str, Any]]:
    mask, facts = network_faults(workload, "circulant_fft", STRUCTURES, lacks=("batch normalisation",))
    kernels = workload.products[:-1]
    if any(kernel.structure in STRUCTURES and kernel.block_size < 2 for kernel in kernels):
        mask |= Infeasible.SMALL_BLOCK
    n = len(pipeline.stages)
    infeasible = np.full(len(settings), int(mask), np.int64)
    infeasible |= np.where(settings.batch > 1, int(Infeasible.BATCH), 0)
    infeasible |= np.where(settings.off_chip, int(Infeasible.OFF_CHIP), 0)
    infeasible |= np.where(settings.n_pe < n, int(Infeasible.PE_FITS_KIND), 0)
    return infeasible, facts | {
        "pe_rule": f"each of the stages {' and '.join(pipeline.stages)} needs one at least",
        "useful_n_pe": np.maximum(settings.n_pe, n),
    }


def _unproven(workload: Workload, technology: Technology) -> tuple[str, ...]:
    layer = workload.layers[0]
    doubts = {
        "circulant_fft has no RTL of ours; stages are ideal, and filling their pipelines is not counted": True,
        "spectra are stored and multiplied in the word lengths of the weights and activations; "
        "rounding in the frequency domain is not trained": True,
        "the output layer has lanes of its own beside the last stage; neither publication has it on the chip": True,
        "an LSTM without projection takes two stages; it was not published": (
            workload.cell == "lstm" and layer.projection is None
        ),
        "the GRU keeps E-RNN's three stages, although r is applied after the product and two would do": (
            workload.cell == "gru"
        ),
        "further layers follow in the same stages; they were not published": len(workload.layers) > 1,
        "a token's block goes through the transform as any other; it was not published": layer.input_kernel.one_hot,
        "LUT and FF are those of adders alone and come from no synthesis": isinstance(technology, FpgaPart),
    }
    return tuple(text for text, applies in doubts.items() if applies)


def estimate(workload: Workload, settings: Settings, technology: Technology) -> Cost:
    """Cost of one time step on the pipeline."""
    pipeline, operations = _pipeline(workload, settings.n_pe), technology.operations
    memories = _memories(workload, pipeline)
    infeasible, facts = _faults(workload, pipeline, settings)
    order = ("gates", "candidate", "element_wise", "projection")
    kernels_j = _kernel_energy(workload, pipeline, memories, operations)
    bill = Bill(
        cycles={name: pipeline.interval for name in order if name == "element_wise" or name in pipeline.stages},
        energy_j=kernels_j | step_energy(workload, memories, operations),
        fabric={
            "dsp": _multipliers(workload, pipeline),
            "ff": _adder_fabric(workload, pipeline, FF_FIT),
            "lut": _adder_fabric(workload, pipeline, LUT_FIT),
        },
        area_mm2=_area(workload, pipeline, operations),
        memories=memories,
        infeasible=infeasible,
        streams=float(pipeline.n_stages),
        facts=facts,
        unproven=_unproven(workload, technology),
    )
    return price(bill, workload, settings, technology)


CIRCULANT_FFT = AcceleratorKind(
    summary="C-LSTM and E-RNN: block-circulant kernels by FFT, a pipeline of several streams, all weights on chip",
    structures=STRUCTURES,
    estimate=estimate,
)
