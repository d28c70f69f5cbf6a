"""What one worker sees may be over when it acts on it: between a look and a claim another one may have gone on."""

from dataclasses import replace

import optuna
import pytest

from codesign.search.leases import Leases
from codesign.search.proposals import Proposals, stored_study
from codesign.search.records import TRAINED, LeaseLost, TrainingRecord, trial_item
from codesign.search.server import CutOff
from codesign.search.study import Study
from codesign.search.worker import Worker
from tests.tiny import tiny_space


@pytest.fixture
def study(tmp_path):
    return Study(tiny_space(trials=2, confirm_seeds=1), tmp_path / "tiny")


@pytest.fixture
def worker(study):
    with Leases(study.records) as leases:
        yield Worker(study.space, study.results, study.proposals, leases)


@pytest.fixture
def other(study):
    with Leases(study.records) as leases:
        yield leases


def proposed(worker):
    """A trial that is to be trained and that nobody holds."""
    (trial,) = [*worker._take(), None][:1]
    worker.leases.release(trial_item(trial.number))
    return trial


def test_a_trial_that_was_finished_between_look_and_claim_is_left_alone(worker, study, monkeypatch):
    trial = proposed(worker)
    seen = study.records.trials()
    study.records.put_trial(replace(trial, state=TRAINED))
    monkeypatch.setattr(worker, "_left_lying", lambda trials: [t for t in seen if t.number == trial.number])
    assert trial.number not in [taken.number for taken in worker._take()]
    assert trial_item(trial.number) not in study.records.leases()


def test_a_training_that_ended_between_look_and_claim_is_not_done_again(worker, study, monkeypatch):
    trial = proposed(worker)
    ended = TrainingRecord(trial.network_key, trial.seed, state="failed", reason="by another")
    claim = worker.leases.claim

    def late(item):
        if item.startswith("training"):
            study.records.put_training(ended)
        return claim(item)

    monkeypatch.setattr(worker.leases, "claim", late)
    monkeypatch.setattr(worker.trainer, "_resume", lambda job: pytest.fail("it was trained again"))
    claim(trial_item(trial.number))
    worker._work([trial])
    (found,) = [t for t in study.records.trials() if t.number == trial.number]
    assert (found.state, found.reasons) == ("failed", ["by another"])


def test_a_trial_that_another_worker_took_right_after_it_was_asked_for_is_its_own(worker, study, other, monkeypatch):
    ask = study.proposals.ask

    def late():
        asked = ask()
        other.claim(trial_item(asked.number))
        return asked

    monkeypatch.setattr(study.proposals, "ask", late)
    assert worker._ask() == [] and study.records.trials() == []


def test_a_trial_whose_asker_died_is_taken_up_before_a_new_one_is_asked_for(worker, study):
    asked = study.proposals.ask()
    study.proposals.design(asked)
    study.proposals.put(asked, {"runs": 0.0})
    worker._ask()
    assert [trial.number for trial in study.records.trials()] == [asked.number]
    assert len(study.proposals.stored.get_trials()) == 1


def test_a_trial_asked_for_while_another_worker_asked_too_is_the_others(worker, study):
    ask = study.proposals.ask
    other = Proposals(study.space, study.records, stored_study(study.space, study.records))

    def late():
        asked, faster = ask(), other.ask()
        for proposals, trial in ((other, faster), (study.proposals, asked)):
            proposals.design(trial)
        assert other.put(faster, {"runs": 0.0})
        return asked

    study.proposals.ask = late
    assert worker._ask() == [] and worker.leases.held == set()
    assert study.proposals.running() == [0, 1] == [trial.number for trial in study.proposals.study.get_trials()]


def test_a_trial_that_was_asked_for_and_not_written_down_never_was(study):
    first = study.proposals.design(study.proposals.ask())
    again = study.proposals.ask()
    assert again.number == 0 and study.proposals.design(again) == first
    assert not study.proposals.stored.get_trials()


def test_a_proposal_whose_lease_was_lost_is_not_written(worker, study, monkeypatch):
    def lost(record, owner=None):
        raise LeaseLost(trial_item(record.number))

    monkeypatch.setattr(study.records, "put_trial", lost)
    assert worker._ask() == [] and worker.leases.held == set()


def test_an_ask_that_was_cut_off_half_way_leaves_nothing_behind(study, monkeypatch):
    whole = optuna.Study.ask

    def half(self):
        whole(self)
        raise CutOff

    monkeypatch.setattr(optuna.Study, "ask", half)
    with pytest.raises(CutOff):
        study.proposals.ask()
    monkeypatch.setattr(optuna.Study, "ask", whole)
    assert study.proposals.ask().number == 0


def test_a_trial_that_the_server_wrote_down_without_saying_so_is_not_written_again(study):
    asked = study.proposals.ask()
    study.proposals.design(asked)
    (frozen,) = study.proposals.study.get_trials()
    assert study.proposals._put(frozen, tried := []) and study.proposals._put(frozen, tried)
    assert len(study.proposals.stored.get_trials()) == 1


def test_a_claim_whose_answer_was_lost_is_found_when_it_is_repeated(study):
    assert study.records.claim("trial 1", "one") and study.records.claim("trial 1", "one")
    assert not study.records.claim("trial 1", "two")
    dead = study.records.leases()["trial 1"]
    assert study.records.claim("trial 1", "two", dead) and study.records.claim("trial 1", "two", dead)
    assert study.records.leases()["trial 1"].deaths == 1
