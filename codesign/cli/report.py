"""codesign report: one self-contained page about a study."""

from pathlib import Path

import click


@click.command(short_help="Write one self-contained HTML page.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--to", "path", type=click.Path(path_type=Path), help="File to write.  [default: FOLDER/report.html]")
def report(folder: Path, path: Path | None) -> None:
    """Write one HTML page about the study in FOLDER: interactive plots, table, provenance. No network needed."""
    from codesign.inspect.report import write_report
    from codesign.search.results import Results

    target = path or folder / "report.html"
    write_report(Results(folder), target)
    click.echo(f"wrote {target}", err=True)
