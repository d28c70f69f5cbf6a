"""The two phases of E-RNN: the path through a space, against errors that are made up, and a study that walks it."""

import math
import tomllib
from dataclasses import replace

import pytest
import tomli_w

from codesign.errors import InputError
from codesign.search.phases import Phases, key
from codesign.search.records import REFUSED, TRAINED
from codesign.search.space import parse
from codesign.search.study import Study

ERNN = """
name = "walk"
task = { name = "ru_phones", subset = "mini" }

[network]
cell = ["lstm", "gru"]
hidden = [32, 16, 24]
input_kernel.structure = { kind = "block_circulant", block_size = [2, 4, 8, 16] }
recurrent_kernel.structure = { kind = "block_circulant", block_size = [2, 4, 8] }

[recipe]
epochs = 1

[accelerator]
kind = "circulant_fft"
technology = "xc7z020"
n_pe = [2, 4, 8]

[search]
objectives = ["error", "latency_s", "dsp"]
sampler = "ernn"
tolerance = 0.01
trials = 20
confirm_seeds = 1
"""
INPUT = "network.input_kernel.structure.block_circulant.block_size"
RECURRENT = "network.recurrent_kernel.structure.block_circulant.block_size"


def space(**changes):
    tables = tomllib.loads(ERNN)
    for table, fields in changes.items():
        tables[table] |= fields
    return parse(tables, "walk.toml", "walk", tomli_w.dumps(tables))


def walk(phases, error):
    """The points of a path on which each has the error that a function gives."""
    errors, path = {}, []
    while (point := phases.next(errors)) is not None:
        assert key(point) not in errors, "nothing is trained twice"
        errors[key(point)] = error(point)
        path.append((point["network.cell"], point["network.hidden"], point[INPUT], point[RECURRENT]))
    return path


def test_it_begins_with_the_largest_layer_and_the_smallest_blocks_that_fit():
    assert walk(Phases(space()), lambda _: 0.2)[0] == ("lstm", 32, 2, 2)


def test_each_kind_of_step_goes_on_until_it_costs_too_much():
    def error(point):
        if point["network.cell"] == "gru":
            return 0.205
        return (
            0.2 + 0.004 * (point[RECURRENT] > 4) * 10 + 0.02 * (point[INPUT] > 8) + 0.1 * (point["network.hidden"] < 24)
        )

    assert walk(Phases(space()), error) == [
        ("lstm", 32, 2, 2),
        ("lstm", 32, 4, 4),
        ("lstm", 32, 8, 8),  # too much: back to 4
        ("lstm", 32, 8, 4),
        ("lstm", 32, 16, 4),  # too much
        ("lstm", 24, 8, 4),
        ("lstm", 16, 8, 4),  # too much
        ("gru", 24, 8, 4),
    ]


def test_a_training_that_failed_is_a_step_that_cost_too_much():
    path = walk(Phases(space()), lambda point: 0.2 if point[RECURRENT] == 2 else math.inf)
    assert path[:3] == [("lstm", 32, 2, 2), ("lstm", 32, 4, 4), ("lstm", 32, 4, 2)]


def test_blocks_beyond_the_part_s_bound_are_never_trained(monkeypatch):
    from codesign.search import phases

    bounds = phases.block_size_bounds
    monkeypatch.setattr(phases, "block_size_bounds", lambda *given: replace(bounds(*given), largest=4))
    assert max(max(block, other) for _, _, block, other in walk(Phases(space()), lambda _: 0.2)) == 4


def test_a_space_without_a_block_size_to_choose_is_one_line():
    fixed = {"input_kernel": {"structure": "dense"}, "recurrent_kernel": {"structure": "dense"}}
    with pytest.raises(InputError, match="search.sampler: ernn needs a block_circulant kernel with several values"):
        Phases(space(network=fixed))


def test_a_study_walks_the_path_to_its_end_and_costs_every_accelerator(tmp_path):
    study = Study(space(network={"hidden": [16], "cell": "gru"}, search={"tolerance": 0.5}), tmp_path / "study")
    study.run()
    trials = study.records.trials()
    sizes = [
        tuple(t.design["network"][f"{kernel}_kernel"]["structure"]["block_size"] for kernel in ("input", "recurrent"))
        for t in trials
    ]
    assert sizes == [(2, 2), (4, 4), (8, 8)]  # a 16th of what is left saves less than the part's bound asks
    assert {t.state for t in trials} <= {TRAINED, REFUSED}
    assert {row.design.accelerator.n_pe for row in study.results.trained()} == {2, 4, 8}
    Study(space(network={"hidden": [16], "cell": "gru"}, search={"tolerance": 0.5}), tmp_path / "study").run()
    assert study.records.trials() == trials
