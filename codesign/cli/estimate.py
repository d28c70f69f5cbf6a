"""codesign estimate: what a design costs, without training it."""

import json
from pathlib import Path

import click


@click.command(short_help="Cost of one design, with its breakdown; no training.")
@click.argument("design", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def estimate(design: Path, as_json: bool) -> None:
    """Cost of the design in DESIGN, a TOML file with the tables task, network and accelerator.

    The figures are those of the worst case, in which no state is zero.
    """
    from codesign.design_file import read_design
    from codesign.errors import InputError
    from codesign.hardware import COST_FIELDS
    from codesign.hardware import estimate as cost_of

    point, task = read_design(design)
    try:
        cost = cost_of(point.network, point.accelerator, task.shape)
    except InputError as error:
        raise InputError(*(f"{design}: {fault}" for fault in error.faults)) from None
    row, reasons = cost.row(), cost.reasons()
    parts = {name: {part: float(v[0]) for part, v in table.items()} for name, table in cost.breakdown.items()}
    if as_json:
        data = {**row, "feasible": not reasons, "reasons": reasons, "breakdown": parts}
        click.echo(json.dumps({**data, "unproven": list(cost.unproven)}, indent=2))
        return
    from rich.table import Table

    from codesign.cli.console import console
    from codesign.inspect.tables import quantity

    out = console()
    out.print(f"{point.accelerator.kind} on {point.accelerator.technology}, one step of {task.label}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, side in (("figure", "left"), ("total", "right"), ("of which", "left")):
        table.add_column(title, justify="right" if side == "right" else "left")
    for name, unit in COST_FIELDS.items():
        if row[name] is not None:
            shares = sorted(parts.get(name, {}).items(), key=lambda item: -item[1])
            text = ", ".join(f"{part} {quantity(value, unit)}" for part, value in shares if value)
            table.add_row(name, quantity(row[name], unit), text)
    out.print(table)
    for reason in reasons:
        out.print(f"cannot run: {reason}")
    for sentence in cost.unproven:
        out.print(f"unproven: {sentence}")
