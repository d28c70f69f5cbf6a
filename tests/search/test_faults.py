"""Workers that die, sleep or run out of memory; files that are damaged. No finished trial is lost, none counted twice,
and what was in flight goes on from its last rung under its own number."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codesign import training
from codesign.search.records import FAILED, PROPOSED, STOPPED, TRAINED, Records
from codesign.search.study import Study
from tests.search.test_study import outcome
from tests.tiny import tiny_space

ROOT = Path(__file__).parents[2]
SEARCH = {"trials": 5, "confirm_seeds": 1, "rungs": 1, "reduction": 2}

HEAD = """
import os, signal, sys, time
from codesign.search import proposals, records, trainings
from codesign.search.study import Study, join
from tests.tiny import tiny_space
folder, search = sys.argv[1], {search!r}
def die(): os.kill(os.getpid(), signal.SIGKILL)
"""
RUN = "\nStudy(tiny_space(epochs=2, **search), folder).run()\n"


def space(**search):
    return tiny_space(epochs=2, **(SEARCH | search))


def start(script, folder, **search):
    """A process of its own that runs a script on a study."""
    text = HEAD.replace("{search!r}", repr(SEARCH | search)) + script
    return subprocess.Popen([sys.executable, "-c", text, str(folder)], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def run_dead(script, folder, **search):
    """Run a script that kills itself."""
    process = start(script, folder, **search)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, errors


def until(condition, seconds=120):
    """Wait for something that other processes do."""
    for _ in range(seconds * 20):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("nothing happened")


def under_way(folder):
    """Trials that are being trained, as another process sees them."""
    try:
        return [trial for trial in Records(folder).trials() if trial.state == PROPOSED]
    except Exception:
        return []


def sound(folder, **search):
    """What must hold after any fault."""
    study = Study(space(**search), folder)
    records = study.records
    trials, trainings = records.trials(), records.trainings()
    assert [trial.number for trial in trials] == list(range(len(trials)))
    states = [trial.state for trial in trials]
    assert PROPOSED not in states
    assert states.count(TRAINED) + states.count(STOPPED) == (SEARCH | search)["trials"]
    frozen = study.proposals.stored.get_trials()
    assert len(frozen) == len(trials) and all(trial.state.is_finished() for trial in frozen)
    assert records.leases() == {}
    for run in trainings.values():
        epochs = [epochs for epochs, _ in run.rungs]
        assert epochs == sorted(set(epochs)) and (run.state != TRAINED or epochs[-1] == run.epochs == len(run.losses))
    kept = {run.weights for run in trainings.values()} - {None}
    assert kept <= {path.name for path in study.results.artifacts.folder.iterdir()}
    return study


@pytest.fixture(scope="module")
def through(tmp_path_factory):
    """The study without any fault."""
    folder = tmp_path_factory.mktemp("through") / "study"
    Study(space(), folder).run()
    return outcome(folder)


AT_A_RUNG = """
put = records.Records.put_training
def once(self, record, owner=None):
    put(self, record, owner)
    if record.checkpoint and not os.path.exists(folder + "/died"):
        open(folder + "/died", "w").close(); die()
records.Records.put_training = once
"""
IN_AN_EPOCH = """
advance = trainings.training.advance
def dying(checkpoints, task, epochs, on_epoch):
    return advance(checkpoints, task, epochs, lambda done, now: die() if done == 2 else on_epoch(done, now))
trainings.training.advance = dying
"""
BEFORE_THE_RECORD = """
put = trainings.Artifacts.put
def dying(self, stem, content):
    put(self, stem, content); die()
trainings.Artifacts.put = dying
"""
BEFORE_TELLING = "proposals.Proposals.tell = lambda self, *_: die()\n"
AFTER_TELLING = """
tell = proposals.Proposals.tell
def dying(self, *arguments):
    tell(self, *arguments); die()
proposals.Proposals.tell = dying
"""
AFTER_ASKING = """
put = proposals.Proposals.put
def dying(self, *arguments):
    put(self, *arguments); die()
proposals.Proposals.put = dying
"""
MOMENTS = {
    "at a rung": AT_A_RUNG,
    "in an epoch behind a rung": IN_AN_EPOCH,
    "between a file and its record": BEFORE_THE_RECORD,
    "before telling Optuna": BEFORE_TELLING,
    "after telling Optuna": AFTER_TELLING,
    "after asking Optuna": AFTER_ASKING,
}


QUICK = ("at a rung", "before telling Optuna")


@pytest.mark.parametrize(
    "moment", [pytest.param(moment, marks=() if moment in QUICK else pytest.mark.slow) for moment in MOMENTS]
)
def test_killed_at_a_moment_and_resumed_equals_run_through(moment, through, tmp_path):
    folder = tmp_path / "study"
    run_dead(MOMENTS[moment] + RUN, folder)
    Study(space(), folder).run()
    assert outcome(folder) == through
    sound(folder)


def test_a_damaged_checkpoint_is_said_and_its_training_begins_again(through, tmp_path):
    folder = tmp_path / "study"
    run_dead(AT_A_RUNG + RUN, folder)
    (checkpoint,) = (folder / "artifacts").glob("*-epoch1-*")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    lines = []
    Study(space(), folder).run(warn=lines.append)
    assert len(lines) == 1 and lines[0].endswith("this training begins again") and checkpoint.name in lines[0]
    assert outcome(folder) == through


@pytest.mark.slow
def test_a_trial_over_which_two_workers_died_fails_and_the_study_goes_on(tmp_path):
    folder = tmp_path / "study"
    for _ in range(2):
        run_dead(IN_AN_EPOCH + RUN, folder)
    Study(space(), folder).run()
    (failed,) = [trial for trial in sound(folder).records.trials() if trial.state == FAILED]
    assert failed.reasons == ["2 workers died while they trained it, perhaps for lack of memory"]


def test_a_trial_for_which_memory_is_too_small_fails_and_the_study_goes_on(tmp_path, monkeypatch):
    advance, calls = training.advance, []

    def short_of_memory(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1099511627776 bytes")
        return advance(*arguments)

    monkeypatch.setattr(training, "advance", short_of_memory)
    Study(space(), tmp_path / "study").run()
    (failed,) = [trial for trial in sound(tmp_path / "study").records.trials() if trial.state == FAILED]
    assert failed.reasons[0].startswith("there was not enough memory to train it")


def test_another_fault_of_the_program_is_not_taken_for_a_failed_trial(tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(training, "advance", broken)
        with pytest.raises(RuntimeError, match="a fault of ours"):
            Study(space(), tmp_path / "study").run()
    Study(space(), tmp_path / "study").run()
    sound(tmp_path / "study")


ASLEEP = """
import threading
awake, beat, advance = threading.Lock(), records.Records.beat, trainings.training.advance
def beating(self, owner):
    with awake:
        beat(self, owner)
def sleeping(*arguments):
    if not os.path.exists(folder + "/slept"):
        with awake:  # not within a transaction: SQLite lets nobody write while another's is open
            open(folder + "/slept", "w").close()
            os.kill(os.getpid(), signal.SIGSTOP)
    return advance(*arguments)
records.Records.beat, trainings.training.advance = beating, sleeping
Study(tiny_space(epochs=2, **search), folder, lease_s=1.0).work()
"""


@pytest.mark.slow
def test_a_worker_that_sleeps_past_its_lease_and_wakes_up_does_no_harm(tmp_path):
    folder = tmp_path / "study"
    sleeper = start(ASLEEP, folder)
    try:
        until(lambda: (folder / "slept").exists())
        (held,) = under_way(folder)
        Study(space(), folder, lease_s=1.0, joins=True).work()
        by_others = outcome(folder)
        os.kill(sleeper.pid, signal.SIGCONT)
        _, errors = sleeper.communicate(timeout=120)
        assert sleeper.returncode == 0, errors
    finally:
        sleeper.kill()
        sleeper.communicate()
    assert outcome(folder) == by_others
    trials = sound(folder).records.trials()
    assert trials[held.number].state in (TRAINED, STOPPED)  # under its own number


@pytest.mark.slow
def test_a_worker_process_that_is_killed_is_replaced_and_its_trial_goes_on(tmp_path):
    folder = tmp_path / "study"
    script = "\nif __name__ == '__main__':\n    Study(tiny_space(epochs=2, **search), folder).run(workers=2)\n"
    main = start(script, folder, trials=6)
    try:
        until(lambda: len(under_way(folder)) == 2)
        lease = next(lease for item, lease in Records(folder).leases().items() if item.startswith("training"))
        os.kill(int(lease.owner.rsplit(" ", 3)[1]), signal.SIGKILL)
        _, errors = main.communicate(timeout=300)
        assert main.returncode == 0, errors
    finally:
        main.kill()
        main.communicate()
    sound(folder, trials=6)
