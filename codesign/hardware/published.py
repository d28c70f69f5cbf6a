"""Every published figure that the model can be held against, with what stands behind the comparison.

A row's `evidence` says what its deviation is worth:

    prediction   nothing that goes in was computed from the figure
    transfer     a constant was set on another row of the same machine, or the model leaves out what the
                 figure contains; areas and energies
    identity     both sides say the same thing
    fit          an input was computed back from the figure
    calibrated   a constant of the model was set on this row

Only predictions of figures that are known (tags V, C, S, M+) are evidence, and must hold within
`TOLERANCE`; transfers should hold within `AIM`. All else is shown and never counted. Tags as in `technology`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from codesign.compression import TensorStructure
from codesign.design import Accelerator, Activity, Kernel, Network, TaskShape
from codesign.hardware.accelerators import accelerator_kind
from codesign.hardware.accelerators.coarse_grain import CHIP, CHIP_SHAPE
from codesign.hardware.accelerators.kind import Settings
from codesign.hardware.cost import Cost
from codesign.hardware.technology import technology
from codesign.hardware.workload import workload

Evidence = Literal["prediction", "transfer", "identity", "fit", "calibrated"]

TOLERANCE = 0.03
AIM = 0.25
KNOWN = ("V", "C", "S", "M+")
"""Tags of figures that may decide something."""

TERA, GIGA, MICRO, MILLI, KIBIBYTE = 1e12, 1e9, 1e-6, 1e-3, 8192


@dataclass(frozen=True)
class Figure:
    """A published figure and the model's.

    Attributes:
        number: groups the figures of one design.
        published, unit: as printed there.
        modelled: computes the model's figure, in the same unit.
        inputs: what goes in, each with its tag.
    """

    number: int
    design: str
    quantity: str
    published: float
    unit: str
    tag: str
    evidence: Evidence
    modelled: Callable[[], float]
    inputs: str

    @property
    def deviation(self) -> float:
        """Relative, of the modelled figure."""
        return self.modelled() / self.published - 1.0

    @property
    def decides(self) -> bool:
        """Whether a deviation beyond `TOLERANCE` is a fault of the model."""
        return self.evidence == "prediction" and self.tag in KNOWN


def _cost(kind: str, network: Network, shape: TaskShape, activity: Activity | None = None, **accelerator: Any) -> Cost:
    """Figures also of sizes that the part is not believed to reach."""
    on = Accelerator(kind=kind, **accelerator)
    found = accelerator_kind(kind)
    return found.estimate(workload(network, shape, activity), Settings.of_accelerator(on), technology(on.technology))


def _part(cost: Cost, figure: str, *names: str) -> float:
    return float(sum(cost.breakdown[figure][name][0] for name in names))


def _network(weights: Any, structure: Any = "dense", **fields: Any) -> Network:
    """One LSTM layer whose kernels are all alike."""
    kernel = {"structure": structure, "weights": weights}
    kernels = {"input_kernel": kernel, "recurrent_kernel": kernel}
    segments = {"kind": "piecewise_linear", "segments": 32}
    return Network.model_validate({"cell": "lstm", "activation_function": segments} | kernels | fields)


def _fixed(bits: int) -> dict[str, Any]:
    return {"kind": "fixed", "bits": bits}


KERNELS = ("input_kernel", "recurrent_kernel")


# Wang, Lin, Wang, TVLSI 2017


def _wang() -> Cost:
    circulant = {"kind": "block_circulant", "block_size": 512}
    network = _network(_fixed(8), circulant, hidden=512, activation_function="hard")
    return _cost("chessboard", network, TaskShape(512, 1), technology="asic90", n_pe=2048, clock_hz=600e6)


def _wang_seconds() -> float:
    cost = _wang()
    return float(cost.latency_s[0]) * (1 - _part(cost, "cycles", "head") / float(cost.cycles[0]))


# Ardakani, Ji, Gross, DATE 2019


def _skipping(batch: int) -> float:
    """Operations of the dense kernels in a second."""
    chip: dict[str, Any] = {"technology": "asic65", "n_pe": 192, "clock_hz": 200e6, "dram_bits_per_s": 51.2e9}
    cost = _cost("sparse_state", _network(_fixed(8), hidden=300), TaskShape(300, 10), batch=batch, **chip)
    return 2 * batch * 4 * 300 * 600 / (_part(cost, "cycles", *KERNELS, "dram_wait") / 200e6)


def _skipping_gain() -> float:
    chip: dict[str, Any] = {
        "technology": "asic65",
        "n_pe": 192,
        "clock_hz": 200e6,
        "dram_bits_per_s": 51.2e9,
        "batch": 8,
    }
    shape, activity = TaskShape(50, 50, tokens=True), ({8: {1: tuple(float(n == 192) for n in range(1001))}},)
    networks = (_network(_fixed(8), hidden=1000, state_threshold=threshold) for threshold in (0.0, 0.1))
    full, skipped = (
        _part(_cost("sparse_state", network, shape, seen, **chip), "cycles", "recurrent_kernel")
        for network, seen in zip(networks, (None, activity), strict=True)
    )
    return full / skipped


# Ardakani et al., ICLR 2019


def _lanes(weights: Any, n_pe: int = 100) -> Cost:
    """char-PTB with weights outside the chip, on a memory for which no lane waits."""
    words = {"activations": _fixed(12), "head_weights": _fixed(12), "batch_norm": "frozen"}
    chip: dict[str, Any] = {"technology": "asic65", "n_pe": n_pe, "clock_hz": 400e6, "dram_bits_per_s": 1e13}
    return _cost("binary_ternary", _network(weights, hidden=1000, **words), TaskShape(50, 50), **chip)


def _lane_rate(weights: Any) -> float:
    return 2 * 4 * 1000 * 1050 / (_part(_lanes(weights), "cycles", *KERNELS) / 400e6)


def _datapath_mm2(weights: Any) -> float:
    return _part(_lanes(weights), "area_mm2", "lanes", "element_wise", "buffer_memory")


def _datapath_w(weights: Any) -> float:
    cost = _lanes(weights)
    parts = [f"{kernel}_{part}" for kernel in KERNELS for part in ("macs", "weights", "activations")]
    return _part(cost, "energy_j", *parts) * 400e6 / _part(cost, "cycles", *KERNELS)


def _weight_bits(weights: Any) -> float:
    return _part(_lanes(weights), "storage_bits", *KERNELS)


# C-LSTM, FPGA 2018, and E-RNN, HPCA 2019


def _google(cell: str, block: int, bits: int) -> Network:
    structure = {"kind": "block_circulant", "block_size": block} if block > 1 else "dense"
    fields: dict[str, Any] = {"cell": cell, "hidden": 1024, "activations": _fixed(bits), "head_weights": _fixed(bits)}
    if cell == "lstm":
        kernel = Kernel.model_validate({"structure": structure, "weights": _fixed(bits)})
        fields |= {"projection": 512, "peephole": True, "projection_kernel": kernel}
    return _network(_fixed(bits), structure, **fields)


def _fft(cell: str, block: int, bits: int, part: str, n_pe: int, clock_hz: float = 200e6) -> Cost:
    shape = TaskShape(153, 1)
    return _cost("circulant_fft", _google(cell, block, bits), shape, technology=part, n_pe=n_pe, clock_hz=clock_hz)


def _kernel_bits(network: Network) -> int:
    storage = workload(network, TaskShape(153, 1)).storage
    return storage["input_kernel"] + storage["recurrent_kernel"] + storage.get("projection", 0)


def _koios_clocks() -> float:
    cost = _cost("circulant_fft", _google("lstm", 16, 16), TaskShape(160, 1), technology="xcku060", n_pe=5)
    return 2 * _part(cost, "cycles", "gates")


# HCGS, ESSCIRC 2019 and JSSC 2020


def _hcgs(clock_hz: float = 80e6, supply_v: float = 1.1, layers: int = 3) -> Cost:
    chip: dict[str, Any] = {"technology": "asic65", "n_pe": 64, "clock_hz": clock_hz, "supply_v": supply_v}
    return _cost("coarse_grain", CHIP.model_copy(update={"layers": layers}), CHIP_SHAPE, **chip)


def _hcgs_rate(cost: Cost, clock_hz: float) -> float:
    """Operations of the uncompressed network in a second, before the tail."""
    return 2 * 3 * 4 * 512 * 1024 / (_part(cost, "cycles", *KERNELS) / clock_hz)


def _hcgs_w(clock_hz: float, supply_v: float) -> float:
    """Without the output layer, which is not published."""
    cost = _hcgs(clock_hz, supply_v)
    energy = {name: float(part[0]) for name, part in cost.breakdown["energy_j"].items()}
    bare = sum(joules for name, joules in energy.items() if name not in ("leakage", "overhead"))
    layers = sum(j for name, j in energy.items() if not name.startswith(("head", "leakage", "overhead")))
    cycles = float(cost.cycles[0]) - _part(cost, "cycles", "head")
    leakage_w = energy["leakage"] * float(cost.throughput[0])
    return layers * (1 + energy["overhead"] / bare) * clock_hz / cycles + leakage_w


def _hcgs_efficiency(clock_hz: float, supply_v: float) -> float:
    cost = _hcgs(clock_hz, supply_v)
    cycles = float(cost.cycles[0]) - _part(cost, "cycles", "head")
    return 2 * 3 * 4 * 512 * 1024 * clock_hz / cycles / _hcgs_w(clock_hz, supply_v)


def _hcgs_mm2() -> float:
    cost = _hcgs()
    return float(cost.area_mm2[0]) - _part(cost, "area_mm2", "head_memory")


# TIE, ISCA 2019, and tensor-train LSTM, ICML 2017


def _train(col_modes: str, gates: int = 1) -> float:
    """Weights of a rank-4 train."""
    modes = [int(mode) for mode in col_modes.split("x")]
    row_modes = "x".join("4" * len(modes))
    structure = {"kind": "tensor_train", "modes": len(modes), "rank": 4, "row_modes": row_modes, "col_modes": col_modes}
    kernel = Kernel.model_validate({"structure": structure})
    assert isinstance(kernel.structure, TensorStructure)
    return float(kernel.structure.counts(gates, 4 ** len(modes), prod(modes)).n_words)


def _compression(col_modes: str) -> float:
    modes = [int(mode) for mode in col_modes.split("x")]
    return float(4 ** len(modes) * prod(modes)) / _train(col_modes)


def _tie() -> Cost:
    def kernel(col_modes: str) -> dict[str, Any]:
        structure = {"kind": "tensor_train", "rank": 4, "row_modes": "4x4x4x4", "col_modes": col_modes}
        return {"structure": structure, "weights": _fixed(16)}

    words = {"activations": _fixed(16), "head_weights": _fixed(16)}
    kernels = {"input_kernel": kernel("8x20x20x18"), "recurrent_kernel": kernel("4x4x4x4")}
    network = Network.model_validate({"cell": "lstm", "hidden": 256, **words, **kernels})
    chip: dict[str, Any] = {"technology": "asic28", "n_pe": 256, "clock_hz": 1e9}
    return _cost("tensor_contraction", network, TaskShape(57_600, 11), **chip)


_WANG = "8 matrices of 512x512 (V), 2048 units and 600 MHz (M-), 90 nm (V)"
_SKIP = "192 units, 200 MHz, 51.2 Gbit/s, 8 bits, 65 nm (M)"
_ICLR = "lanes, 400 MHz, 12-bit baseline, 65 nm (M+)"
_GOOGLE = "LSTM-1024, projection 512, 153 inputs (M+)"
_HCGS = "3 layers of 512 on 512 inputs, 16x, 6 bits (V), 64 units (M)"
_TIE = "256 units of 16 bits, 1 GHz, 28 nm (M+)"

FULL, BINARY, TERNARY = _fixed(12), "binary", "ternary"


def _boards(
    number: int, design: str, network: tuple[str, int, int], on: tuple[str, int, float], tag: str
) -> tuple[Figure, Figure]:
    """Rate, latency of one FPGA design; PEs and clock come from the published rate."""

    def of(field: str) -> Callable[[], float]:
        return lambda: float(getattr(_fft(*network, *on), field)[0])

    published = {12: (195_313, 15.4), 13: (371_095, 8.1), 14: (179_687, 16.7), 17: (240_389, 12.9)}
    rate, latency_us = (published | {18: (284_463, 10.5), 19: (464_582, 6.5)})[number]
    inputs = f"{_GOOGLE if network[0] == 'lstm' else 'GRU-1024 (M+)'}, block {network[1]}, {network[2]} bits, "
    inputs += f"{on[1]} products a cycle at {on[2] / 1e6:g} MHz (from the rate)"
    stages = "3 stages" + ("" if network[0] == "lstm" else ", chosen knowing the recalled latency")
    evidence: Evidence = "prediction" if network[0] == "lstm" else "fit"
    return (
        Figure(number, design, "rate", rate, "frames/s", tag, "fit", of("throughput"), inputs),
        Figure(
            number,
            design,
            "latency",
            latency_us,
            "us",
            tag,
            evidence,
            lambda: of("latency_s")() / MICRO,
            f"{inputs}, {stages}",
        ),
    )


PUBLISHED: tuple[Figure, ...] = (
    Figure(1, "Wang 2017", "latency", 1.71, "us", "V", "fit", lambda: _wang_seconds() / MICRO, _WANG),
    Figure(
        1,
        "Wang 2017",
        "rate of the whole network",
        2.46,
        "TOPS",
        "V",
        "fit",
        lambda: 2 * 8 * 512**2 / _wang_seconds() / TERA,
        _WANG,
    ),
    Figure(
        2, "Wang 2017", "area", 30.77, "mm2", "V", "transfer", lambda: float(_wang().area_mm2[0]), f"{_WANG}, 8 bits"
    ),
    Figure(
        3, "state skipping, 8 streams", "dense rate", 76.8, "GOPS", "M+", "identity", lambda: _skipping(8) / GIGA, _SKIP
    ),
    Figure(
        5,
        "state skipping, 8 streams",
        "gain on the recurrent kernel",
        5.2,
        "x",
        "V",
        "fit",
        _skipping_gain,
        "LSTM-1000, 80.8 % of the columns zero in all streams (computed back from the gain)",
    ),
    Figure(6, "ICLR 2019, 12 bits", "rate", 80.0, "GOPS", "M+", "identity", lambda: _lane_rate(FULL) / GIGA, _ICLR),
    Figure(7, "ICLR 2019, binary", "rate", 80.0, "GOPS", "M+", "identity", lambda: _lane_rate(BINARY) / GIGA, _ICLR),
    Figure(8, "ICLR 2019, ternary", "rate", 80.0, "GOPS", "M+", "identity", lambda: _lane_rate(TERNARY) / GIGA, _ICLR),
    Figure(6, "ICLR 2019, 12 bits", "area", 2.56, "mm2", "M", "calibrated", lambda: _datapath_mm2(FULL), _ICLR),
    Figure(7, "ICLR 2019, binary", "area", 0.24, "mm2", "M", "transfer", lambda: _datapath_mm2(BINARY), _ICLR),
    Figure(8, "ICLR 2019, ternary", "area", 0.42, "mm2", "M", "transfer", lambda: _datapath_mm2(TERNARY), _ICLR),
    Figure(6, "ICLR 2019, 12 bits", "power", 336.0, "mW", "M", "transfer", lambda: _datapath_w(FULL) / MILLI, _ICLR),
    Figure(7, "ICLR 2019, binary", "power", 37.0, "mW", "M", "transfer", lambda: _datapath_w(BINARY) / MILLI, _ICLR),
    Figure(8, "ICLR 2019, ternary", "power", 61.0, "mW", "M", "transfer", lambda: _datapath_w(TERNARY) / MILLI, _ICLR),
    Figure(
        11,
        "ICLR 2019",
        "weight memory saved",
        12.0,
        "x",
        "V",
        "identity",
        lambda: _weight_bits(FULL) / _weight_bits(BINARY),
        "12-bit words against 1-bit words (V)",
    ),
    *_boards(12, "C-LSTM block 8, KU060", ("lstm", 8, 16), ("xcku060", 50, 200e6), "M+"),
    *_boards(13, "C-LSTM block 16, KU060", ("lstm", 16, 16), ("xcku060", 24, 200e6), "M+"),
    *_boards(14, "C-LSTM block 8, 7V3", ("lstm", 8, 16), ("xc7vx690t", 50, 184e6), "M+"),
    Figure(
        14,
        "C-LSTM block 8, 7V3",
        "board power",
        22.0,
        "W",
        "M+",
        "calibrated",
        lambda: float(_fft("lstm", 8, 16, "xc7vx690t", 50, 184e6).power_w[0]),
        "the factor of all FPGA energies is set on it, transforms and spectral words left out",
    ),
    *(
        Figure(
            16,
            f"C-LSTM block {block}",
            "compression",
            ratio,
            "x",
            "M+",
            "prediction",
            lambda block=block: _kernel_bits(_google("lstm", 1, 16)) / _kernel_bits(_google("lstm", block, 16)),  # type: ignore[misc]
            f"{_GOOGLE}, inputs padded to whole blocks",
        )
        for block, ratio in ((8, 7.9), (16, 15.9))
    ),
    *_boards(17, "E-RNN LSTM block 8, 7V3", ("lstm", 8, 12), ("xc7vx690t", 62, 200e6), "M"),
    *_boards(18, "E-RNN GRU block 8, 7V3", ("gru", 8, 12), ("xc7vx690t", 81, 200e6), "M"),
    *_boards(19, "E-RNN GRU block 16, 7V3", ("gru", 16, 12), ("xc7vx690t", 33, 200e6), "M"),
    *(
        Figure(
            number,
            design,
            "board power",
            watt,
            "W",
            "M",
            "transfer",
            lambda cell=cell, block=block, n_pe=n_pe: float(_fft(cell, block, 12, "xc7vx690t", n_pe).power_w[0]),  # type: ignore[misc]
            "factor of row 14, 12 bits, products a cycle from the rate",
        )
        for number, design, watt, cell, block, n_pe in (
            (17, "E-RNN LSTM block 8, 7V3", 24.0, "lstm", 8, 62),
            (18, "E-RNN GRU block 8, 7V3", 22.0, "gru", 8, 81),
            (19, "E-RNN GRU block 16, 7V3", 29.0, "gru", 16, 33),
        )
    ),
    Figure(
        20,
        "Koios clstm small",
        "clocks of the input phase",
        5376,
        "cycles",
        "S",
        "prediction",
        _koios_clocks,
        "block 16, 160 inputs, one PE a gate; its buffer gives a block every second clock (C)",
    ),
    Figure(
        21,
        "ESE",
        "ideal time of 32 frames",
        57.0,
        "us",
        "M+",
        "fit",
        lambda: 32 * 3.248e6 * 0.112 / 1024 / 200e6 / MICRO,
        "no kind of ours: 3.248 M weights, 11.2 %, 1024 PEs, 200 MHz, batch 32 (M+)",
    ),
    Figure(
        21,
        "ESE",
        "rate of the dense network",
        2.52,
        "TOPS",
        "V",
        "identity",
        lambda: 32 * 2 * 3.248e6 / 82.7e-6 / TERA,
        "no kind of ours: batch 32 in 82.7 us (M+)",
    ),
    Figure(
        22,
        "HCGS",
        "weight memory",
        288,
        "KiB",
        "V",
        "prediction",
        lambda: _part(_hcgs(), "storage_bits", *KERNELS) / KIBIBYTE,
        _HCGS,
    ),
    Figure(
        23,
        "HCGS",
        "rate of the whole network",
        0.16,
        "TOPS",
        "V",
        "prediction",
        lambda: _hcgs_rate(_hcgs(), 80e6) / TERA,
        f"{_HCGS}, 80 MHz (V), before the tail",
    ),
    Figure(
        24,
        "HCGS, 80 MHz",
        "power",
        67.3,
        "mW",
        "M+",
        "calibrated",
        lambda: _hcgs_w(80e6, 1.1) / MILLI,
        f"{_HCGS}, 1.1 V",
    ),
    Figure(
        24,
        "HCGS, 80 MHz",
        "efficiency",
        2.45,
        "TOPS/W",
        "V",
        "calibrated",
        lambda: _hcgs_efficiency(80e6, 1.1) / TERA,
        f"{_HCGS}, 1.1 V: the same power",
    ),
    Figure(
        24,
        "HCGS, 8 MHz",
        "power",
        1.85,
        "mW",
        "M+",
        "transfer",
        lambda: _hcgs_w(8e6, 0.68) / MILLI,
        "energy factor of 80 MHz, V^2 from 1.1 to 0.68 V",
    ),
    Figure(
        24,
        "HCGS, 8 MHz",
        "efficiency",
        8.93,
        "TOPS/W",
        "V",
        "transfer",
        lambda: _hcgs_efficiency(8e6, 0.68) / TERA,
        "energy factor of 80 MHz, V^2 from 1.1 to 0.68 V",
    ),
    Figure(
        25, "HCGS", "area", 7.74, "mm2", "V", "transfer", _hcgs_mm2, f"{_HCGS}, multipliers, adders and memories alone"
    ),
    Figure(27, "TIE", "area", 1.74, "mm2", "V", "transfer", lambda: float(_tie().area_mm2[0]), f"{_TIE}, LSTM-UCF11"),
    Figure(
        27,
        "TIE",
        "power",
        154.8,
        "mW",
        "M",
        "transfer",
        lambda: float(_tie().power_w[0]) / MILLI,
        f"{_TIE}, LSTM-UCF11",
    ),
    *(
        Figure(
            28,
            f"TIE {name}",
            "compression",
            ratio,
            "x",
            "M+",
            "prediction",
            lambda modes=modes: _compression(modes),  # type: ignore[misc]
            f"modes {modes} to 4 each, rank 4 (M+)",
        )
        for name, modes, ratio in (
            ("FC6", "2x7x8x8x7x4", 50_972),
            ("FC7", "4x4x4x4x4x4", 14_564),
            ("LSTM-UCF11", "8x20x20x18", 4_954),
            ("LSTM-Youtube", "4x20x20x36", 4_608),
        )
    ),
    Figure(
        30,
        "TT-LSTM",
        "weights of the input kernel",
        3360,
        "words",
        "M+",
        "prediction",
        lambda: _train("8x20x20x18", gates=4),
        "57,600 to 4 x 256, rank 4 (M+)",
    ),
    Figure(
        32,
        "Spartus",
        "rate of the dense network",
        9.4,
        "TOPS",
        "V",
        "fit",
        lambda: 512 * 2 * 200e6 * 46 / TERA,
        "no kind of ours: 512 units at 200 MHz (C), the published gain of 46",
    ),
    Figure(
        33,
        "DeltaRNN",
        "rate of the dense network",
        1.2,
        "TOPS",
        "V",
        "fit",
        lambda: 768 * 2 * 125e6 * 5.7 / TERA,
        "no kind of ours: 768 units at 125 MHz (M), the published gain of 5.7",
    ),
    Figure(
        34,
        "EdgeDRNN",
        "rate of the dense network",
        20.2,
        "GOPS",
        "V",
        "fit",
        lambda: 8 * 2 * 125e6 * 10 / GIGA,
        "no kind of ours: 8 PEs at 125 MHz (M), the published gain of 10",
    ),
    Figure(
        35,
        "EIE",
        "area of 64 PEs",
        40.8,
        "mm2",
        "C",
        "identity",
        lambda: 64 * 0.638,
        "no kind of ours: 0.638 mm2 a PE (C)",
    ),
)
"""In the order of the literature."""


@dataclass(frozen=True)
class Comparison:
    """A figure, computed."""

    figure: Figure
    modelled: float

    @property
    def deviation(self) -> float:
        """Relative."""
        return self.modelled / self.figure.published - 1.0

    @property
    def verdict(self) -> str:
        """In a word: whether a prediction or a transfer holds; empty for what is no evidence."""
        if self.figure.decides:
            return "holds" if abs(self.deviation) <= TOLERANCE else "fails"
        if self.figure.evidence == "prediction":
            return "recalled"
        if self.figure.evidence == "transfer":
            return "near" if abs(self.deviation) <= AIM else "missed"
        return ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data; the deviation in percent."""
        figure = self.figure
        return {
            "design": figure.design,
            "quantity": figure.quantity,
            "unit": figure.unit,
            "published": figure.published,
            "modelled": self.modelled,
            "deviation": 100 * self.deviation,
            "tag": figure.tag,
            "kind": figure.evidence,
            "verdict": self.verdict,
            "inputs": figure.inputs,
        }


def compare() -> list[Comparison]:
    """All published figures with the model's."""
    return [Comparison(figure, figure.modelled()) for figure in PUBLISHED]
