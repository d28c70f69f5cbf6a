"""codesign tasks: what can be learned."""

import click


@click.command(short_help="List the tasks.")
def tasks() -> None:
    """List the tasks and the parts of their data."""
    from rich.table import Table

    from codesign.cli.console import console
    from codesign.tasks import TASKS

    table = Table("task", "subsets", "inputs", "classes", "what", "source", box=None, pad_edge=False)
    for task in TASKS.values():
        subsets = ", ".join(task.subsets)
        table.add_row(task.name, subsets, str(task.n_inputs), str(task.n_outputs), task.summary, task.source)
    console().print(table)
