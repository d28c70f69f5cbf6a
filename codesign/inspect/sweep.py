"""Costs of one design over one or two settings of its accelerator: rows, table, picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from codesign.design import Accelerator, Network, TaskShape
from codesign.errors import InputError, unknown
from codesign.hardware import COST_FIELDS, Cost, FpgaPart, Settings, estimate, technology
from codesign.hardware.cost import COUNTED, Array
from codesign.inspect.plots import FORMATS
from codesign.inspect.tables import axis_label, quantity

SETTING_UNITS = {"n_pe": "", "clock_hz": "Hz", "batch": "", "dram_bits_per_s": "bit/s", "supply_v": "V"}
"""The fields of `Settings`, which can be swept, and their units; counts have none."""

ZERO = {"dram_bits_per_s": "on chip", "supply_v": "nominal"}
"""What a setting of 0 means."""

# safe for colour blindness
LINE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MAX_TICKS = 10  # that fit below a panel


@dataclass(frozen=True)
class Sweep:
    """Costs of all combinations of swept values.

    Attributes:
        accelerator: which gives the settings that are not swept.
        values: swept, by field.
        points: every combination, the last field changing fastest; entry i is setting i of `cost`.
    """

    accelerator: Accelerator
    values: dict[str, list[float]]
    points: list[dict[str, float]]
    cost: Cost

    def rows(self) -> list[dict[str, Any]]:
        """Plain data, one row a combination."""
        return [
            {**point, **self.cost.row(i), "feasible": bool(self.cost.feasible[i]), "reasons": self.cost.reasons(i)}
            for i, point in enumerate(self.points)
        ]


def sweep(network: Network, accelerator: Accelerator, shape: TaskShape, values: Mapping[str, Sequence[float]]) -> Sweep:
    """Costs of all combinations of values, estimated in one call, in the worst case.

    Args:
        values: to try, by field of the accelerator: names of `SETTING_UNITS`.

    Raises:
        InputError: a field or the accelerator is unknown, or a value is none that hardware can have.

    Example:
        >>> from codesign.design import Accelerator, Network, TaskShape
        >>> result = sweep(Network(), Accelerator(kind="dense"), TaskShape(16, 10), {"n_pe": [8, 16]})
        >>> [row["dsp"] for row in result.rows()]
        [13, 21]
    """
    for name in values:
        if name not in SETTING_UNITS:
            raise InputError(unknown("field", name, SETTING_UNITS))
    points = [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]
    columns = {name: [point.get(name, getattr(accelerator, name)) for point in points] for name in SETTING_UNITS}
    cost = estimate(network, accelerator, shape, settings=Settings.of(**columns))
    return Sweep(accelerator, {name: list(numbers) for name, numbers in values.items()}, points, cost)


def setting_text(field: str, value: float) -> str:
    """A setting for people; all digits, so that two settings never look the same.

    >>> setting_text("clock_hz", 133.5e6), setting_text("supply_v", 0.0), setting_text("n_pe", 64)
    ('133.5 MHz', 'nominal', '64')
    """
    if value == 0 and field in ZERO:
        return ZERO[field]
    if not SETTING_UNITS[field]:
        return f"{value:.0f}"
    scale, prefix = next(((s, p) for s, p in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= s), (1.0, ""))
    return f"{value / scale:.12g} {prefix}{SETTING_UNITS[field]}"


def sweep_table(result: Sweep) -> Table:
    """The costs for a terminal; what only some rows lack stands in their last column."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = result.rows()
    figures = [name for name in COST_FIELDS if rows[0][name] is not None and name != "storage_bits"]
    for title in (*result.values, *(name.rsplit("_", 1)[0] for name in figures)):
        table.add_column(title, justify="right", no_wrap=True)
    shared = common_reasons(result)
    reasons = [[reason for reason in row["reasons"] if reason not in shared] for row in rows]
    if any(reasons):
        table.add_column("cannot run")
    for row, special in zip(rows, reasons, strict=True):
        table.add_row(
            *(setting_text(name, row[name]) for name in result.values),
            *(_cell(row[name], COST_FIELDS[name]) for name in figures),
            *(["\n".join(special)] if any(reasons) else []),
            style=None if row["feasible"] else "dim",
        )
    return table


def _cell(value: float, unit: str) -> str:
    """A figure; a count without its unit, which is the column's title."""
    return quantity(value, "" if unit in COUNTED else unit).strip()


def common_reasons(result: Sweep) -> list[str]:
    """Why no row can run, whatever its settings."""
    first, *others = [result.cost.reasons(i) for i in range(len(result.points))]
    return [reason for reason in first if all(reason in other for other in others)]


def sweep_csv(result: Sweep) -> str:
    """One line a row; what a technology does not have is left empty."""
    rows = [{**row, "reasons": "; ".join(row["reasons"])} for row in result.rows()]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def plot_sweep(result: Sweep, title: str, path: Path) -> None:
    """Draw latency, energy, and area or the scarcest FPGA resource over the first swept field.

    Each value of a second field is a line. A cross is a setting that cannot run. Axes are logarithmic where the
    values of the first field grow by a factor.

    Raises:
        InputError: if the file's ending is unknown, or it cannot be written, or there are too many lines.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: cannot draw '{path.suffix}'; use one of {', '.join(FORMATS)}")
    field, *others = result.values
    lines: list[dict[str, float]] = [{other: value} for other in others for value in result.values[other]] or [{}]
    if len(lines) > len(LINE_COLOURS):
        raise InputError(
            f"{path}: a picture holds {len(LINE_COLOURS)} lines, but {others[0]} has {len(lines)} values; "
            f"sweep {others[0]} first, or give it fewer"
        )
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D
    from matplotlib.ticker import EngFormatter

    x, feasible = np.array([point[field] for point in result.points]), result.cost.feasible
    orders = []
    for line in lines:
        mine = np.flatnonzero([line.items() <= point.items() for point in result.points])
        orders.append(mine[np.argsort(x[mine])])
    figure, axes = pyplot.subplots(1, 3, figsize=(14.1, 4.4), layout=ConstrainedLayoutEngine(w_pad=0.12))
    panels = {axis_label(name): getattr(result.cost, name) for name in ("latency_s", "energy_j")}
    for axis, (label, y) in zip(axes, (panels | _resource(result)).items(), strict=True):
        for order, colour in zip(orders, LINE_COLOURS, strict=False):
            runs, stuck = order[feasible[order]], order[~feasible[order]]
            joined = runs[x[runs] > 0]  # a setting of 0 means something else, so no line leads to it
            axis.plot(x[stuck], y[stuck], "x", color=colour, ms=4.5, alpha=0.5)
            axis.plot(x[joined], y[joined], color=colour, lw=0.8, alpha=0.5)
            axis.plot(x[runs], y[runs], "o", color=colour, ms=5)
        _scale(axis, field, result.values[field], y)
        axis.yaxis.set_major_formatter("{x:g}" if axis is axes[-1] else EngFormatter(sep=""))
        axis.set_ylabel(label, labelpad=8)
        axis.grid(True, color="#eceff4", zorder=0)
        axis.spines[["top", "right"]].set_visible(False)
    _name_scarcest(axes[-1], result, x, orders)
    handles = [
        *(Line2D([], [], marker="o", color=colour, label=f"{name} = {setting_text(name, value)}")
          for line, colour in zip(lines, LINE_COLOURS, strict=False) for name, value in line.items()),
        *([] if feasible.all() else [Line2D([], [], marker="x", ls="", color="#333", label="cannot run")]),
    ]  # fmt: skip
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8.5)
    figure.suptitle(title, fontsize=11)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        pyplot.close(figure)


def shares(result: Sweep) -> dict[str, Array]:
    """Of each resource of an FPGA part, what every row takes [%]; empty for an ASIC."""
    part = technology(result.accelerator.technology)
    if not isinstance(part, FpgaPart):
        return {}
    limits = {name: getattr(part, name) for name in ("lut", "ff", "dsp", "bram18")}
    return {name: 100 * getattr(result.cost, name) / limit for name, limit in limits.items() if limit}


def _resource(result: Sweep) -> dict[str, Array]:
    """The last panel: its label and what it shows."""
    taken = shares(result)
    if not taken:
        return {axis_label("area_mm2"): result.cost.area_mm2}
    return {f"scarcest resource [% of {result.accelerator.technology}]": np.max(list(taken.values()), axis=0)}


def _name_scarcest(axis: Any, result: Sweep, x: Array, orders: list[NDArray[np.intp]]) -> None:
    """What is scarcest, beside the points where another resource becomes so, and where the part ends."""
    taken = shares(result)
    if not taken:
        return
    axis.axhline(100, color="#333", lw=0.8, ls="--")
    table, names = np.stack(list(taken.values())), [COST_FIELDS[name] for name in taken]
    which = table.argmax(axis=0)
    places = {
        (float(x[i]), float(table[which[i], i]), names[which[i]])
        for order in orders
        for i, before in zip(order, (None, *order), strict=False)
        if before is None or which[i] != which[before]
    }
    for along, up, name in places:
        axis.annotate(name, (along, up), xytext=(4, -11), textcoords="offset points", fontsize=7, color="#555")


def evenly(values: Sequence[float]) -> bool:
    """Whether there are three values or more at equal distances.

    >>> evenly([8, 16, 24]), evenly([8, 16, 32])
    (True, False)
    """
    steps = np.diff(np.sort(values))
    return len(values) > 2 and bool(np.allclose(steps, steps[0]))


def _scale(axis: Any, field: str, settings: list[float], y: Array) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    log = min(settings) > 0 and evenly(np.log(settings).tolist())
    if log:
        axis.set_xscale("log")
        if y.max() >= 10 * y.min() > 0:
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_minor_formatter(NullFormatter())
    if len(settings) <= MAX_TICKS and (log or evenly(settings)):
        axis.set_xticks(settings)
        axis.xaxis.set_minor_locator(NullLocator())
    elif not SETTING_UNITS[field]:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.xaxis.set_major_formatter(EngFormatter(sep="") if field in ("clock_hz", "dram_bits_per_s") else "{x:g}")
    unit = f" [{SETTING_UNITS[field]}]" if SETTING_UNITS[field] else ""
    axis.set_xlabel(f"{field}{unit}" + (f"; 0: {ZERO[field]}" if 0 in settings else ""))
