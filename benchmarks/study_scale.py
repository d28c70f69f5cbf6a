"""What does a study's bookkeeping take when the study is large, and do many workers lose anything?

    python -m benchmarks.study_scale [--trials N] [--only STORAGE]

Studies on SQLite, PostgreSQL and MariaDB are filled with random designs, whose accuracies are *made up*, and the engine
goes on with NSGA-II; only the trainings are left out. Written down is what its last trials before 100, 1,000, 2,000 and
10,000 took:

    ask       Optuna's sampler, and the design it stands for
    tell      Optuna's storage: the trial written down, and later told
    rest      everything else: costs, leases, our own records, front and hypervolume

and how long it takes to open such a study and read its front, and the memory. Then eight worker processes share a study
on PostgreSQL, whose trainings only sleep. Servers are those of the tests (the extra "test", and Debian's
mariadb-server); one that is missing is left out with a line. Writes results/reference/study_scale.md and .json; about
half an hour.
"""

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import BaseTrial, TrialState

from benchmarks.learning_curves import SPACE
from benchmarks.replayed import Replayed, as_trained
from codesign.design import Design, Recipe, digest
from codesign.search.leases import Leases
from codesign.search.proposals import Proposals, stored_study, suggested
from codesign.search.records import TRAINED, Records, TrainingRecord, TrialRecord
from codesign.search.results import Results
from codesign.search.samplers import POPULATION
from codesign.search.space import SearchSpace, load_search_space
from codesign.search.trainings import Job
from codesign.search.worker import Worker
from tests.search import servers

OUTPUT = Path(__file__).parent.parent / "results" / "reference" / "study_scale"
SIZES = (100, 1_000, 2_000, 10_000)
LAST = 40
"""Trials before each size over which the median is taken."""

STORAGES: dict[str, Any] = {"sqlite": None, "postgresql": servers.PostgreSQL, "mariadb": servers.MariaDB}
AIM_MS, AIM_TRIALS = 50.0, 2_000
N_WORKERS, SHARED_TRIALS, TRAINING_S = 8, 240, 0.5

Row = dict[str, Any]


class Timed(Proposals):
    """Proposals that add up what Optuna takes."""

    def __init__(self, space: SearchSpace, records: Records, stored: optuna.Study) -> None:
        self.spent = {"ask": 0.0, "tell": 0.0}
        super().__init__(space, records, stored)

    @contextmanager
    def _timing(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.spent[part] += time.perf_counter() - began

    def ask(self) -> optuna.Trial:
        """Timed."""
        with self._timing("ask"):
            return super().ask()

    def design(self, trial: BaseTrial) -> tuple[Design, Recipe]:
        """Timed."""
        with self._timing("ask"):
            return super().design(trial)

    def put(self, trial: optuna.Trial, violations: Mapping[str, float]) -> bool:
        """Timed."""
        with self._timing("tell"):
            return super().put(trial, violations)

    def tell(self, number: int, values: Sequence[float]) -> None:
        """Timed."""
        with self._timing("tell"):
            super().tell(number, values)


def made_up(job: Job) -> list[float]:
    """Errors that nobody measured: larger layers and longer words are better, and there is luck."""
    luck = np.random.default_rng(int(job.key, 16) % 2**32).normal() * 0.01
    network = job.network
    bits = getattr(network.recurrent_kernel.weights, "bits", 8)
    error = 0.2 + 1.5 / network.hidden + 0.3 / 2**bits + abs(luck)
    return [error] * job.recipe.total_epochs


def opened(folder: Path, url: str | None, trials: int) -> tuple[SearchSpace, Results, Timed]:
    """A study of the search space of `benchmarks.search_efficiency` in which every trial is a network of its own."""
    space = load_search_space(SPACE).changed(sampler="nsga2", train_once=False, rungs=0, trials=trials)
    records = Records(folder, create=True, url=url, study=space.name)
    records.set("search_space", space.text)
    if records.get("box") is None:
        records.set("box", {"ideal": [0.2, -7.0, 2.0], "reference": [0.5, -2.0, 5.0]})
    results = Results(folder, url, space.name)
    results.space, results.records = space, records
    return space, results, Timed(space, records, stored_study(space, records))


def measure(storage: str, sizes: Sequence[int], answers: Any) -> None:
    """One storage, in a process of its own; a row a size."""
    with tempfile.TemporaryDirectory(prefix="codesign-") as folder, ExitStack() as stack:
        stack.callback(answers.put, None)
        try:
            server = STORAGES[storage] and stack.enter_context(STORAGES[storage]())
        except pytest.skip.Exception as reason:
            answers.put(f"{storage}: {reason}")
            return
        url = server and server.new()
        for size in sizes:
            answers.put({"storage": storage, **_until(Path(folder), url, size)})


def fill(space: SearchSpace, records: Records, stored: optuna.Study, size: int) -> None:
    """Random designs that count as trained, until there are so many trials."""
    number = len(stored.get_trials(deepcopy=False))
    draft = optuna.create_study(directions=stored.directions, sampler=optuna.samplers.RandomSampler(number))
    while number < size:
        trial = draft.ask()
        design, recipe = suggested(space, trial)
        cost = space.cost(design)
        if cost.reasons():
            continue
        row, seed = cost.row(), space.settings.seed
        for name in ("runs", "lut", "ff", "dsp", "bram18", *(f"limit {name}" for name in space.limits)):
            trial.set_constraint(name, 0.0)
        job = Job(digest(number), design.network, recipe, seed, (recipe.total_epochs,))
        errors = made_up(job)
        drawn = draft.get_trials(deepcopy=False)[trial.number]
        told = optuna.trial.create_trial(
            params=drawn.params,
            distributions=drawn.distributions,
            values=[errors[-1], *(float(np.log10(float(row[name] or 0.0))) for name in space.objectives[1:])],
            system_attrs={**drawn.system_attrs, "NSGAIISampler:generation": number // POPULATION},
        )
        records.put_training(as_trained(TrainingRecord(job.key, seed), job, errors))
        plain = design.model_dump(mode="json"), recipe.model_dump(mode="json")
        records.put_trial(TrialRecord(number, TRAINED, *plain, job.key, seed, [], row))
        records.add_event(0.5)
        stored.add_trial(told)
        number += 1


def _until(folder: Path, url: str | None, size: int) -> Row:
    """A study taken to so many trials, and what the last of them took."""
    space, results, proposals = opened(folder, url, size)
    fill(space, results.records, proposals.stored, size - 2 * LAST)
    marks: list[tuple[float, float, float]] = []

    def on_progress(phase: str) -> None:
        marks.append((time.perf_counter(), proposals.spent["ask"], proposals.spent["tell"]))

    began = time.perf_counter()
    with Leases(results.records) as leases:
        worker = Worker(space, results, proposals, leases, on_progress)
        Replayed(worker, 1, made_up)
        worker.search()
    total, ask, tell = (1e3 * np.diff(np.array(marks[-LAST - 1 :]), axis=0)).T
    reading = time.perf_counter()
    front = Results(folder, url, space.name).front()
    done = time.perf_counter()
    return {
        "trials": size,
        "ask_ms": round(float(np.median(ask)), 1),
        "tell_ms": round(float(np.median(tell)), 1),
        "ask_and_tell_ms": round(float(np.median(ask + tell)), 1),
        "rest_ms": round(float(np.median(total - ask - tell)), 1),
        "run_s": round(reading - began, 1),
        "front_s": round(done - reading, 2),
        "front": len(front),
        "memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def work(folder: str, url: str) -> None:
    """One of many workers of a study, whose trainings only sleep."""
    space, results, proposals = opened(Path(folder), url, SHARED_TRIALS)

    def slow(job: Job) -> list[float]:
        time.sleep(TRAINING_S)
        return made_up(job)

    with Leases(results.records) as leases:
        worker = Worker(space, results, proposals, leases)
        Replayed(worker, 1, slow)
        worker.search()


def shared() -> Row | str:
    """Eight workers on one PostgreSQL: what was lost, and what was done twice."""
    with tempfile.TemporaryDirectory(prefix="codesign-") as folder:
        try:
            server = STORAGES["postgresql"]().__enter__()
        except pytest.skip.Exception as reason:
            return f"eight workers: {reason}"
        try:
            url = server.new()
            _, results, proposals = opened(Path(folder), url, SHARED_TRIALS)
            context = multiprocessing.get_context("spawn")
            processes = [context.Process(target=work, args=(folder, url)) for _ in range(N_WORKERS)]
            began = time.monotonic()
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            seconds = time.monotonic() - began
            trials, stored = results.records.trials(), proposals.stored.get_trials()
            trained = [trial for trial in trials if trial.state == TRAINED]
            events = [event.number for event in results.records.events()]
            return {
                "workers": N_WORKERS,
                "ended_well": sum(process.exitcode == 0 for process in processes),
                "wanted": SHARED_TRIALS,
                "trained": len(trained),
                "numbers_without_gap": [trial.number for trial in trials] == list(range(len(trials))),
                "trainings": len(results.records.trainings()),
                "finished_in_optuna": sum(trial.state.is_finished() for trial in stored),
                "complete_in_optuna": Counter(trial.state for trial in stored)[TrialState.COMPLETE],
                "proposed": len(trials),
                "events": len(events),
                "events_without_gap": events == list(range(len(events))),
                "leases_left": len(results.records.leases()),
                "same_design_twice": len(trained) - len({(t.network_key, t.seed) for t in trained}),
                "seconds": round(seconds, 1),
                "training_seconds": SHARED_TRIALS * TRAINING_S,
            }
        finally:
            server.__exit__()


def markdown(content: dict[str, Any]) -> str:
    """The tables for people."""
    lines = [
        "# Large studies",
        "",
        "`python -m benchmarks.study_scale`: the engine with NSGA-II, every trial a network of its own, accuracies",
        f"*made up*, no trainings. Medians over the last {LAST} trials before each size, milliseconds a trial.",
        "",
        "| storage | trials | ask | tell | ask and tell | rest | front read in s | memory in MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        lines.append(
            f"| {row['storage']} | {row['trials']:,} | {row['ask_ms']} | {row['tell_ms']} | {row['ask_and_tell_ms']} "
            f"| {row['rest_ms']} | {row['front_s']} | {row['memory_mib']} |"
        )
    at_aim = [row for row in content["rows"] if row["trials"] == AIM_TRIALS]
    for row in at_aim:
        verdict = "met" if row["ask_and_tell_ms"] < AIM_MS else "**missed**"
        figure = f"{row['ask_and_tell_ms']} ms at {AIM_TRIALS:,} trials"
        lines += ["", f"Aim on {row['storage']}: ask and tell below {AIM_MS:g} ms, {figure}: {verdict}."]
    shared_run = content.get("shared")
    if shared_run:
        lines += ["", f"{shared_run['workers']} workers on PostgreSQL, trainings that sleep {TRAINING_S:g} s:", ""]
        lines += [f"- {name.replace('_', ' ')}: {value}" for name, value in shared_run.items() if name != "workers"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Every storage in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=SIZES[-1], help="of the largest study")
    parser.add_argument("--only", choices=[*STORAGES, "shared"], help="this part alone; the others stay as they are")
    options = parser.parse_args()
    sizes = [size for size in SIZES if size <= options.trials] or [options.trials]
    before = json.loads(OUTPUT.with_suffix(".json").read_text()) if OUTPUT.with_suffix(".json").exists() else {}
    rows: list[Row] = before.get("rows", []) if options.only else []
    found: Row | str | None = before.get("shared") if options.only else None
    context = multiprocessing.get_context("spawn")
    for storage in STORAGES:
        if options.only not in (None, storage):
            continue
        rows = [row for row in rows if row["storage"] != storage]
        answers = context.Queue()
        process = context.Process(target=measure, args=(storage, sizes, answers))
        process.start()
        while isinstance(answer := answers.get(), dict):
            print(answer, file=sys.stderr)
            rows.append(answer)
        if answer is not None:  # why it was left out
            print(answer, file=sys.stderr)
        process.join()
    if options.only in (None, "shared"):
        found = shared()
        if isinstance(found, str):
            print(found, file=sys.stderr)
            found = None
    content = {"rows": rows, "shared": found, "cores": os.cpu_count()}
    OUTPUT.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    table = markdown(content)
    OUTPUT.with_suffix(".md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
