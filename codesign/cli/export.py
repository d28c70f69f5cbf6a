"""codesign export: hand over one design of a front."""

from pathlib import Path

import click

from codesign.cli import quantities
from codesign.errors import InputError


class FieldLimit(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic from click 8.4 on
    """FIELD=VALUE."""

    name = "FIELD=VALUE"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """A field's name and a number."""
        from codesign.hardware import COST_FIELDS

        try:
            return quantities.limit(value, {"error": "", **COST_FIELDS})
        except InputError as error:
            self.fail(str(error), param, ctx)


@click.command(short_help="Export a design: its configuration and integer weights.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--trial", type=int, help="A trial by its number.")
@click.option("--knee", is_flag=True, help="The knee of the front (the default).")
@click.option("--best", metavar="FIELD", help="The member with the smallest FIELD (error or a cost).")
@click.option("--max", "limits", type=FieldLimit(), multiple=True, help="Only members with FIELD <= VALUE.")
@click.option("--to", "target", required=True, type=click.Path(path_type=Path), help="Folder to write.")
def export(
    folder: Path,
    trial: int | None,
    knee: bool,
    best: str | None,
    limits: tuple[tuple[str, float], ...],
    target: Path,
) -> None:
    """Export a design of the study in FOLDER: design.toml and weights.safetensors."""
    if (trial is not None) + knee + (best is not None) > 1:
        raise click.UsageError("--trial, --knee and --best exclude each other")
    if trial is not None and limits:
        raise click.UsageError("--max cannot be used with --trial")
    from codesign.search.results import Results

    results = Results(folder)
    row = results.choose(trial, best, dict(limits))
    from codesign.export.folder import export_design

    export_design(results, row, target)
    click.echo(f"wrote trial {row.trial} to {target}", err=True)
