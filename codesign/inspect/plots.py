"""The front as a picture."""

from math import log10
from pathlib import Path

from codesign.errors import InputError
from codesign.hardware import COST_FIELDS
from codesign.inspect.tables import axis_label
from codesign.search.results import FrontRow, Results

COLOURS = {"dense": "#4c566a", "block_circulant": "#0072b2", "coarse_grain": "#d55e00"}  # safe for colour blindness
OTHER = "#333"  # structures without a colour of their own
MAX_LABELS = 20  # numbers beside points that can be told apart
MARKERS = {"lstm": "s", "gru": "o"}
FORMATS = (".png", ".svg", ".pdf")


def plot_front(results: Results, path: Path) -> None:
    """Write error against every cost that was searched for, one panel each.

    Colour is the structure of the recurrent kernel, shape the cell; bars are the standard deviation over
    seeds; a line joins the accelerators of one network, and where there is room for them the numbers beside
    the points are PEs; faint points were dominated.

    Raises:
        InputError: if the file's ending is unknown or the front is empty.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: cannot draw '{path.suffix}'; use one of {', '.join(FORMATS)}")
    front = results.front()
    if not front:
        raise InputError(f"{results.folder}: no design is trained yet; run the search first")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D
    from matplotlib.ticker import EngFormatter, NullFormatter

    costs = results.objectives[1:]
    figure, axes = pyplot.subplots(
        1, len(costs), figsize=(1.5 + 4.7 * len(costs), 4.6), sharey=True, squeeze=False, layout="constrained"
    )
    knee, scale = results.knee(front), results.task.metric.scale
    members = {(row.network_key, row.design.accelerator) for row in front}
    dominated = [row for row in results.trained() if (row.network_key, row.design.accelerator) not in members]
    labelled = len(front) <= MAX_LABELS
    for axis, cost in zip(axes[0], costs, strict=True):
        axis.scatter(
            [row.cost[cost] for row in dominated],
            [scale * row.error_search for row in dominated],
            s=14, color="#c8ccd4", zorder=1,
        )  # fmt: skip
        for key in dict.fromkeys(row.network_key for row in front):
            mine = sorted((row for row in front if row.network_key == key), key=lambda row: row.cost[cost] or 0)
            colour = COLOURS.get(mine[0].design.network.recurrent_kernel.structure.kind, OTHER)
            x, y = [row.cost[cost] for row in mine], [scale * row.error_val for row in mine]
            axis.plot(x, y, color=colour, linewidth=0.8, alpha=0.5, zorder=1)
        for row in front:
            _draw(axis, row, cost, scale, row is knee, labelled)
        axis.set_xscale("log")
        scaled = cost.endswith(("_s", "_j", "_w"))
        axis.xaxis.set_major_formatter(EngFormatter(COST_FIELDS[cost] if scaled else ""))
        axis.xaxis.set_minor_formatter(NullFormatter() if _decades(front, cost) > 1 else EngFormatter(""))
        axis.set_xlabel(axis_label(cost))
        axis.grid(True, which="both", color="#eceff4", zorder=0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel(f"validation {results.task.metric.title}")
    present = {row.design.network.recurrent_kernel.structure.kind for row in front}
    cells = {row.design.network.cell for row in front}
    handles = [
        *(Line2D([], [], marker="o", ls="", color=COLOURS[kind], label=f"{kind} recurrent kernel")
          for kind in COLOURS if kind in present),
        *(Line2D([], [], marker=MARKERS[cell], ls="", color="#888", label=cell.upper())
          for cell in MARKERS if cell in cells),
        Line2D([], [], marker="o", ls="", mfc="none", mec="black", ms=11, label="knee"),
        Line2D([], [], marker="o", ls="", color="#c8ccd4", ms=4, label="dominated"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8.5)
    task = results.task
    figure.suptitle(
        f"{results.space.name}: {task.label}, {len(front)} designs on the front"
        + (" (labels: PEs)" if labelled else f" from {len({row.network_key for row in front})} networks"),
        fontsize=11,
    )
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        pyplot.close(figure)


def _draw(axis, row: FrontRow, cost: str, scale: float, is_knee: bool, labelled: bool) -> None:  # type: ignore[no-untyped-def]
    network = row.design.network
    x, y = row.cost[cost], scale * row.error_val
    colour = COLOURS.get(network.recurrent_kernel.structure.kind, OTHER)
    axis.errorbar(
        x, y, yerr=scale * (row.error_val_std or 0.0), fmt=MARKERS[network.cell], color=colour, ms=6, lw=1, zorder=3
    )
    if is_knee:
        axis.plot(x, y, "o", mfc="none", mec="black", ms=13, zorder=4)
    if not labelled:
        return
    label = str(row.design.accelerator.n_pe)
    axis.annotate(label, (x, y), xytext=(5, 5), textcoords="offset points", fontsize=7, color="#555")


def _decades(rows: list[FrontRow], cost: str) -> float:
    values = [row.cost[cost] or 1.0 for row in rows]
    return log10(max(values) / min(values))
