"""codesign front: the Pareto front of a study."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from codesign.search.results import Results


@click.command(short_help="Show the Pareto front of a study.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw it into a .png, .svg or .pdf file.")
def front(folder: Path, as_json: bool, as_csv: bool, plot: Path | None) -> None:
    """Show the Pareto front of the study in FOLDER; the knee is marked."""
    from codesign.search.results import Results

    if as_json and as_csv:
        raise click.UsageError("--json cannot be used with --csv")
    results = Results(folder)
    rows = results.front()
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
        print_front(results)


def print_front(results: "Results") -> None:
    """The front as a table, with what was searched above it."""
    from codesign.cli.console import console
    from codesign.inspect.tables import front_table

    rows = results.front()
    out = console()
    task = results.task
    if not rows:
        out.print(f"{results.folder}: no design is trained yet")
        return
    states = [trial.state for trial in results.records.trials()]
    confirmed = "confirmed" if rows[0].error_test is not None else "one seed, not confirmed yet"
    out.print(
        f"{results.space.name}: {task.label}, {states.count('trained')} designs trained, "
        f"{states.count('refused')} refused by their cost; front of {len(rows)}, {confirmed}"
    )
    out.print(front_table(rows, results.objectives, task.metric, results.knee(rows)))
