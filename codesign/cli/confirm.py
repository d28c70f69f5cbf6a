"""codesign confirm: several seeds for the front, then the test data, once."""

from pathlib import Path

import click


@click.command(short_help="Retrain the front with several seeds, then test it once.")
@click.argument("folder", type=click.Path(path_type=Path))
def confirm(folder: Path) -> None:
    """Retrain every member of the front in FOLDER with several seeds, then look at the test data once.

    A search ends with this; the command is for studies that were stopped before.
    """
    from codesign.cli.data import offer
    from codesign.cli.front import print_front
    from codesign.cli.progress import study_progress
    from codesign.search.results import Results

    space = Results(folder).space
    offer(space.task)
    with study_progress() as show:
        from codesign.search.study import Study

        study = Study(space, folder)
        study.confirm(show)
    print_front(study.results)
