import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import jax
import numpy as np
import optuna
import pytest
import tomli_w

from codesign.design import Design
from codesign.errors import DataError, StudyError
from codesign.search.records import FAILED, REFUSED, TRAINED, Records
from codesign.search.results import Results
from codesign.search.space import parse
from codesign.search.study import Study
from codesign.training.step import train_epoch
from tests.tiny import TINY, tiny_space

ROOT = Path(__file__).parents[2]


def outcome(folder):
    """All that a study found, as plain data."""
    records = Records(folder)
    trials = [(t.number, t.state, t.design, t.recipe, t.cost, t.reasons) for t in records.trials()]
    trainings = {
        key: (t.state, t.rungs, t.steps, t.losses, t.metrics, t.test_metrics, t.activity, t.weights)
        for key, t in records.trainings().items()
    }
    return trials, trainings


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The tiny study, run through."""
    study = Study(tiny_space(), tmp_path_factory.mktemp("study") / "tiny")
    states = []
    study.run(states.append)
    return study, states


class Interruption(BaseException):
    """Stands for Ctrl-C at a chosen moment."""


def test_a_study_trains_the_wanted_number_and_confirms_its_front(finished):
    study, states = finished
    trials = study.records.trials()
    assert sum(trial.state == TRAINED for trial in trials) == 4
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert [state.phase for state in states][-1] == "confirm" and states[-1].done == states[-1].total
    front = study.front()
    assert front and all(row.error_test is not None and len(row.seeds) == 2 for row in front)
    assert all(row.error_val_std is not None and row.error_val_std > 0 for row in front)


def test_a_study_that_varies_all_that_is_traced_compiles_one_training_program(tmp_path):
    jax.clear_caches()
    study = Study(tiny_space(trials=8, confirm_seeds=1, epochs=2), tmp_path / "varied")
    study.run()
    networks = [row.design.network for row in study.results.trained()]
    assert len({network.input_kernel.structure for network in networks}) >= 2
    assert len({network.recurrent_kernel.structure for network in networks}) == 2
    assert len({network.input_kernel.weights for network in networks}) == 2
    assert len({network.state_threshold for network in networks}) == 2
    assert {(network.cell, network.hidden, network.layers) for network in networks} == {("gru", 8, 1)}
    assert train_epoch._cache_size() == 1


@pytest.fixture(scope="module")
def refusing(tmp_path_factory):
    """The tiny study, every network on the accelerator that was proposed for it."""
    study = Study(tiny_space(every_accelerator=False), tmp_path_factory.mktemp("refusing") / "tiny")
    study.run()
    return study


def test_designs_that_cannot_run_are_recorded_with_a_reason_and_never_trained(refusing):
    study = refusing
    refused = [trial for trial in study.records.trials() if trial.state == REFUSED]
    assert refused
    trained_keys = {t.network_key for t in study.records.trials() if t.state == TRAINED}
    for trial in refused:
        assert trial.reasons and "n_pe" in trial.reasons[0]
    assert {key for key, _ in study.records.trainings()} == trained_keys


def test_a_network_that_runs_elsewhere_moves_to_the_nearest_accelerator_instead_of_being_refused(finished, refusing):
    study, _ = finished
    there = next(trial for trial in refusing.records.trials() if trial.state == REFUSED)
    here = study.records.trials()[there.number]  # proposals are the same up to the first that was refused
    assert here.design["network"] == there.design["network"] and here.state == TRAINED
    runs_on = refusing.results.grid.costed(Design.model_validate(there.design).network, None, {})
    useful = [row.accelerator.n_pe for row in runs_on]
    wanted = there.design["accelerator"]["n_pe"]
    assert wanted not in useful
    assert here.design["accelerator"]["n_pe"] == min(useful, key=lambda n_pe: abs(np.log(n_pe / wanted)))
    assert all(trial.state != REFUSED for trial in study.records.trials())


@pytest.mark.parametrize("kind", ["finished", "refusing"])
def test_optuna_heard_of_every_trial_once_with_the_same_error_and_log_costs(kind, request):
    study = request.getfixturevalue(kind)
    study = study[0] if kind == "finished" else study
    trainings = study.records.trainings()
    for trial, frozen in zip(study.records.trials(), study.proposals.stored.get_trials(), strict=True):
        assert set(frozen.constraints) == {"runs", "lut", "ff", "dsp", "bram18"}
        assert frozen.params["accelerator.n_pe"] == trial.design["accelerator"]["n_pe"]
        if trial.state == REFUSED:
            assert frozen.state == optuna.trial.TrialState.PRUNED
            assert max(frozen.constraints.values()) > 0
        else:
            error = trainings[trial.network_key, 0].metrics["error"]
            assert frozen.values == pytest.approx([error, np.log10(trial.cost["latency_s"])])
            assert max(frozen.constraints.values()) <= 0


def test_only_members_of_the_front_were_tested(finished):
    study, _ = finished
    tested = {key for (key, _), t in study.records.trainings().items() if t.test_metrics is not None}
    assert tested == {row.network_key for row in study.results.candidates()}


def test_the_front_is_not_dominated_and_has_no_duplicates(finished):
    study, _ = finished
    points = study.results.points(study.front())
    for i, p in enumerate(points):
        for j, q in enumerate(points):
            assert i == j or not (q <= p).all()


def test_running_a_finished_study_again_changes_nothing(finished):
    study, _ = finished
    before = outcome(study.folder)
    Study(tiny_space(), study.folder).run()
    assert outcome(study.folder) == before


def test_asking_for_more_trials_goes_on_from_where_the_study_ended(finished, tmp_path):
    longer = Study(tiny_space(trials=6), tmp_path / "six")
    longer.run()
    extended = Study(tiny_space(trials=4), tmp_path / "extended")
    extended.run()
    extended = Study(tiny_space(trials=6), tmp_path / "extended")
    extended.run()
    assert outcome(extended.folder)[0] == outcome(longer.folder)[0]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_interrupted_at_every_stage_and_resumed_equals_run_through(sampler, tmp_path):
    through = Study(tiny_space(sampler=sampler, trials=5), tmp_path / "through")
    through.run()

    folder = tmp_path / "interrupted"
    for stop_at in (0, 2, 3):

        def stop(state, stop_at=stop_at):
            if state.phase == "search" and state.done == stop_at:
                raise Interruption

        study = Study(tiny_space(sampler=sampler, trials=5), folder)
        with pytest.raises(Interruption):
            study.run(stop)
    # died between proposing and training: Optuna holds a running trial, our tables know nothing of it
    study = Study(tiny_space(sampler=sampler, trials=5), folder)
    trial = study.proposals.ask()
    study.proposals.design(trial)
    study.proposals.put(trial, {"runs": 0.0})
    Study(tiny_space(sampler=sampler, trials=5), folder).run()
    assert outcome(folder) == outcome(through.folder)


def test_killed_while_training_and_resumed_equals_run_through(finished, tmp_path):
    script = (
        "import sys\nfrom codesign.search.study import Study\nfrom tests.tiny import TINY, tiny_space\n"
        "Study(tiny_space(), sys.argv[1]).run(lambda state: print(state.phase, state.done, flush=True))\n"
    )
    folder = tmp_path / "killed"
    for wanted in ("search 1", "confirm 1"):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == wanted:
                time.sleep(0.05)  # the next training has begun
                os.kill(process.pid, signal.SIGKILL)
                break
        process.wait()
        process.stdout.close()
        assert process.returncode == -signal.SIGKILL
    Study(tiny_space(), folder).run()
    assert outcome(folder) == outcome(finished[0].folder)


def test_a_limit_holds_in_the_worst_case_and_names_what_it_refused(tmp_path):
    space = tiny_space(limits={"latency_s": 5e-6}, trials=2, confirm_seeds=1, every_accelerator=False)
    study = Study(space, tmp_path / "limited")
    study.run()
    trials = study.records.trials()
    assert all(t.cost["latency_s"] <= 5e-6 for t in trials if t.state == TRAINED)
    reasons = [reason for t in trials if t.state == REFUSED for reason in t.reasons]
    assert any(reason.startswith("latency_s = ") and "exceeds the limit 5e-06" in reason for reason in reasons)


def test_a_limit_that_almost_nothing_meets_ends_the_study_with_one_line(tmp_path):
    study = Study(tiny_space(limits={"latency_s": 1e-7}, trials=1), tmp_path / "hopeless")
    with pytest.raises(StudyError, match="only 0 of 20 proposed designs could be trained; widen the limits"):
        study.run()


def test_a_training_that_diverges_is_recorded_with_its_reason_and_the_study_goes_on(tmp_path):
    tables = tomllib.loads(TINY)
    tables["recipe"]["learning_rate"] = [0.02, 1e30]
    tables["search"]["confirm_seeds"] = 1
    study = Study(parse(tables, "x.toml", "x", tomli_w.dumps(tables)), tmp_path / "diverging")
    study.run()
    trials = study.records.trials()
    failed = [trial for trial in trials if trial.state == FAILED]
    assert failed and all(trial.recipe["learning_rate"] == 1e30 for trial in failed)
    assert failed[0].reasons == ["the loss is not finite after epoch 1; use a smaller recipe.learning_rate than 1e+30"]
    assert sum(trial.state == TRAINED for trial in trials) == 4
    assert all(row.recipe.learning_rate == 0.02 for row in study.front())


def test_lost_weights_are_trained_again_to_the_same_result(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished[0].folder, folder)
    before = outcome(folder)
    results = Results(folder)
    member = results.front()[0]
    lost = results.artifacts.folder / str(results.records.training(member.network_key, 0).weights)
    content = lost.read_bytes()
    lost.unlink()
    Study(tiny_space(), folder).run()
    assert outcome(folder) == before
    assert lost.read_bytes() == content


def test_damaged_weights_are_named_with_the_repair(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished[0].folder, folder)
    results = Results(folder)
    member = results.front()[0]
    path = results.artifacts.folder / str(results.records.training(member.network_key, 0).weights)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=f"{path.name}: is damaged; run the search again"):
        results.weights(member.network_key, 0)


def test_a_folder_of_another_space_is_refused_with_the_difference(finished):
    with pytest.raises(StudyError) as caught:
        Study(tiny_space(objectives=["error", "lut"], seed=3), finished[0].folder)
    assert "holds a study of another search space" in str(caught.value)
    assert "objectives was ['error', 'latency_s'], is ['error', 'lut']; seed was 0, is 3" in str(caught.value)
    assert outcome(finished[0].folder)


def test_two_processes_cannot_work_on_one_study(tmp_path):
    study = Study(tiny_space(), tmp_path / "shared")
    with study._lock(), pytest.raises(StudyError, match="another search is working on this study; codesign worker"):
        Study(tiny_space(), tmp_path / "shared")


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(StudyError, match="holds no study"):
        Results(tmp_path)


def test_a_damaged_database_is_one_line(tmp_path):
    (tmp_path / "study.db").write_bytes(b"noise" * 1000)
    with pytest.raises(StudyError, match=r"study\.db: file is not a database"):
        Results(tmp_path)
    with pytest.raises(StudyError, match=r"study\.db: file is not a database"):
        Study(tiny_space(), tmp_path)


def test_a_lost_database_of_someone_else_is_not_touched(tmp_path):
    import sqlite3

    with sqlite3.connect(tmp_path / "study.db") as other:
        other.execute("create table theirs (x)")
    other.close()
    with pytest.raises(StudyError, match="is not a study of codesign"):
        Results(tmp_path)


def test_choosing_a_design_by_number_by_field_and_by_limit(finished):
    results = finished[0].results
    front = results.front()
    assert results.choose(trial=front[0].trial).trial == front[0].trial
    fastest = min(front, key=lambda row: row.cost["latency_s"])
    assert results.choose(best="latency_s") == fastest
    limit = sorted(row.cost["latency_s"] for row in front)[0]
    assert results.choose(best="error", limits={"latency_s": limit}) == fastest
    assert results.choose() == results.knee(front)


def test_a_choice_that_is_impossible_says_what_there_is(finished):
    from codesign.errors import InputError

    results = finished[0].results
    with pytest.raises(InputError, match="trial 999 is not a trained one; the front has"):
        results.choose(trial=999)
    with pytest.raises(InputError, match="unknown field 'latency'; did you mean 'latency_s'"):
        results.choose(best="latency")
    with pytest.raises(InputError, match=r"no member of the front has latency_s <= 1e-12; the smallest is"):
        results.choose(limits={"latency_s": 1e-12})
    with pytest.raises(InputError, match="this technology has no area_mm2"):
        results.choose(best="area_mm2")
