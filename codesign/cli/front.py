"""codesign front: the Pareto front of a study."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from codesign.knobs import Scalar
    from codesign.search.results import FrontRow, Results


@click.command(short_help="Show the Pareto front of a study.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw it into a .png, .svg or .pdf file.")
@click.option("--what-if", "changes", metavar="FIELD=VALUES", multiple=True, help="Another accelerator.")
@click.option("--max", "most", metavar="FIGURE=VALUE", multiple=True, help="Another limit.")
def front(
    folder: Path, as_json: bool, as_csv: bool, plot: Path | None, changes: tuple[str, ...], most: tuple[str, ...]
) -> None:
    """Show the Pareto front of the study in FOLDER; the knee is marked.

    What if the chip were another one? Networks that are trained are costed anew, in a second, none is trained:

    \b
    --what-if technology=asic28 --what-if kind=dense --what-if n_pe=8:64:x2 --what-if clock_hz=200MHz
    --max latency_s=20us --max lut=2000
    """
    from codesign.search.results import Results

    if as_json and as_csv:
        raise click.UsageError("--json cannot be used with --csv")
    results = Results(folder)
    asked = bool(changes or most)
    if asked and plot is not None:
        raise click.UsageError("--plot shows the study's own front; leave --what-if and --max out")
    rows = results.what_if(*_changed(changes, most, results.space.limits)) if asked else results.front()
    if plot is not None:
        from codesign.inspect.plots import plot_front

        plot_front(results, plot)
        click.echo(f"wrote {plot}", err=True)
    if as_json:
        click.echo(json.dumps([row.as_dict() for row in rows], indent=2))
    elif as_csv:
        from codesign.inspect.tables import front_csv

        click.echo(front_csv(rows), nl=False)
    elif plot is None:
        print_front(results, rows if asked else None)


def _changed(
    changes: tuple[str, ...], most: tuple[str, ...], limits: dict[str, float]
) -> tuple[dict[str, list["Scalar"]], dict[str, float]]:
    """Values by field of the accelerator, and limits: the study's own where no other is given."""
    from codesign.cli import quantities
    from codesign.hardware import COST_FIELDS
    from codesign.knobs import Reader

    values: dict[str, list[Scalar]] = {}
    reader = Reader("--what-if")
    for text in changes:
        field, _, names = text.partition("=")
        if field in ("kind", "technology"):
            values[field] = list(names.split(","))
        elif (found := reader.attempt(quantities.sweep, text)) is not None:
            values[found[0]] = list(found[1])
    reader.finish()
    reader = Reader("--max")
    given = [reader.attempt(lambda text: quantities.limit(text, COST_FIELDS), text) for text in most]
    reader.finish()
    return values, limits | dict(pair for pair in given if pair is not None)


def print_front(results: "Results", rows: "list[FrontRow] | None" = None) -> None:
    """The front as a table, with what was searched above it; `rows` are those of a what-if."""
    from codesign.cli.console import console
    from codesign.inspect.tables import front_table

    changed = rows is not None
    rows = results.front() if rows is None else rows
    out = console()
    task = results.task
    if not rows:
        out.print(f"{results.folder}: no design is trained yet")
        return
    counts = results.records.count_trials()
    confirmed = "confirmed" if rows[0].error_test is not None else "one seed, not confirmed yet"
    stopped = f"{counts['stopped']} stopped early, " if counts["stopped"] else ""
    what = "what-if front" if changed else "front"
    out.print(
        f"{results.space.name}: {task.label}, {counts['trained']} designs trained, {stopped}"
        f"{counts['refused']} refused by their cost; {what} of {len(rows)}, {confirmed}"
    )
    out.print(front_table(rows, results.objectives, task.metric, results.knee(rows)))
    if not changed and (sentence := results.enough()):
        out.print(sentence)
