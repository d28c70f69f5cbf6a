"""codesign tasks: what can be learned."""

import click


@click.command(short_help="List the tasks, and the readers of your own data.")
def tasks() -> None:
    """List the tasks, the parts of their data, and the readers of a user's own data with their options."""
    from rich.table import Table

    from codesign.cli.console import console
    from codesign.tasks import READERS, TASKS

    built_in = Table("task", "subsets", "inputs", "classes", "error is", "what", box=None, pad_edge=False)
    for name, kind in TASKS.items():
        task = kind()
        shape = task.shape
        inputs = f"{shape.n_inputs} tokens" if shape.tokens else str(shape.n_inputs)
        summary = kind.summary + (f" (synthetic: {kind.synthetic})" if kind.synthetic else "")
        subsets, n_outputs = ", ".join(kind.subsets()), str(shape.n_outputs)
        built_in.add_row(name, subsets, inputs, n_outputs, task.metric.what, summary)
    readers = Table("reader", "options", "what", box=None, pad_edge=False)
    for name, kind in READERS.items():
        readers.add_row(name, ", ".join(field for field in kind.model_fields if field != "reader"), kind.summary)
    out = console()
    out.print(built_in)
    out.print()
    out.print(readers)
