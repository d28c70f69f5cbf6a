"""The published figures: every one has what makes it checkable, predictions hold, nothing recalled decides."""

import json
from typing import Any

import pytest

from codesign.cli.main import main
from codesign.hardware import Cost, published, technology
from codesign.hardware.published import KNOWN, PUBLISHED, TOLERANCE, Comparison, Figure, compare

EVIDENCE = {"prediction", "transfer", "identity", "fit", "calibrated"}
TAGS = {"V", "C", "S", "D", "M+", "M", "M-"}


def name(figure: Figure) -> str:
    return f"{figure.design}, {figure.quantity}"


@pytest.fixture(scope="module")
def compared() -> dict[str, Comparison]:
    found = {name(one.figure): one for one in compare()}
    assert len(found) == len(PUBLISHED)  # no row twice
    return found


@pytest.mark.parametrize("figure", PUBLISHED, ids=name)
def test_every_figure_says_where_it_comes_from(figure: Figure) -> None:
    assert figure.evidence in EVIDENCE and figure.tag in TAGS
    assert figure.published > 0 and figure.unit and figure.inputs


@pytest.mark.parametrize("figure", [figure for figure in PUBLISHED if figure.decides], ids=name)
def test_predictions_of_known_figures_hold(figure: Figure) -> None:
    assert abs(figure.deviation) <= TOLERANCE


@pytest.mark.parametrize("figure", [figure for figure in PUBLISHED if figure.evidence == "identity"], ids=name)
def test_identities_are_equal(figure: Figure) -> None:
    assert abs(figure.deviation) < 0.005


def test_recalled_figures_fits_and_calibrations_decide_nothing() -> None:
    for figure in PUBLISHED:
        assert figure.decides == (figure.evidence == "prediction" and figure.tag in KNOWN)
    assert {figure.tag for figure in PUBLISHED if not figure.decides} > {"M", "M+"}


def test_what_was_computed_back_from_a_figure_is_called_a_fit() -> None:
    """The clock of Wang's boards is recalled; products a cycle of the FFT designs come from their rates."""
    for figure in PUBLISHED:
        if (
            figure.quantity == "rate"
            and "C-LSTM" in figure.design
            or figure.design == "Wang 2017"
            and figure.number == 1
        ):
            assert figure.evidence == "fit"


@pytest.mark.parametrize(
    ("row", "modelled"),
    [
        ("Wang 2017, latency", 1024 / 600),
        ("state skipping, 8 streams, dense rate", 2 * 192 * 0.2),
        ("C-LSTM block 8, KU060, latency", 3 * 1024 / 200),
        ("C-LSTM block 8, compression", 3_248_128 / 409_600),
        ("C-LSTM block 16, compression", 3_248_128 / 204_800),
        ("HCGS, weight memory", 288.0),
        ("HCGS, rate of the whole network", 64 * 2 * 16 * 80e6 / 1e12),
        ("TT-LSTM, weights of the input kernel", 512 + 1280 + 1280 + 288),
        ("TIE FC7, compression", 4096**2 / (16 * 4 + 4 * 16 * 16 + 16 * 4)),
    ],
)
def test_figures_by_hand(row: str, modelled: float, compared: dict[str, Comparison]) -> None:
    assert compared[row].modelled == pytest.approx(modelled)


FACTORS = {"cycles": 3.0, "latency_s": 3.0, "energy_j": 2.0, "power_w": 2 / 3, "throughput": 1 / 3, "area_mm2": 5.0}


class Scaled:
    """A cost of which every figure is multiplied by a factor of its own."""

    def __init__(self, found: Cost) -> None:
        self.found = found
        tables = found.breakdown.items()
        self.breakdown = {
            figure: {part: FACTORS.get(figure, 7.0) * value for part, value in parts.items()}
            for figure, parts in tables
        }

    def __getattr__(self, figure: str) -> Any:
        return FACTORS.get(figure, 7.0) * getattr(self.found, figure)


def test_figures_come_from_the_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure that does not move with its kind is typed in, not modelled."""
    before = {name(figure): figure.modelled() for figure in PUBLISHED}
    plain = published._cost
    monkeypatch.setattr(published, "_cost", lambda *args, **options: Scaled(plain(*args, **options)))
    counted = ("compression", "weights of the input kernel", "weight memory saved", "gain on the recurrent kernel")
    for figure in PUBLISHED:
        if not figure.inputs.startswith("no kind of ours") and figure.quantity not in counted:
            assert figure.modelled() / before[name(figure)] != pytest.approx(1.0, abs=0.1), name(figure)


def test_the_command_prints_all_rows_and_says_what_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate"]) == 0
    out = capsys.readouterr().out
    assert "C-LSTM" in out and "predictions of known figures hold within 3 %" in " ".join(out.split())
    assert main(["validate", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == len(PUBLISHED)
    wanted = {"design", "quantity", "published", "modelled", "deviation", "tag", "kind", "inputs"}
    assert all(wanted <= set(row) for row in rows)


def test_a_prediction_that_fails_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = Figure(0, "nobody's", "latency", 1.0, "us", "V", "prediction", lambda: 1.04, "none")
    monkeypatch.setattr(published, "PUBLISHED", (wrong,))
    assert main(["validate"]) == 1
    assert "nobody's, latency: +4.0 %" in capsys.readouterr().err


def test_technologies_of_the_figures_exist() -> None:
    for part in ("asic90", "asic65", "asic28", "xcku060", "xc7vx690t"):
        assert technology(part).name == part
