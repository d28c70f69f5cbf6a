"""How stored trainings are judged: hand-made errors of which the answer is known."""

from typing import Any

import pytest

from benchmarks.seed_cases import CASES
from benchmarks.seed_tables import Run, content, find, markdown, row, settings
from benchmarks.seed_targets import error, reaches
from codesign import training

DENSE, OURS = "dense phones", "hybrid phones"


def runs(case: str, errors: list[float], **fields: Any) -> list[Run]:
    """Trainings with these test errors, seeds from 0."""
    made = {"case": case, "settings": settings(CASES[case]), "error_test_drawn": None}
    made |= {"losses": [1.0, 0.5], "seconds": 600.0}
    return [made | {"seed": seed, "error_test": e, "error_val": e} | fields for seed, e in enumerate(errors)]


def test_paired_differences_and_their_interval() -> None:
    known = runs(DENSE, [0.10, 0.20, 0.30]) + runs(OURS, [0.11, 0.22, 0.33])
    found = row(error("s", "t", OURS, DENSE, 0.021), CASES, known)
    assert found and found["met"]
    assert found["rise"] == pytest.approx(0.02)
    # one standard error is 0.01 / sqrt(3); Student's t with two degrees of freedom reaches 4.3027 of them
    assert found["ci95"] == pytest.approx([0.02 - 0.024841, 0.02 + 0.024841], abs=1e-6)
    upper = row(error("s", "t", OURS, DENSE, 0.02, sense="upper"), CASES, known)
    assert upper and upper["met"] is False


def test_relative_rises_are_shares_of_the_baseline() -> None:
    known = runs(DENSE, [0.10, 0.20, 0.40]) + runs(OURS, [0.11, 0.22, 0.44])
    found = row(error("s", "t", OURS, DENSE, 0.05, relative=True), CASES, known)
    assert found and found["rise"] == pytest.approx(0.1) and found["met"] is False


@pytest.mark.parametrize(("errors", "met"), [([0.09, 0.18, 0.29], True), ([0.05, 0.25, 0.25], False)])
def test_better_means_significantly(errors: list[float], met: bool) -> None:
    known = runs(DENSE, [0.10, 0.20, 0.30]) + runs(OURS, errors)
    found = row(error("s", "t", OURS, DENSE, 0.0, sense="better"), CASES, known)
    assert found and found["rise"] < 0 and found["met"] is met


def test_no_verdict_before_all_pairs_are_there() -> None:
    claim = error("s", "t", OURS, DENSE, 0.02)
    assert row(claim, CASES, runs(DENSE, [0.1])) is None
    one = row(claim, CASES, runs(DENSE, [0.1, 0.1]) + runs(OURS, [0.1]))
    assert one and (one["seeds"], one["ci95"], one["met"]) == (1, None, None)


def test_words_that_are_drawn_count_as_drawn() -> None:
    known = runs(DENSE, [0.1]) + runs(OURS, [0.1], error_test_drawn=0.2)
    found = row(error("s", "t", OURS, DENSE, 0.05), CASES, known)
    assert found and found["result"] == pytest.approx(0.2)


def test_a_training_stands_for_its_own_settings_alone() -> None:
    stored = runs(OURS, [0.1])
    assert find(stored, OURS, CASES[OURS], 0)
    assert find(stored, OURS, CASES[OURS], 1) is None
    for changed in ({"version": training.VERSION - 1}, {"recipe": CASES[DENSE].recipe.model_dump()}):
        other = [stored[0] | {"settings": stored[0]["settings"] | changed}]
        assert find(other, OURS, CASES[OURS], 0) is None


def test_every_seed_must_reach_what_is_to_be_saved() -> None:
    claim = reaches("s", "t", OURS, DENSE, "memory", 0.95)
    known = runs(DENSE, [0.1] * 3, storage_bits=1000) + runs(OURS, [0.1] * 3, storage_bits=40)
    assert (row(claim, CASES, known) or {})["met"] is True
    known[-1]["storage_bits"] = 60
    assert (row(claim, CASES, known) or {})["met"] is False


def test_a_missed_claim_is_marked_and_explained() -> None:
    known = runs(DENSE, [0.10, 0.10, 0.10], storage_bits=1000) + runs(OURS, [0.12, 0.13, 0.14], storage_bits=40)
    table = markdown(content(CASES, known))
    missed = next(line for line in table.splitlines() if "within 1 point" in line)
    assert "All 6 trainings took 1.0 hours by the clock" in table
    assert "| +0.0300 | +0.0052 to +0.0548 | 3 | rise <= 0.01 | **no** |" in missed
    assert "- hybrid phones against dense phones, within 1 point: on validation data +0.0300; training loss" in table
