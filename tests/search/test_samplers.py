"""Samplers by name, on conditional spaces: repeatable, different for every trial, with known designs first."""

import importlib.util

import optuna
import pytest

from codesign.errors import InputError
from codesign.search.proposals import Proposals, stored_study
from codesign.search.records import Records
from codesign.search.samplers import SAMPLERS, Renewed
from codesign.search.study import Study
from tests.tiny import tiny_space

HAS_TORCH = importlib.util.find_spec("torch") is not None
NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(name == "gp" and not HAS_TORCH, reason="gp needs PyTorch"))
    for name in SAMPLERS
]


def draw(folder, sampler, n, told=True, seed=0):
    """The designs of n trials, each told a made-up error."""
    space = tiny_space(sampler=sampler, seed=seed)
    folder.mkdir(exist_ok=True)
    records = Records(folder, create=True, study=space.name)
    proposals = Proposals(space, records, stored_study(space, records))
    found = []
    for _ in range(n):
        trial = proposals.ask()
        found.append(proposals.design(trial)[0].model_dump_json())
        assert proposals.put(trial, {"runs": 0.0})
        if told:
            proposals.tell(trial.number, [0.2 + 0.01 * (trial.number % 7), 1e-6 * (1 + trial.number % 3)])
    return found


@pytest.mark.parametrize("sampler", NAMES)
def test_a_study_cut_into_pieces_proposes_what_one_run_through_does(sampler, tmp_path):
    n = 14 if sampler == "gp" else 30
    through = draw(tmp_path / "a", sampler, n)
    pieces = [design for _ in range(n // 2) for design in draw(tmp_path / "b", sampler, 2)]
    assert pieces == through
    assert len(set(through)) > n // 4


@pytest.mark.parametrize("sampler", NAMES)
def test_another_seed_proposes_other_designs(sampler, tmp_path):
    assert draw(tmp_path / "a", sampler, 6) != draw(tmp_path / "b", sampler, 6, seed=1)


def test_workers_that_ask_at_once_are_not_given_the_same_design(tmp_path):
    found = draw(tmp_path, "tpe", 12, told=False)
    assert len(set(found)) > 8


def test_after_a_network_that_was_there_before_the_next_is_drawn_at_random(tmp_path):
    space = tiny_space(sampler="tpe")
    records = Records(tmp_path, create=True, study=space.name)
    proposals = Proposals(space, records, stored_study(space, records))
    seen, repeated = [], False
    for number in range(40):
        trial = proposals.ask()
        assert (number in proposals.sampler.wanders) == repeated
        network = proposals.design(trial)[0].network
        repeated = network in seen
        seen.append(network)
        proposals.put(trial, {"runs": 0.0})
        proposals.tell(trial.number, [0.2 if network.input_kernel.structure.kind == "dense" else 0.3, 1e-6])
    assert 0 < len(proposals.sampler.wanders) < 40


def test_known_designs_come_first_and_no_sampler_touches_them():
    starts = [{"x": 0.25, "kind": "b"}, {"x": 0.75, "kind": "a"}]
    study = optuna.create_study(directions=["minimize"] * 2, sampler=Renewed("tpe", 0, dict(enumerate(starts))))
    found = []
    for _ in range(4):
        trial = study.ask()
        found.append({"x": trial.suggest_float("x", 0, 1), "kind": trial.suggest_categorical("kind", ["a", "b"])})
        study.tell(trial, [found[-1]["x"], 1.0])
    assert found[:2] == starts and found[2] not in starts


@pytest.mark.skipif(HAS_TORCH, reason="PyTorch is installed")
def test_gp_without_pytorch_says_what_to_install_and_makes_no_folder(tmp_path):
    with pytest.raises(InputError, match=r"search.sampler: gp needs PyTorch; pip install 'codesign\[gp\]', or use tpe"):
        Study(tiny_space(sampler="gp"), tmp_path / "study")
    assert not (tmp_path / "study").exists()
