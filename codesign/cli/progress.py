"""The progress bar of a study, on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from codesign.search.study import Progress as StudyProgress

UNITS = {"search": "trials", "confirm": "trainings"}


@contextmanager
def study_progress() -> Iterator[Callable[["StudyProgress"], None]]:
    """A bar with trials, front size, hypervolume and time left; plain lines where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield _print_line
        return
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        console=Console(stderr=True),
    )
    with bar:
        tasks = {"start": bar.add_task("starting", total=None, facts="")}

        def show(state: "StudyProgress") -> None:
            if state.phase not in tasks:
                for old in tasks.values():
                    bar.update(old, visible=False)
                tasks[state.phase] = bar.add_task(f"{state.phase}: {UNITS[state.phase]}", total=state.total, facts="")
            bar.update(tasks[state.phase], completed=state.done, facts=_facts(state))

        yield show


def _print_line(state: "StudyProgress") -> None:
    print(
        f"{state.phase}: {state.done}/{state.total} {UNITS[state.phase]}, {_facts(state)}", file=sys.stderr, flush=True
    )


def _facts(state: "StudyProgress") -> str:
    stopped = f", {state.stopped} stopped early" if state.stopped else ""
    return (
        f"front {state.front_size}, hypervolume {100 * state.hypervolume:.1f} %, "
        f"{state.refused} refused before training{stopped}"
    )


def warn(line: str) -> None:
    """A line about what was damaged and is done again."""
    print(f"codesign: {line}", file=sys.stderr, flush=True)
