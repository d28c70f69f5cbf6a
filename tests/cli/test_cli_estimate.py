"""codesign estimate: sweeps equal single estimates, sizing equals trying, wrong input is one line."""

import csv
import io
import json
import math
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.cli import quantities
from codesign.cli.main import main
from codesign.errors import InputError
from codesign.hardware import estimate
from codesign.inspect import sweep

DESIGN = """
task = { name = "ru_phones", subset = "mini" }
[network]
hidden = 48
activation_function = "piecewise_linear"
[accelerator]
"""


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Runs `codesign estimate` on a design of these accelerator fields, where pictures may be written."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, **accelerator):
        lines = (f"{name} = {json.dumps(value)}" for name, value in accelerator.items())
        (tmp_path / "design.toml").write_text(DESIGN + "\n".join(lines))
        code = main(["estimate", "design.toml", *arguments])
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


SWEPT = [
    ("n_pe", "8:24:4", [8, 12, 16, 20, 24]),
    ("n_pe", "4:100:x2", [4, 8, 16, 32, 64]),
    ("n_pe", "0.5k,12", [500, 12]),
    ("clock_hz", "100MHz,0.2G,150e6", [100e6, 200e6, 150e6]),
    ("clock_hz", "100MHz:200MHz:25 MHz", [100e6, 125e6, 150e6, 175e6, 200e6]),
    ("batch", "1:4:1", [1, 2, 3, 4]),
    ("dram_bits_per_s", "0,51.2Gbit/s", [0.0, 51.2e9]),
    ("supply_v", "0.8:1.2:100mV", [0.8, 0.9, 1.0, 1.1, 1.2]),
]


@pytest.mark.parametrize("kind", ["dense", "serial_core"])
@pytest.mark.parametrize("technology", ["xc7z020", "asic65"])
@pytest.mark.parametrize(("field", "spec", "values"), SWEPT)
def test_a_sweep_equals_single_estimates(kind, technology, field, spec, values, run):
    code, out, err = run("--sweep", f"{field}={spec}", "--json", kind=kind, technology=technology)
    rows = json.loads(out)
    assert (code, err) == (0, "") and [row[field] for row in rows] == values
    for row in rows:
        alone = json.loads(run("--json", **{"kind": kind, "technology": technology, field: row[field]})[1])
        assert row == {field: row[field]} | {name: alone[name] for name in row if name != field}


def test_two_sweeps_try_all_combinations_in_one_estimate(run, monkeypatch):
    calls = []
    monkeypatch.setattr(sweep, "estimate", lambda *a, **k: calls.append(a) or estimate(*a, **k))
    _, out, _ = run("--sweep", "n_pe=8,16", "--sweep", "clock_hz=100MHz:300MHz:100MHz", "--json", kind="dense")
    assert [(row["n_pe"], row["clock_hz"]) for row in json.loads(out)] == [
        (n_pe, clock_hz) for n_pe in (8, 16) for clock_hz in (100e6, 200e6, 300e6)
    ]
    assert len(calls) == 1


def test_the_table_names_the_next_useful_number_of_pes(run):
    code, out, _ = run("--sweep", "n_pe=8:20:4")
    title, head, *lines = out.splitlines()
    assert code == 0 and title == "serial_core on xc7z020, one step of ru_phones mini"
    assert head.split()[:2] == ["n_pe", "cycles"] and head.rstrip().endswith("cannot run")
    assert [line.split()[0] for line in lines[:4]] == ["8", "12", "16", "20"]
    assert lines[3].rstrip().endswith("n_pe = 20 does not divide hidden = 48; the next useful is 24")
    assert all(line.startswith("unproven: ") for line in lines[4:]) and len(lines) > 4


def test_what_no_setting_can_run_for_stands_below_the_table(run):
    _, out, _ = run("--sweep", "n_pe=8,16", supply_v=1.0)
    assert out.count("supply_v belongs to ASIC nodes") == 1
    assert "\ncannot run: xc7z020 has a supply of its own" in out


def test_csv_has_the_numbers_of_json(run):
    arguments = ("--sweep", "n_pe=8,20", "--sweep", "clock_hz=100MHz,2GHz")
    rows = json.loads(run(*arguments, "--json")[1])
    read = list(csv.DictReader(io.StringIO(run(*arguments, "--csv")[1])))
    assert [float(row["latency_s"]) for row in read] == [row["latency_s"] for row in rows]
    assert [row["reasons"] for row in read] == ["; ".join(row["reasons"]) for row in rows]


def test_a_sweep_is_drawn(run, tmp_path):
    code, out, err = run("--sweep", "n_pe=8:64:x2", "--plot", "sweep.png")
    assert (code, out, err) == (0, "", "wrote sweep.png\n")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    _, out, _ = run("--sweep", "n_pe=8:64:x2", "--plot", "sweep.svg", "--json")
    assert len(json.loads(out)) == 4 and (tmp_path / "sweep.svg").exists()


@pytest.mark.parametrize(
    ("kind", "useful"), [("dense", range(1, 193)), ("serial_core", (1, 2, 3, 4, 6, 8, 12, 16, 24, 48))]
)
def test_limits_find_what_a_sweep_over_all_sizes_finds(kind, useful, run):
    fields = {"kind": kind, "technology": "asic65", "n_pe": 5}
    rows = json.loads(run("--sweep", "n_pe=1:192:1", "--json", **fields)[1])
    assert [row["n_pe"] for row in rows if row["feasible"]] == list(useful)
    limits = ["--max", "latency_s=40us", "--max", "area_mm2=1", "--min", "throughput=20ksteps/s"]
    keep = [
        row for row in rows
        if row["feasible"] and row["latency_s"] <= 40e-6 and row["area_mm2"] <= 1 and row["throughput"] >= 20e3
    ]  # fmt: skip
    code, out, _ = run(*limits, "--json", **fields)
    data = json.loads(out)
    assert code == 0 and data["n_pe"] == keep[0]["n_pe"] and data["latency_s"] == keep[0]["latency_s"]
    assert data["next_smaller"]["n_pe"] == max(n for n in useful if n < data["n_pe"])
    alone = json.loads(run("--json", **(fields | {"n_pe": data["n_pe"]}))[1])
    assert {name: data[name] for name in alone} == alone
    _, out, _ = run(*limits, **fields)
    missed = " and ".join(data["next_smaller"]["missed"])
    assert out.splitlines()[1] == (
        f"n_pe = {data['n_pe']} is the smallest with latency_s <= 4e-05 and area_mm2 <= 1 and throughput >= 20000; "
        f"n_pe = {data['next_smaller']['n_pe']} has {missed}"
    )
    assert "recurrent_kernel" in out and "unproven: " in out


def test_where_one_pe_is_enough_none_below_is_named(run):
    code, out, _ = run("--max", "latency_s=1")
    assert code == 0 and "\nn_pe = 1 is the smallest with latency_s <= 1; none below it can run\n" in out
    assert json.loads(run("--max", "latency_s=1", "--json")[1])["next_smaller"] is None


def test_limits_that_cannot_be_kept_are_one_line_with_the_nearest(run):
    code, out, err = run("--max", "latency_s=1us", kind="serial_core", technology="asic65")
    rows = json.loads(run("--sweep", "n_pe=48", "--json", kind="serial_core", technology="asic65")[1])
    assert (code, out) == (1, "")
    assert err == (
        "codesign: design.toml: serial_core on asic65 cannot keep latency_s <= 1e-06; "
        f"the nearest is n_pe = 48 with latency_s = {rows[0]['latency_s']:g}; no other n_pe does better\n"
    )


FIELDS = "batch, clock_hz, dram_bits_per_s, n_pe, supply_v"
HZ = "one may end in a prefix, p n u m k M G, and the unit Hz"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--sweep n_pe=0", "--sweep: n_pe=0: n_pe: must be greater than or equal to 1, got 0"),
        ("--sweep n_pe=0:64:8", "--sweep: n_pe=0:64:8: n_pe: must be greater than or equal to 1, got 0"),
        ("--sweep n_pe=64,70000", "--sweep: n_pe=64,70000: n_pe: must be less than or equal to 65536, got 70000"),
        ("--sweep n_pes=8", f"--sweep: unknown field 'n_pes'; did you mean 'n_pe'? Known: {FIELDS}"),
        (
            "--sweep n_pe",
            "--sweep: 'n_pe' is not of the form FIELD=VALUES, as n_pe=8:64:8, n_pe=8:2048:x2 or batch=1,8,16",
        ),
        (
            "--sweep n_pe=8:64",
            "--sweep: n_pe=8:64: a range is FIRST:LAST:STEP, as 8:64:8, or FIRST:LAST:xFACTOR, as 8:64:x2",
        ),
        ("--sweep n_pe=64:8:8", "--sweep: n_pe=64:8:8: is empty; the first value must be smaller than the last"),
        ("--sweep n_pe=8:8:x2", "--sweep: n_pe=8:8:x2: is empty; the first value must be smaller than the last"),
        ("--sweep n_pe=8:64:0", "--sweep: n_pe=8:64:0: would never end; the step must be above zero"),
        ("--sweep n_pe=8:64:-8", "--sweep: n_pe=8:64:-8: would never end; the step must be above zero"),
        ("--sweep n_pe=8:64:x1", "--sweep: n_pe=8:64:x1: would never end; the factor must be above 1"),
        (
            "--sweep supply_v=0:1:x2",
            "--sweep: supply_v=0:1:x2: would never end; a range by a factor must begin above zero",
        ),
        ("--sweep n_pe=8:64:100", "--sweep: n_pe=8:64:100: holds its first value only; take smaller steps"),
        ("--sweep n_pe=1:20k:1", "--sweep: n_pe=1:20k:1: holds more than 10000 values; take larger steps"),
        ("--sweep n_pe=8,8", "--sweep: n_pe=8,8: holds a value twice"),
        ("--sweep n_pe=8.5", "--sweep: n_pe=8.5: n_pe must be whole, got 8.5"),
        ("--sweep n_pe=1e30", f"--sweep: n_pe=1e30: n_pe: must be less than or equal to 65536, got {10**30}"),
        ("--sweep n_pe=8,,9", "--sweep: n_pe=8,,9: '' is not a number; one may end in a prefix, p n u m k M G"),
        ("--sweep clock_hz=200ms", f"--sweep: clock_hz=200ms: '200ms' is not a number; {HZ}"),
        ("--sweep clock_hz=nan", f"--sweep: clock_hz=nan: 'nan' is not a number; {HZ}"),
        ("--sweep clock_hz=0", "--sweep: clock_hz=0: clock_hz: must be greater than 0, got 0.0"),
        ("--sweep supply_v=3V", "--sweep: supply_v=3V: supply_v: must be less than or equal to 2, got 3.0"),
        (
            "--sweep n_pe=8 --sweep n_pe=9",
            "--sweep: a field is given twice; give one list of its values, as n_pe=8,12,16",
        ),
        (
            "--sweep n_pe=8 --sweep batch=2 --sweep supply_v=1",
            "--sweep: at most two fields can be swept at once, got n_pe, batch, supply_v",
        ),
        (
            "--sweep n_pe=1:1000:1 --sweep batch=1:20:1",
            "--sweep: 20000 settings are more than 10000; take larger steps",
        ),
        ("--sweep n_pe=8,16 --plot x.gif", "x.gif: cannot draw '.gif'; use one of .png, .svg, .pdf"),
        ("--sweep n_pe=8,16 --plot no/x.png", "no/x.png: cannot be written (No such file or directory)"),
        ("--max latency_s", "--max: 'latency_s' is not of the form FIELD=VALUE with a number, as latency_s=50us"),
        (
            "--max latency_s=fast",
            "--max: 'fast' is not a number; one may end in a prefix, p n u m k M G, and the unit s",
        ),
        ("--max latency_s=0", "design.toml: the limit of latency_s must be a number above zero, got 0.0"),
        ("--max throughput=3k", "--max: throughput=3k: of throughput, more is better; use --min"),
        ("--min latency_s=3", "--min: latency_s=3: of latency_s, less is better; use --max"),
        ("--max lut=3 --max lut=4", "--max: lut is limited twice; give the tighter limit alone"),
        (
            "--max area_mm2=1mm2",
            "design.toml: xc7z020 has no area_mm2; it has cycles, latency_s, throughput, energy_j, power_w, lut, ff, "
            "dsp, bram18, storage_bits",
        ),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line(arguments, line, run):
    assert run(*arguments.split()) == (1, "", f"codesign: {line}\n")


def test_an_unknown_figure_is_one_line_with_the_nearest(run):
    code, out, err = run("--max", "latency=50us")
    assert (code, out) == (1, "") and err.count("\n") == 1
    assert err.startswith("codesign: --max: unknown field 'latency'; did you mean 'latency_s'? Known: area_mm2, ")


def test_faults_of_all_sweeps_are_told_at_once(run):
    _, _, err = run("--sweep", "n_pe=0", "--sweep", "batchs=1")
    assert [line.split(": ")[2][:13] for line in err.splitlines()] == ["n_pe=0", "unknown field"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("--csv", "--csv and --plot need --sweep"),
        ("--plot x.png", "--csv and --plot need --sweep"),
        ("--sweep n_pe=8 --json --csv", "--json cannot be used with --csv"),
        ("--sweep n_pe=8 --max lut=3", "--max and --min cannot be used with --sweep"),
        ("--sweep n_pe=8 --min throughput=3", "--max and --min cannot be used with --sweep"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(arguments, text, run):
    code, out, err = run(*arguments.split())
    assert (code, out) == (2, "") and text in err


def test_the_limits_of_an_export_are_written_the_same_way(capsys):
    for text, line in (
        ("latency_s=50uV", "'50uV' is not a number; one may end in a prefix, p n u m k M G, and the unit s"),
        ("latency=1", "unknown field 'latency'; did you mean 'latency_s'?"),
    ):
        assert main(["export", "x", "--max", text, "--to", "y"]) == 2
        assert line in capsys.readouterr().err
    assert main(["export", "missing", "--max", "latency_s=50us", "--max", "error=0.2", "--to", "y"]) == 1
    assert "holds no study" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", ["--sweep n_pe=8,16", "--sweep n_pe=8,16 --plot x.png", "--max latency_s=1ms"])
def test_neither_sweeps_nor_limits_import_jax_or_optuna(arguments, tmp_path):
    (tmp_path / "design.toml").write_text(DESIGN)
    code = (
        "import sys; from codesign.cli.main import main; code = main(sys.argv[1:]); "
        "heavy = {'jax', 'flax', 'optax', 'optuna'} & set(sys.modules); assert not heavy, heavy; sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "estimate", "design.toml", *arguments.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


POWERS = {"p": -12, "n": -9, "u": -6, "µ": -6, "μ": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9}


@given(
    number=st.decimals(-1000, 1000, places=6), power=st.sampled_from(sorted(POWERS)),
    unit=st.sampled_from(["", "s", "Hz", "bit/s", "mm2", "steps/s"]), space=st.sampled_from(["", " "]),
)  # fmt: skip
def test_numbers_are_exact_with_every_prefix_and_unit(number, power, unit, space):
    wanted = Fraction(number) * Fraction(10) ** POWERS[power]
    for text in (f"{number:f}{space}{power}{unit}", f"{number:f}{power}", f" {number:f}{power}{space}{unit} "):
        assert Fraction(quantities.number(text, unit)) == wanted
        assert float(quantities.number(text, unit)) == float(wanted)


NO_NUMBERS = ["", "k", "Hz", "1x", "1 2", "1..2", "1.2.3", "--1", "0x10", "1e", "1e999", "1_0", "nan", "1kk", "1Hzk"]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_number_is_refused(text):
    with pytest.raises(InputError, match="is not a number"):
        quantities.number(text, "Hz")


@given(first=st.integers(1, 400), span=st.integers(1, 400), step=st.integers(1, 50))
def test_ranges_hold_what_counting_gives(first, span, step):
    last = first + span
    linear, factor = range(first, last + 1, step), 1 + Fraction(step, 10)
    powers = [first * factor**i for i in range(int(math.log(last / first) / math.log(factor)) + 2)]
    for spec, wanted in (
        (f"{first}:{last}:{step}", list(linear)),
        (f"{first}:{last}:x{float(factor)}", [power for power in powers if power <= last]),
    ):
        if len(wanted) > 1:
            got = quantities.sweep(f"clock_hz={spec}")[1]
            assert got == pytest.approx([float(value) for value in wanted], rel=1e-15)
        else:
            with pytest.raises(InputError, match="holds its first value only"):
                quantities.sweep(f"clock_hz={spec}")
