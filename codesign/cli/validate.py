"""codesign validate: the cost model against every published figure."""

import json

import click


@click.command(short_help="The cost model against every published figure.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def validate(as_json: bool) -> None:
    """Compare the cost model with every published figure that was found.

    Only predictions of figures that were read, simulated or confirmed are evidence; recalled figures, fits,
    identities and calibrations are shown and never counted. Exit status 1 if such a prediction fails.
    """
    from codesign.errors import CodesignError
    from codesign.hardware.published import AIM, TOLERANCE, compare

    found = compare()
    decisive = [one for one in found if one.figure.decides]
    failed = [one for one in decisive if one.verdict == "fails"]
    if as_json:
        click.echo(json.dumps([one.as_dict() for one in found], indent=2))
    else:
        from rich.table import Table

        from codesign.cli.console import console

        out = console()
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("design", "quantity", "published", "modelled", "deviation", "tag", "kind", ""):
            right = title in ("published", "modelled", "deviation")
            table.add_column(title, justify="right" if right else "left", no_wrap=title != "design")
        for one in found:
            figure = one.figure
            table.add_row(
                figure.design,
                figure.quantity,
                f"{figure.published:,g} {figure.unit}",
                f"{one.modelled:,.4g} {figure.unit}" if one.modelled < 1e4 else f"{one.modelled:,.0f} {figure.unit}",
                f"{100 * one.deviation:+.1f} %",
                figure.tag,
                figure.evidence,
                one.verdict,
            )
        out.print(table)
        out.print(
            f"\n{len(decisive) - len(failed)} of {len(decisive)} predictions of known figures hold within "
            f"{100 * TOLERANCE:g} %; transfers aim at {100 * AIM:g} %. Fits, identities, calibrations and recalled "
            "figures (tag M) are no evidence."
        )
    if failed:
        lines = (f"{one.figure.design}, {one.figure.quantity}: {100 * one.deviation:+.1f} %" for one in failed)
        raise CodesignError("\n".join(f"{line} is more than a prediction may be off" for line in lines))
