"""codesign search: run a study, or go on with it."""

from pathlib import Path

import click


@click.command(short_help="Run a study, or resume it.")
@click.argument("search_space", type=click.Path(path_type=Path))
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Results folder.  [default: results/NAME]")
@click.option("--trials", type=click.IntRange(min=1), help="Designs to train instead of the file's number.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that share the cores."
)
@click.option("--storage", metavar="URL", help="Database of the study.  [default: SQLite in the folder]")
@click.option("--artifacts", metavar="URL", help="s3://BUCKET for weights and checkpoints.  [default: the folder]")
@click.option("--stop-when-flat", is_flag=True, help="End the search when more training hardly pays.")
def search(
    search_space: Path,
    folder: Path | None,
    trials: int | None,
    workers: int,
    storage: str | None,
    artifacts: str | None,
    stop_when_flat: bool,
) -> None:
    """Run the study of SEARCH_SPACE (a TOML file), or resume it.

    Designs that cannot run or break a limit are recorded and not trained. At the end every member of the
    front is trained with several seeds and tested once. Ctrl-C stops after the epoch that is running; the
    same command goes on.
    """
    from codesign.cli.data import offer
    from codesign.cli.progress import study_progress, warn
    from codesign.search.space import load_search_space

    space = load_search_space(search_space)
    offer(space.task)
    if trials is not None:
        space = space.changed(trials=trials)
    if stop_when_flat:
        space = space.changed(stop_when_flat=True)
    with study_progress() as show:
        from codesign.search.study import Study

        study = Study(space, folder, storage, artifacts)
        study.run(show, warn, workers)
    from codesign.cli.front import print_front

    print_front(study.results)
