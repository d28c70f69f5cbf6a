"""Who is trained further than a rung, by hand and by brute force; what a study with rungs saves and keeps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.search.records import STOPPED, TRAINED
from codesign.search.rungs import budgets, goes_on
from codesign.search.study import Study
from tests.tiny import tiny_space


def test_budgets_are_epochs_divided_by_powers_of_the_reduction():
    assert budgets(27, 3, 3) == (1, 3, 9, 27)
    assert budgets(12, 2, 3) == (1, 4, 12)
    assert budgets(10, 0, 3) == (10,)
    assert budgets(1, 4, 2) == (1,)


def layer_of(points, names):
    """By definition: one more than the deepest layer of a row that dominates it; of a network its best row's."""
    rows = np.concatenate([points[name] for name in names])
    owners = [name for name in names for _ in points[name]]
    found = np.zeros(len(rows), int)
    for _ in rows:
        for i, p in enumerate(rows):
            above = [found[j] for j, q in enumerate(rows) if (q <= p).all() and (q < p).any()]
            found[i] = max(above, default=-1) + 1
    return {name: min(found[i] for i, owner in enumerate(owners) if owner == name) for name in names}


NETWORKS = st.lists(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=3), min_size=1, max_size=6)


@given(NETWORKS, st.integers(2, 4))
def test_who_goes_on_has_fewer_than_its_share_of_networks_in_better_layers(rows, reduction):
    points = {str(i): np.array(of_one, float) for i, of_one in enumerate(rows)}
    layers = layer_of(points, list(points))
    for name in points:
        better = sum(layer < layers[name] for layer in layers.values())
        assert goes_on(points, name, reduction) == (better * reduction < len(points))


def test_a_network_counts_as_its_best_accelerator_does():
    points = {
        "good": np.array([[0.1, 1.0], [0.1, 9.0]]),
        "cheap somewhere": np.array([[0.5, 8.0], [0.5, 0.5]]),
        "bad": np.array([[0.6, 2.0], [0.6, 3.0]]),
    }
    assert goes_on(points, "good", 3) and goes_on(points, "cheap somewhere", 3)
    assert not goes_on(points, "bad", 2)  # two of three are better
    assert goes_on({"bad": points["bad"]}, "bad", 2)


@pytest.mark.parametrize("reduction", [2, 3, 4])
def test_of_networks_that_are_all_comparable_the_best_share_goes_on(reduction):
    points = {str(i): np.array([[i, i]], float) for i in range(12)}
    going = [name for name in points if goes_on(points, name, reduction)]
    assert going == [str(i) for i in range(12 // reduction)]


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    space = tiny_space(trials=8, confirm_seeds=1, rungs=1, reduction=2, epochs=2)
    study = Study(space, tmp_path_factory.mktemp("halved") / "study")
    study.run()
    return study


def test_stopped_networks_keep_their_rung_and_cost_fewer_steps(halved):
    trials, trainings = halved.records.trials(), halved.records.trainings()
    states = [trial.state for trial in trials]
    assert states.count(TRAINED) + states.count(STOPPED) == 8 and STOPPED in states
    for trial in trials:
        run = trainings.get((trial.network_key, trial.seed))
        if trial.state == STOPPED:
            assert run.state == STOPPED and [epochs for epochs, _ in run.rungs] == [1]
            assert run.metrics is None and run.weights is None and run.checkpoint is None
            assert "were better on every accelerator" in trial.reasons[0]
        if trial.state == TRAINED and run.seed == 0:
            assert [epochs for epochs, _ in run.rungs] == [1, 2]
            assert run.rungs[-1][1] == run.error
    whole = max(run.steps for run in trainings.values())
    assert {run.steps for run in trainings.values() if run.state == STOPPED} == {whole // 2}
    assert halved.records.spent()[0] == sum(run.steps for run in trainings.values())


def test_what_was_stopped_has_left_no_file(halved):
    kept = {run.weights for run in halved.records.trainings().values()} - {None}
    assert {path.name for path in halved.results.artifacts.folder.iterdir()} == kept


def test_optuna_hears_of_a_stopped_trial_once_without_values(halved):
    for trial, frozen in zip(halved.records.trials(), halved.proposals.stored.get_trials(), strict=True):
        assert frozen.state.is_finished()
        if trial.state == STOPPED:
            assert frozen.values is None and frozen.constraints["unfinished"] > 0
        if trial.state == TRAINED:
            assert "unfinished" not in frozen.constraints


def test_rungs_decide_the_same_when_the_study_is_interrupted_between_any_two_trials(halved, tmp_path):
    from tests.search.test_study import outcome

    space = tiny_space(trials=8, confirm_seeds=1, rungs=1, reduction=2, epochs=2)
    for n in range(1, 9):
        Study(space.changed(trials=n), tmp_path / "study").run()
    # a study that ends early confirms, which looks at test data sooner, and at more of them
    trials, _ = outcome(tmp_path / "study")
    assert trials == outcome(halved.folder)[0]
