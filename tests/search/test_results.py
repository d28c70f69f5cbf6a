"""Fronts over every accelerator, chances of belonging to them, what-if, and when more trainings hardly pay."""

from dataclasses import replace

import numpy as np
import pytest

from codesign import hardware
from codesign.errors import InputError
from codesign.search.accelerators import Grid
from codesign.search.records import TRAINED
from codesign.search.results import activity_of
from codesign.search.space import parse
from codesign.search.study import Study
from tests.tiny import tiny_space


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = Study(tiny_space(), tmp_path_factory.mktemp("results") / "tiny")
    made.run()
    return made


def test_every_trained_network_is_there_on_every_accelerator_that_it_runs_on(study):
    results, shape = study.results, study.space.task.shape
    found = {(row.network_key, row.design.accelerator.n_pe): row for row in results.trained()}
    assert len(found) == len(results.trained())
    for trial in (t for t in study.records.trials() if t.state == TRAINED):
        run = study.records.training(trial.network_key, 0)
        for n_pe in (2, 4, 8, 16):
            row = found.get((trial.network_key, n_pe))
            design = next(r.design for r in found.values() if r.network_key == trial.network_key)
            accelerator = design.accelerator.model_copy(update={"n_pe": n_pe})
            cost = hardware.estimate(design.network, accelerator, shape, activity_of(run))
            assert (row is not None) == bool(cost.feasible[0])
            if row is not None:
                assert row.cost == pytest.approx(cost.row()) and row.error_search == run.error


def test_derived_rows_are_marked_and_proposed_ones_keep_their_number(study):
    proposed = {t.number: t.design["accelerator"]["n_pe"] for t in study.records.trials() if t.state == TRAINED}
    for row in study.results.trained():
        assert row.derived == (
            row.design.accelerator.n_pe
            not in {
                n_pe
                for number, n_pe in proposed.items()
                if study.records.trials()[number].network_key == row.network_key
            }
        )
        if not row.derived:
            assert proposed[row.trial] == row.design.accelerator.n_pe
    assert any(row.derived for row in study.results.trained())


def test_the_front_of_all_accelerators_covers_that_of_the_proposed_ones(study):
    results = study.results
    # as the search saw them: the confirmation moved the candidates' errors, and theirs alone
    seen = [replace(row, error_val=row.error_search) for row in results.trained()]
    members = {(row.network_key, row.design.accelerator.n_pe) for row in results.candidates()}
    front = [row for row in seen if (row.network_key, row.design.accelerator.n_pe) in members]
    assert len(front) == len(members)
    own = results.hypervolume([row for row in seen if not row.derived])
    assert results.hypervolume(front) == pytest.approx(results.hypervolume(seen)) and results.hypervolume(front) >= own


def test_switched_off_only_what_was_proposed_is_on_the_front(tmp_path):
    study = Study(tiny_space(every_accelerator=False, trials=3, confirm_seeds=1), tmp_path / "tiny")
    study.run()
    assert not any(row.derived for row in study.results.trained())


def test_optuna_never_hears_of_derived_designs(study):
    assert len(study.proposals.stored.get_trials()) == len(study.records.trials())


def test_a_range_of_the_accelerator_is_tried_on_a_grid():
    tables = {"n_pe": {"low": 2, "high": 64, "log": True}, "clock_hz": {"low": 1e8, "high": 2e8}}
    space = parse(
        {
            "name": "x",
            "task": {"name": "ru_phones", "subset": "mini"},
            "accelerator": tables,
            "search": {"objectives": ["error", "latency_s"]},
        },
        "x",
        "x",
        "",
    )
    grid = Grid(space)
    sizes, clocks = grid.values["n_pe"], grid.values["clock_hz"]
    assert sizes[0] == 2 and sizes[-1] == 64 and all(isinstance(n, int) for n in sizes) and len(sizes) <= 16
    assert clocks[0] == 1e8 and clocks[-1] == 2e8 and len(clocks) == 16
    assert len(grid) == len(sizes) * len(clocks) == sum(len(rows) for _, rows, _ in grid.groups)


def test_what_if_costs_the_same_networks_elsewhere_and_trains_nothing(study):
    before = study.records.trainings()
    rows = study.results.what_if({"clock_hz": [2e8], "technology": ["xcku060"]}, {})
    front = {row.design.network: row for row in study.front()}
    assert rows and all(row.design.accelerator.clock_hz == 2e8 for row in rows)
    for row in rows:
        n_pe = row.design.accelerator.n_pe
        twin = next(
            r for r in study.results.trained() if (r.network_key, r.design.accelerator.n_pe) == (row.network_key, n_pe)
        )
        assert row.cost["latency_s"] == pytest.approx(twin.cost["latency_s"] / 2)
        assert row.error_val == twin.error_val
    assert study.records.trainings() == before and front


def test_what_if_with_a_limit_leaves_out_what_breaks_it(study):
    limit = sorted(row.cost["latency_s"] for row in study.front())[0] * 1.01
    rows = study.results.what_if({}, {"latency_s": limit})
    assert rows and all(row.cost["latency_s"] <= limit for row in rows)
    with pytest.raises(InputError, match="no trained network runs there; mostly because a limit is exceeded"):
        study.results.what_if({}, {"latency_s": 1e-12})
    with pytest.raises(InputError, match="asic28 has no lut"):
        Study(tiny_space(objectives=["error", "lut"], trials=1, confirm_seeds=1), study.folder.parent / "lut").run()
        from codesign.search.results import Results

        Results(study.folder.parent / "lut").what_if({"technology": ["asic28"]}, {})


def test_the_chance_of_a_place_falls_with_a_rival_that_is_nearly_as_good(study):
    results, (row, *_) = study.results, study.front()
    other = replace(row, network_key="other", cost={**row.cost, "latency_s": row.cost["latency_s"] * 1.1})
    spread = 0.01

    def chance(gap):
        rows = [
            replace(row, error_val=0.3, error_val_std=spread, seeds=(0, 1)),
            replace(other, error_val=0.3 - gap, error_val_std=spread, seeds=(0, 1)),
        ]
        return results._chances(rows)

    cheap, costly = chance(0.1)
    assert cheap == 1.0 and costly == 1.0  # the cheaper one cannot be dominated, the better one is not
    assert chance(0.0)[1] == pytest.approx(0.5, abs=0.05)
    # the difference of two means of two seeds has the standard deviation of one seed
    assert chance(spread)[1] == pytest.approx(0.841, abs=0.04)
    assert results._chances([replace(row, error_val_std=None)]) == [None]


def test_a_search_that_gains_nothing_says_so_and_ends_where_that_is_wanted(study, monkeypatch, tmp_path):
    from codesign.search import results as module

    records = study.results.records
    gains = np.concatenate([np.linspace(0.1, 0.5, 12), np.full(12, 0.5)])
    events = [module.Event(i, 100 * i, 60.0 * i, float(volume)) for i, volume in enumerate(gains)]
    monkeypatch.setattr(type(records), "events", lambda self: events[:12])
    assert not study.results.is_flat() and "more of them may pay" in study.results.enough()
    assert "The last 10 trainings took 10.0 min" in study.results.enough()
    monkeypatch.setattr(type(records), "events", lambda self: events)
    assert study.results.is_flat() and "more of them hardly pay" in study.results.enough()
    flat = Study(tiny_space(trials=30, stop_when_flat=True, confirm_seeds=1), tmp_path / "flat")
    flat.run()
    assert flat.records.trials() == []
    monkeypatch.setattr(type(records), "events", lambda self: events[:3])
    assert study.results.enough() is None and not study.results.is_flat()
