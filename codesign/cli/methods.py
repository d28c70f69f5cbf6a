"""codesign methods: kernel structures, weight and number formats, activation functions, batch normalisation."""

import click


@click.command(short_help="List structures, formats, activation functions and normalisations.")
def methods() -> None:
    """List what a network may be made of, with the parameters of each kind."""
    from rich.table import Table

    from codesign.cli.console import console
    from codesign.compression import STRUCTURES, TENSOR_STRUCTURES
    from codesign.design import ACTIVATION_FUNCTIONS, BATCH_NORMS, NUMBER_FORMATS, WEIGHT_FORMATS

    table = Table("family", "kind", "parameters", "what", box=None, pad_edge=False)
    families = (
        ("structure", STRUCTURES),
        ("tensor structure", TENSOR_STRUCTURES),
        ("weight format", WEIGHT_FORMATS),
        ("number format", NUMBER_FORMATS),
        ("activation function", ACTIVATION_FUNCTIONS),
        ("batch normalisation", BATCH_NORMS),
    )
    for family, members in families:
        for kind, member in members.items():
            parameters = ", ".join(name for name in member.model_fields if name != "kind")
            table.add_row(family, kind, parameters, (member.__doc__ or "").splitlines()[0])
    console().print(table)
