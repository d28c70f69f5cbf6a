"""The demo: what its committed record holds, and (slow) that it does it again."""

import json
from pathlib import Path

import pytest

from benchmarks.demo import SPACE, summary
from codesign.search.results import Results
from codesign.search.space import load_search_space
from codesign.search.study import Study

RECORD = Path(__file__).parents[1] / "results" / "reference" / "demo.json"


def check(facts):
    """What the demo must show."""
    assert facts["within_8_points"] >= 6
    assert len(facts["shapes_within_8_points"]) >= 3
    assert len(facts["n_pe_within_8_points"]) >= 3
    assert facts["test_accuracy_of_best"] >= 0.76
    for name in ("block_size", "sparsity", "word_length", "n_pe"):
        assert len(facts["trained_values"][name]) >= 2, name


def test_the_committed_record_is_of_the_shipped_space_and_shows_what_the_demo_must_show():
    record = json.loads(RECORD.read_text())
    assert record["space"] == SPACE.read_text()
    check(record["summary"])
    assert len(record["front"]) == record["summary"]["front"]


@pytest.mark.slow
def test_the_demo_trains_at_least_two_values_of_each_knob_and_meets_its_figures(tmp_path):
    study = Study(load_search_space(SPACE), tmp_path / "demo")
    study.run()
    check(summary(Results(study.folder)))
