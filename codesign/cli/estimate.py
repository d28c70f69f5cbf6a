"""codesign estimate: what a design costs, without training it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codesign.cli import quantities
from codesign.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from codesign.hardware import Cost
    from codesign.inspect.sweep import Sweep


@click.command(short_help="Cost of one design, or of a sweep of its settings; no training.")
@click.argument("design", type=click.Path(path_type=Path))
@click.option("--sweep", "sweeps", metavar="FIELD=VALUES", multiple=True, help="Try settings; twice for two fields.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the sweep into a .png, .svg or .pdf file.")
@click.option("--max", "most", metavar="FIGURE=VALUE", multiple=True, help="Find the fewest PEs within a limit.")
@click.option("--min", "least", metavar="throughput=VALUE", multiple=True, help="The same, for steps per second.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the sweep as CSV.")
def estimate(
    design: Path,
    sweeps: tuple[str, ...],
    plot: Path | None,
    most: tuple[str, ...],
    least: tuple[str, ...],
    as_json: bool,
    as_csv: bool,
) -> None:
    """Cost of the design in DESIGN, a TOML file with the tables task, network and accelerator.

    The figures are those of the worst case, in which no state is zero.

    \b
    --sweep tries settings in the place of the file's:
        n_pe=8:64:8                  from 8 to 64 in steps of 8
        n_pe=8:2048:x2               from 8 to 2048, each twice the one before
        clock_hz=100MHz,200MHz       these two
    Its fields: n_pe, clock_hz, batch, dram_bits_per_s (51.2Gbit/s), supply_v (1.1V).

    --max latency_s=50us finds the smallest n_pe that keeps the limit, at the file's other settings; so does
    --min throughput=20k. Several limits hold together.
    """
    if as_json and as_csv:
        raise click.UsageError("--json cannot be used with --csv")
    if sweeps and (most or least):
        raise click.UsageError("--max and --min cannot be used with --sweep")
    if not sweeps and (as_csv or plot is not None):
        raise click.UsageError("--csv and --plot need --sweep")
    from codesign.design_file import read_design
    from codesign.hardware import estimate as cost_of
    from codesign.hardware.sizing import limits_text, next_smaller, smallest
    from codesign.inspect.sweep import sweep

    settings, limits = _settings(sweeps), _limits(most, least)
    point, task = read_design(design)
    network, accelerator = point.network, point.accelerator
    title = f"{accelerator.kind} on {accelerator.technology}, one step of {task.label}"
    if settings:
        with _faults_of(design):
            result = sweep(network, accelerator, task.shape, settings)
        _show_sweep(result, title, plot, as_json, as_csv)
        return
    found: dict[str, Any] = {}
    lines = [title]
    with _faults_of(design):
        if limits:
            accelerator = smallest(network, accelerator, task.shape, limits)
            smaller = next_smaller(network, accelerator, task.shape, limits)
            found = {"n_pe": accelerator.n_pe, "next_smaller": asdict(smaller) if smaller else None}
            misses = f"n_pe = {smaller.n_pe} has {' and '.join(smaller.missed)}" if smaller else "none below it can run"
            lines.append(f"n_pe = {accelerator.n_pe} is the smallest with {limits_text(limits)}; {misses}")
        cost = cost_of(network, accelerator, task.shape)
    _show_cost(cost, lines, found, as_json)


def _settings(texts: tuple[str, ...]) -> dict[str, list[float]]:
    """Values to try, by field."""
    from codesign.knobs import Reader

    reader = Reader("--sweep")
    read = [reader.attempt(quantities.sweep, text) for text in texts]
    reader.finish()
    settings = dict(pair for pair in read if pair)
    if len(settings) < len(texts):
        raise InputError("--sweep: a field is given twice; give one list of its values, as n_pe=8,12,16")
    if len(settings) > 2:
        raise InputError(f"--sweep: at most two fields can be swept at once, got {', '.join(settings)}")
    n_points = prod(len(values) for values in settings.values())
    if n_points > quantities.MAX_VALUES:
        raise InputError(f"--sweep: {n_points} settings are more than {quantities.MAX_VALUES}; take larger steps")
    return settings


def _limits(most: tuple[str, ...], least: tuple[str, ...]) -> dict[str, float]:
    """Limits by figure; each must be on the side on which the figure is worse."""
    from codesign.hardware import COST_FIELDS
    from codesign.hardware.sizing import wants_more
    from codesign.knobs import Reader

    limits: dict[str, float] = {}
    for option, text in (*(("--max", text) for text in most), *(("--min", text) for text in least)):
        reader = Reader(option)
        figure, value = reader.attempt(lambda text: quantities.limit(text, COST_FIELDS), text) or ("", 0.0)
        reader.finish()
        right, better = ("--min", "more") if wants_more(figure) else ("--max", "less")
        if option != right:
            raise InputError(f"{option}: {text}: of {figure}, {better} is better; use {right}")
        if figure in limits:
            raise InputError(f"{option}: {figure} is limited twice; give the tighter limit alone")
        limits[figure] = value
    return limits


@contextmanager
def _faults_of(design: Path) -> Iterator[None]:
    """Faults within begin with the file's name."""
    try:
        yield
    except InputError as error:
        raise InputError(*(f"{design}: {fault}" for fault in error.faults)) from None


def _show_cost(cost: "Cost", lines: list[str], found: dict[str, Any], as_json: bool) -> None:
    """One setting with its breakdown, below `lines`; in JSON behind what was found."""
    from codesign.hardware import COST_FIELDS

    row, reasons = cost.row(), cost.reasons()
    parts = {name: {part: float(v[0]) for part, v in table.items()} for name, table in cost.breakdown.items()}
    if as_json:
        data = {**found, **row, "feasible": not reasons, "reasons": reasons, "breakdown": parts}
        click.echo(json.dumps({**data, "unproven": list(cost.unproven)}, indent=2))
        return
    from rich.table import Table

    from codesign.inspect.tables import quantity

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, side in (("figure", "left"), ("total", "right"), ("of which", "left")):
        table.add_column(title, justify="right" if side == "right" else "left")
    for name, unit in COST_FIELDS.items():
        if row[name] is not None:
            shares = sorted(parts.get(name, {}).items(), key=lambda item: -item[1])
            text = ", ".join(f"{part} {quantity(value, unit)}" for part, value in shares if value)
            table.add_row(name, quantity(row[name], unit), text)
    _print(lines, table, reasons, cost)


def _show_sweep(result: "Sweep", title: str, plot: Path | None, as_json: bool, as_csv: bool) -> None:
    """A picture, rows for machines or a table; a table only where nothing else is asked for."""
    from codesign.inspect.sweep import common_reasons, plot_sweep, sweep_csv, sweep_table

    if plot is not None:
        plot_sweep(result, title, plot)
        click.echo(f"wrote {plot}", err=True)
    if as_json:
        click.echo(json.dumps(result.rows(), indent=2))
    elif as_csv:
        click.echo(sweep_csv(result), nl=False)
    elif plot is None:
        _print([title], sweep_table(result), common_reasons(result), result.cost)


def _print(lines: list[str], table: "Table", reasons: list[str], cost: "Cost") -> None:
    """A table between what it is of and what must be known about it."""
    from codesign.cli.console import console

    out = console()
    for line in lines:
        out.print(line)
    out.print(table)
    for reason in reasons:
        out.print(f"cannot run: {reason}")
    for sentence in cost.unproven:
        out.print(f"unproven: {sentence}")
