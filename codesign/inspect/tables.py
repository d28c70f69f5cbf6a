"""Fronts as tables for people, and as CSV for machines."""

import csv
import io
from typing import Any

from pydantic import BaseModel
from rich.table import Table

from codesign.design import Kernel
from codesign.hardware import COST_FIELDS
from codesign.search.results import FrontRow
from codesign.tasks import Metric

_PREFIXES = ((1e-12, "p"), (1e-9, "n"), (1e-6, "µ"), (1e-3, "m"), (1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"))
_PER_STEP = frozenset({"cycles", "latency_s", "energy_j"})
_SI_UNITS = frozenset({"s", "J", "W", "Hz", "bit", "steps/s"})


def quantity(value: float | int | None, unit: str) -> str:
    """A number with its unit, scaled by an SI prefix where that is customary.

    >>> quantity(6.38e-6, "s"), quantity(766, "LUT"), quantity(None, "mm2")
    ('6.38 µs', '766 LUT', '-')
    """
    if value is None:
        return "-"
    if unit not in _SI_UNITS:
        return f"{value:,.0f} {unit}" if float(value).is_integer() else f"{value:,.4g} {unit}"
    scale, prefix = next(((s, p) for s, p in reversed(_PREFIXES) if abs(value) >= s), _PREFIXES[0])
    return f"{value / scale:.3g} {prefix}{unit}"


def axis_label(cost: str) -> str:
    """A cost as the title of an axis.

    >>> axis_label("latency_s"), axis_label("lut")
    ('latency_s of one step [s]', 'lut [LUT]')
    """
    per_step = " of one step" if cost in _PER_STEP else ""
    return f"{cost}{per_step} [{COST_FIELDS[cost]}]"


def kind_label(record: BaseModel) -> str:
    """A member of a family in a few words: its kind, then its parameters.

    >>> from codesign.design import Fixed
    >>> kind_label(Fixed(bits=6))
    'fixed 6'
    """
    values = record.model_dump()
    kind = values.pop("kind")
    return " ".join([kind, *(f"{value:g}" if isinstance(value, float) else str(value) for value in values.values())])


def kernel_label(kernel: Kernel) -> str:
    """Structure and word length, for instance "block_circulant 4, 6 bit"."""
    return f"{kind_label(kernel.structure)}, {kernel.weights.word_length} bit"


def describe(row: FrontRow) -> dict[str, str]:
    """A design in words, by column title."""
    network = row.design.network
    size = f"{network.layers} x {network.hidden}" if network.layers > 1 else str(network.hidden)
    return {
        "network": f"{network.cell} {size}" + (f", embedding {network.embedding}" if network.embedding else ""),
        "input kernel": kernel_label(network.input_kernel),
        "recurrent kernel": kernel_label(network.recurrent_kernel),
        "threshold": f"{network.state_threshold:.3g}",
        "activations": f"{network.activations.word_length} bit",
        "PEs": str(row.design.accelerator.n_pe),
    }


def columns(row: FrontRow, objectives: tuple[str, ...], metric: Metric) -> dict[str, str]:
    """All cells of a row: trial, design, errors in the task's unit, the costs searched for, stored bits."""
    costs = [name for name in dict.fromkeys((*objectives[1:], "storage_bits", "energy_j"))]
    return {
        "trial": str(row.trial),
        **describe(row),
        f"val {metric.title}": metric.text(row.error_val, row.error_val_std),
        f"test {metric.title}": metric.text(row.error_test),
        **{name.rsplit("_", 1)[0]: quantity(row.cost[name], COST_FIELDS[name]) for name in costs},
        "on front": "-" if row.p_front is None else f"{100 * row.p_front:.0f} %",
    }


def front_table(rows: list[FrontRow], objectives: tuple[str, ...], metric: Metric, knee: FrontRow | None) -> Table:
    """The front for a terminal; the knee is marked."""
    table = Table(header_style="bold", pad_edge=False, box=None, padding=(0, 1))
    if not rows:
        return table
    for title in columns(rows[0], objectives, metric):
        table.add_column(title, justify="right" if title not in describe(rows[0]) else "left")
    table.add_column("")
    for row in rows:
        is_knee = row is knee
        table.add_row(
            *columns(row, objectives, metric).values(), "<- knee" if is_knee else "", style="bold" if is_knee else ""
        )
    return table


def flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one level of dotted names."""
    out: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, dict):
            out |= flat(value, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = " ".join(map(str, value)) if isinstance(value, list) else value
    return out


def front_csv(rows: list[FrontRow]) -> str:
    """One line a member; designs of different kinds leave each other's columns empty."""
    flat_rows = [flat(row.as_dict()) for row in rows]
    titles = list(dict.fromkeys(title for row in flat_rows for title in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, titles, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat_rows)
    return text.getvalue()
