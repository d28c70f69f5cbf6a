"""A sweep is as many single estimates; its table, its rows and its picture say the same."""

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from codesign.design import Accelerator, Network, PiecewiseLinear, TaskShape
from codesign.errors import InputError
from codesign.hardware import ACCELERATORS, TECHNOLOGIES, FpgaPart, Settings, estimate
from codesign.inspect.sweep import (
    LINE_COLOURS,
    SETTING_UNITS,
    ZERO,
    Sweep,
    common_reasons,
    plot_sweep,
    setting_text,
    shares,
    sweep,
    sweep_csv,
    sweep_table,
)

SHAPE = TaskShape(10, 7)
NETWORK = Network(hidden=48, activation_function=PiecewiseLinear())
VALUES: dict[str, list[float]] = {
    "n_pe": [8, 16, 20, 400],
    "clock_hz": [50e6, 150e6, 2e9],
    "batch": [1, 2, 16],
    "dram_bits_per_s": [0.0, 1e9, 51.2e9],
    "supply_v": [0.0, 0.8, 1.1],
}


def text_of(result: Sweep) -> list[str]:
    out = Console(width=250, file=io.StringIO())
    out.print(sweep_table(result))
    return out.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_every_setting_can_be_swept() -> None:
    assert list(SETTING_UNITS) == [field.name for field in dataclasses.fields(Settings)]
    assert ZERO.keys() <= SETTING_UNITS.keys()


@pytest.mark.parametrize("kind", sorted(ACCELERATORS))
@pytest.mark.parametrize("part", ["xc7z020", "asic65"])
@pytest.mark.parametrize("fields", [("n_pe",), ("supply_v",), ("n_pe", "clock_hz"), ("dram_bits_per_s", "batch")])
def test_a_sweep_equals_single_estimates(kind: str, part: str, fields: tuple[str, ...]) -> None:
    on = Accelerator(kind=kind, technology=part, n_pe=12, clock_hz=90e6)
    result = sweep(NETWORK, on, SHAPE, {field: VALUES[field] for field in fields})
    assert len(result.rows()) == np.prod([len(VALUES[field]) for field in fields])
    for row in result.rows():
        point = {field: row[field] for field in fields}
        alone = estimate(NETWORK, on.model_copy(update=point), SHAPE)
        reasons = alone.reasons()
        assert row == point | alone.row() | {"feasible": not reasons, "reasons": reasons}


def test_all_combinations_are_tried_the_last_field_fastest() -> None:
    result = sweep(NETWORK, Accelerator(kind="dense"), SHAPE, {"batch": [2, 1], "n_pe": [8, 16]})
    assert result.points == [
        {"batch": 2, "n_pe": 8},
        {"batch": 2, "n_pe": 16},
        {"batch": 1, "n_pe": 8},
        {"batch": 1, "n_pe": 16},
    ]


def test_an_unknown_field_or_a_value_that_nothing_can_have_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^unknown field 'clock'; did you mean 'clock_hz'\? Known: .*$"):
        sweep(NETWORK, Accelerator(), SHAPE, {"clock": [1e6]})
    with pytest.raises(InputError, match=r"^n_pe must be whole numbers of at least 1, got \[0, 1\]$"):
        sweep(NETWORK, Accelerator(), SHAPE, {"n_pe": [0, 1]})


def test_settings_that_differ_never_look_the_same() -> None:
    clocks = [1e3, 999.0, 100e6, 100.000001e6, 1e9, 1.5]
    assert [setting_text("clock_hz", clock) for clock in clocks] == [
        "1 kHz", "999 Hz", "100 MHz", "100.000001 MHz", "1 GHz", "1.5 Hz",
    ]  # fmt: skip
    assert setting_text("dram_bits_per_s", 51.2e9) == "51.2 Gbit/s"
    assert [setting_text(field, 0) for field in ("dram_bits_per_s", "supply_v")] == ["on chip", "nominal"]
    assert setting_text("n_pe", 2048) == "2048"


def test_the_table_has_a_row_a_setting_and_says_which_cannot_run_and_why() -> None:
    result = sweep(NETWORK, Accelerator(), SHAPE, {"n_pe": [8, 20, 24]})
    head, *lines = text_of(result)
    assert head.split() == [
        "n_pe", "cycles", "latency", "throughput", "energy", "power", "lut", "ff", "dsp", "bram18", "cannot", "run"
    ]  # fmt: skip
    assert [line.split()[0] for line in lines] == ["8", "20", "24"]
    assert lines[1].rstrip().endswith("  n_pe = 20 does not divide hidden = 48; the next useful is 24")
    cost = result.cost
    for i, line in enumerate(lines):
        assert line.split()[1] == f"{cost.cycles[i]:,.0f}" and f" {cost.dsp[i]:.0f} " in line
        assert ("does not divide" in line) == (i == 1)
    assert [row.style for row in sweep_table(result).rows] == [None, "dim", None]


def test_a_table_without_faults_has_no_column_for_them_and_an_asic_has_an_area() -> None:
    head, *lines = text_of(
        sweep(NETWORK, Accelerator(kind="dense", technology="asic65"), SHAPE, {"supply_v": [0.0, 1.1]})
    )
    assert head.split() == ["supply_v", "cycles", "latency", "throughput", "energy", "power", "area"]
    assert [line[:8].strip() for line in lines] == ["nominal", "1.1 V"]


def test_what_no_row_can_run_for_is_said_once() -> None:
    exact = Network(hidden=48)
    result = sweep(exact, Accelerator(), SHAPE, {"n_pe": [8, 20]})
    (shared,) = common_reasons(result)
    assert shared.startswith("serial_core evaluates piecewise-linear segments")
    assert all("piecewise" not in line for line in text_of(result))
    assert "n_pe = 20 does not divide hidden = 48" in text_of(result)[2]
    too_fast = sweep(NETWORK, Accelerator(), SHAPE, {"n_pe": [8, 16], "clock_hz": [2e9, 1e8]})
    assert common_reasons(too_fast) == []
    assert ["clock_hz = 2e+09 is above" in line for line in text_of(too_fast)[1:]] == [True, False, True, False]


def test_csv_has_the_same_figures() -> None:
    result = sweep(NETWORK, Accelerator(), SHAPE, {"n_pe": [8, 20], "clock_hz": [1e8, 2e9]})
    rows = list(csv.DictReader(io.StringIO(sweep_csv(result))))
    assert len(rows) == 4
    for read, row in zip(rows, result.rows(), strict=True):
        assert read["reasons"] == "; ".join(row["reasons"]) and read["feasible"] == str(row["feasible"])
        assert read["area_mm2"] == "" and float(read["latency_s"]) == row["latency_s"]
        assert (int(read["n_pe"]), float(read["clock_hz"])) == (row["n_pe"], row["clock_hz"])


@pytest.mark.parametrize("part", ["xc7z020", "asic65"])
def test_shares_are_those_of_the_part(part: str) -> None:
    result = sweep(NETWORK, Accelerator(technology=part), SHAPE, {"n_pe": [8, 300]})
    if part == "asic65":
        assert shares(result) == {}
    else:
        assert list(shares(result)) == ["lut", "ff", "dsp", "bram18"]
        assert shares(result)["dsp"].tolist() == [100 * 13 / 220, 100 * 305 / 220]


def test_a_part_that_lacks_a_resource_has_no_share_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    part = TECHNOLOGIES["xc7z020"]
    assert isinstance(part, FpgaPart)
    monkeypatch.setitem(TECHNOLOGIES, "bare", dataclasses.replace(part, name="bare", dsp=0))
    result = sweep(NETWORK, Accelerator(technology="bare"), SHAPE, {"n_pe": [8, 16]})
    assert "dsp" not in shares(result)
    plot_sweep(result, "bare", tmp_path / "bare.png")


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Draws a sweep and returns its panels before they are closed."""
    from matplotlib import pyplot

    def draw(result: Sweep) -> list[Any]:
        kept: list[Any] = []
        with monkeypatch.context() as patch:
            patch.setattr(pyplot, "close", kept.append)
            plot_sweep(result, "title", tmp_path / "sweep.png")
        assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
        pyplot.close(kept[0])
        return list(kept[0].axes)

    return draw


def points(axis: Any, marker: str) -> list[tuple[float, float]]:
    lines = (line.get_data() for line in axis.lines if line.get_marker() == marker)
    return sorted(point for data in lines for point in zip(*data, strict=True))


def test_the_picture_shows_every_setting_and_crosses_out_what_cannot_run(axes: Any) -> None:
    result = sweep(NETWORK, Accelerator(), SHAPE, {"n_pe": [64, 8, 20, 16, 500]})
    panels = axes(result)
    cost, n_pe = result.cost, np.array([64, 8, 20, 16, 500])
    scarcest = np.max([cost.lut / 532, cost.ff / 1064, cost.dsp / 2.2, cost.bram18 / 2.8], axis=0)
    for axis, y in zip(panels, (cost.latency_s, cost.energy_j, scarcest), strict=True):
        for marker, which in (("o", cost.feasible), ("x", ~cost.feasible)):
            drawn, wanted = np.array(points(axis, marker)), np.array(sorted(zip(n_pe[which], y[which], strict=True)))
            assert len(wanted) and np.allclose(drawn, wanted, rtol=1e-12)
    assert [axis.get_ylabel() for axis in panels] == [
        "latency_s of one step [s]", "energy_j of one step [J]", "scarcest resource [% of xc7z020]",
    ]  # fmt: skip
    assert [text.get_text() for text in panels[0].figure.legends[0].get_texts()] == ["cannot run"]


def test_the_scarcest_resource_is_named_where_it_changes(axes: Any) -> None:
    large = NETWORK.model_copy(update={"hidden": 128})
    result = sweep(large, Accelerator(), SHAPE, {"n_pe": [8, 16, 64, 128]})
    names = np.array(["LUT", "FF", "DSP", "BRAM18"])[np.argmax(list(shares(result).values()), axis=0)]
    changes = [name for name, before in zip(names, ("", *names), strict=False) if name != before]
    assert len(set(changes)) > 1
    panels = axes(result)
    named = sorted((text.xy[0], text.get_text()) for text in panels[2].texts)
    assert [name for _, name in named] == changes
    (limit,) = (line for line in panels[2].lines if line.get_linestyle() == "--")
    assert set(limit.get_ydata()) == {100}


@pytest.mark.parametrize(
    ("values", "scales"),
    [
        ({"n_pe": [4, 8, 16, 32, 64, 128]}, ("log", "log")),
        ({"n_pe": [8, 16, 24]}, ("linear", "linear")),
        ({"n_pe": [8, 16, 64]}, ("linear", "linear")),
        ({"n_pe": [8, 16, 32]}, ("log", "linear")),
        ({"dram_bits_per_s": [0.0, 1e9, 2e9]}, ("linear", "linear")),
        ({"n_pe": [8]}, ("linear", "linear")),
    ],
)
def test_axes_are_logarithmic_where_the_values_grow_by_a_factor(
    values: dict[str, list[float]], scales: tuple[str, str], axes: Any
) -> None:
    latency, energy, area = axes(sweep(NETWORK, Accelerator(kind="dense", technology="asic65"), SHAPE, values))
    assert (latency.get_xscale(), latency.get_yscale()) == scales
    assert energy.get_xscale() == area.get_xscale() == scales[0]
    assert area.get_ylabel() == "area_mm2 [mm2]"


def test_a_line_joins_what_can_run_in_order_but_not_what_zero_stands_for(axes: Any) -> None:
    result = sweep(NETWORK, Accelerator(kind="dense"), SHAPE, {"dram_bits_per_s": [4e9, 0.0, 1e9]})
    (line,) = (line for line in axes(result)[0].lines if line.get_linestyle() == "-")
    assert line.get_xdata().tolist() == [1e9, 4e9]
    assert line.get_ydata().tolist() == result.cost.latency_s[[2, 0]].tolist()
    stuck = sweep(NETWORK, Accelerator(), SHAPE, {"n_pe": [8, 20, 24]})
    (line,) = (line for line in axes(stuck)[0].lines if line.get_linestyle() == "-")
    assert line.get_xdata().tolist() == [8, 24]


@pytest.mark.parametrize(
    ("values", "ticks"), [([8, 16, 24], [8, 16, 24]), ([4, 8, 16, 32], [4, 8, 16, 32]), ([8, 9, 11], [8, 9, 10, 11])]
)
def test_ticks_of_counts_are_whole_and_the_values_themselves_where_even(
    values: list[float], ticks: list[float], axes: Any
) -> None:
    axis = axes(sweep(NETWORK, Accelerator(kind="dense"), SHAPE, {"n_pe": values}))[0]
    low, high = axis.get_xlim()
    assert [tick for tick in axis.get_xticks() if low <= tick <= high] == ticks


def test_axes_have_units_and_say_what_zero_means(axes: Any) -> None:
    on = Accelerator(kind="dense", technology="asic65")
    labels = {
        "n_pe": "n_pe",
        "clock_hz": "clock_hz [Hz]",
        "batch": "batch",
        "dram_bits_per_s": "dram_bits_per_s [bit/s]; 0: on chip",
        "supply_v": "supply_v [V]; 0: nominal",
    }
    for field, values in VALUES.items():
        assert {axis.get_xlabel() for axis in axes(sweep(NETWORK, on, SHAPE, {field: values}))} == {labels[field]}


def test_a_second_field_is_a_line_each(axes: Any) -> None:
    on = Accelerator(kind="dense", technology="asic65")
    result = sweep(NETWORK, on, SHAPE, {"n_pe": [8, 16, 32], "clock_hz": [100e6, 200e6]})
    latency = axes(result)[0]
    dots = [line for line in latency.lines if line.get_marker() == "o"]
    assert [line.get_color() for line in dots] == list(LINE_COLOURS[:2])
    for line, start in zip(dots, (0, 1), strict=True):
        assert line.get_ydata().tolist() == result.cost.latency_s[start::2].tolist()
    texts = [text.get_text() for text in latency.figure.legends[0].get_texts()]
    assert texts == ["clock_hz = 100 MHz", "clock_hz = 200 MHz"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_pictures_are_written_in_every_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"sweep{suffix}"
    plot_sweep(sweep(NETWORK, Accelerator(), SHAPE, {"n_pe": [8, 16]}), "title", path)
    assert path.stat().st_size > 5_000


def test_pictures_that_cannot_be_drawn_are_one_line(tmp_path: Path) -> None:
    two = sweep(NETWORK, Accelerator(), SHAPE, {"n_pe": [8, 16]})
    many = sweep(NETWORK, Accelerator(), SHAPE, {"n_pe": [8, 16], "clock_hz": [1e6 * (i + 1) for i in range(8)]})
    for result, path, line in (
        (two, tmp_path / "a.gif", "a.gif: cannot draw '.gif'; use one of .png, .svg, .pdf"),
        (two, tmp_path / "no" / "a.png", "no/a.png: cannot be written (No such file or directory)"),
        (
            many,
            tmp_path / "a.png",
            "a.png: a picture holds 7 lines, but clock_hz has 8 values; sweep clock_hz first, or give it fewer",
        ),
    ):
        with pytest.raises(InputError) as error:
            plot_sweep(result, "title", path)
        assert str(error.value) == f"{tmp_path}/{line}"
