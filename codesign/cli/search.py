"""codesign search: run a study, or go on with it."""

from pathlib import Path

import click


@click.command(short_help="Run a study, or resume it.")
@click.argument("search_space", type=click.Path(path_type=Path))
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Results folder.  [default: results/NAME]")
@click.option("--trials", type=click.IntRange(min=1), help="Designs to train instead of the file's number.")
def search(search_space: Path, folder: Path | None, trials: int | None) -> None:
    """Run the study of SEARCH_SPACE (a TOML file), or resume it.

    Designs that cannot run or break a limit are recorded and not trained. At the end every member of the
    front is trained with several seeds and tested once. Ctrl-C stops at any moment; the same command goes on.
    """
    from codesign.cli.data import offer
    from codesign.cli.progress import study_progress
    from codesign.search.space import load_search_space

    space = load_search_space(search_space)
    offer(space.task)
    if trials is not None:
        space = space.with_trials(trials)
    with study_progress() as show:
        from codesign.search.study import Study

        study = Study(space, folder)
        study.run(show)
    from codesign.cli.front import print_front

    print_front(study.results)
