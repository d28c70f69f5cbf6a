"""codesign worker: one more process or machine joins a study."""

from pathlib import Path

import click


@click.command(short_help="Join a study that is being run, as one more worker.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--storage", metavar="URL", help="Database of the study, on a machine that does not share FOLDER.")
@click.option("--study", metavar="NAME", help="Its name there, where the database holds several.")
def worker(folder: Path, storage: str | None, study: str | None) -> None:
    """Work on the study in FOLDER, which `codesign search` has begun, until nothing is left to be done.

    On a machine that does not share the folder, FOLDER is any place for what this worker keeps, and --storage names
    the database. Weights are shared through what the search was given as --artifacts.
    """
    from codesign.cli.data import offer
    from codesign.cli.progress import study_progress, warn
    from codesign.search.results import Results

    offer(Results(folder, storage, study).task)
    with study_progress() as show:
        from codesign.search.study import join

        join(folder, storage, study).work(show, warn)
