import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from codesign.cli.main import app, main
from codesign.search.study import Study
from tests.tiny import tiny_space

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished tiny study."""
    study = Study(tiny_space(), tmp_path_factory.mktemp("cli") / "tiny")
    study.run()
    return study.folder


@pytest.fixture
def run(capsys):
    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


@pytest.mark.parametrize("arguments", [["--help"], ["estimate", "design.toml"], ["front", "study"], ["accelerators"]])
def test_commands_that_do_not_train_import_neither_jax_nor_optuna(arguments, folder, tmp_path):
    (tmp_path / "design.toml").write_text(
        'task = { name = "ru_phones" }\nnetwork.activation_function = "piecewise_linear"'
    )
    (tmp_path / "study").symlink_to(folder)
    code = (
        "import sys; from codesign.cli.main import main; code = main(sys.argv[1:]); "
        "heavy = {'jax', 'flax', 'optax', 'optuna'} & set(sys.modules); assert not heavy, heavy; sys.exit(code)"
    )
    run = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout


@pytest.mark.parametrize("name", sorted(app.commands))
def test_every_command_has_help_and_stands_in_the_readme(name, run):
    code, out, _ = run(name, "--help")
    assert code == 0 and out.startswith(f"Usage: codesign {name}")
    assert re.search(rf"codesign {name}\b", (ROOT / "README.md").read_text())


def test_front_json_rows_carry_what_was_promised(folder, run):
    code, out, err = run("front", folder, "--json")
    rows = json.loads(out)
    assert code == 0 and err == "" and rows
    promised = "trial design error_val error_test error_val_std cycles latency_s energy_j storage_bits feasible"
    promised += " lut ff dsp bram18"
    for row in rows:
        assert set(promised.split()) <= row.keys()
        assert 0 < row["error_val"] < 1 and 0 < row["error_test"] < 1 and row["feasible"] is True
        assert row["latency_s"] == pytest.approx(row["cycles"] / row["design"]["accelerator"]["clock_hz"])


def test_front_csv_has_a_line_for_each_row_and_the_same_numbers(folder, run):
    rows = json.loads(run("front", folder, "--json")[1])
    lines = run("front", folder, "--csv")[1].splitlines()
    assert len(lines) == len(rows) + 1
    column = lines[0].split(",").index("error_val")
    assert [float(line.split(",")[column]) for line in lines[1:]] == [row["error_val"] for row in rows]


def test_front_as_a_table_marks_one_knee_and_shows_every_trial(folder, run):
    rows = json.loads(run("front", folder, "--json")[1])
    code, out, _ = run("front", folder)
    assert code == 0 and out.count("<- knee") == 1
    assert f"front of {len(rows)}, confirmed" in out
    for row in rows:
        assert re.search(rf"^ +{row['trial']} ", out, re.M)


def test_front_is_drawn(folder, run, tmp_path):
    code, out, err = run("front", folder, "--plot", tmp_path / "front.png")
    assert (code, out) == (0, "") and err.startswith("wrote ")
    content = (tmp_path / "front.png").read_bytes()
    assert content.startswith(b"\x89PNG") and len(content) > 10_000


def test_the_report_is_one_page_that_needs_no_network(folder, run, tmp_path):
    code, _, _ = run("report", folder, "--to", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    markup = re.sub(r"(<script[^>]*>).*?</script>", r"\1", page, flags=re.S)  # plotly's own code names its site
    assert code == 0 and not re.search(r"(src|href)=", markup)
    rows = json.loads(run("front", folder, "--json")[1])
    for row in rows:
        assert f'<td class="">{row["trial"]}</td>' in page


def test_the_report_says_why_designs_were_refused(run, tmp_path):
    Study(tiny_space(every_accelerator=False, trials=3, confirm_seeds=1), tmp_path / "refusing").run()
    assert run("report", tmp_path / "refusing", "--to", tmp_path / "page.html")[0] == 0
    assert "n_pe = 16 does not divide hidden = 8" in (tmp_path / "page.html").read_text()


def test_estimate_prints_a_breakdown_that_adds_up(run, tmp_path):
    design = tmp_path / "design.toml"
    design.write_text(
        'task = "ru_phones"\nnetwork.activation_function = "piecewise_linear"\n'.replace(
            '"ru_phones"', '{ name = "ru_phones" }'
        )
    )
    code, out, _ = run("estimate", design, "--json")
    data = json.loads(out)
    assert code == 0 and data["feasible"] is True and data["unproven"]
    for name in ("cycles", "energy_j", "storage_bits", "lut", "ff", "dsp", "bram18"):
        assert sum(data["breakdown"][name].values()) == pytest.approx(data[name], rel=1e-12)


def test_estimate_of_a_design_that_cannot_run_says_why(run, tmp_path):
    design = tmp_path / "design.toml"
    design.write_text('task = { name = "ru_phones" }\n[accelerator]\nn_pe = 3\n')
    code, out, _ = run("estimate", design)
    assert code == 0
    assert "cannot run: n_pe = 3 does not divide hidden = 64; the next useful is 4" in out
    assert "cannot run: serial_core evaluates piecewise-linear segments" in out


def test_lists_name_every_registered_thing(run):
    from codesign.compression import STRUCTURES
    from codesign.hardware import ACCELERATORS, TECHNOLOGIES
    from codesign.tasks import TASKS

    for command, names in (("tasks", TASKS), ("methods", STRUCTURES), ("accelerators", [*ACCELERATORS, *TECHNOLOGIES])):
        code, out, _ = run(command)
        assert code == 0 and all(name in out for name in names)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["search", "missing.toml"], "codesign: missing.toml: no such file"),
        (["front", "missing"], "codesign: missing: holds no study (no study.db); name the folder that a search wrote"),
        (["estimate", "missing.toml"], "codesign: missing.toml: no such file"),
        (["estimate", "noise.toml"], "codesign: noise.toml: is not text; a TOML file in UTF-8 is expected"),
        (["front", "STUDY", "--plot", "x.gif"], "codesign: x.gif: cannot draw '.gif'; use one of .png, .svg, .pdf"),
        (["front", "STUDY", "--plot", "no/x.png"], "codesign: no/x.png: cannot be written (No such file or directory)"),
        (
            ["report", "STUDY", "--to", "no/x.html"],
            "codesign: no/x.html: cannot be written (No such file or directory)",
        ),
    ],
)
def test_wrong_input_is_one_line_on_stderr_and_exit_code_1(arguments, line, folder, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noise.toml").write_bytes(bytes(range(128, 256)))
    code, out, err = run(*(folder if argument == "STUDY" else argument for argument in arguments))
    assert (code, out, err) == (1, "", line + "\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["front"], "Missing argument 'FOLDER'"),
        (["fronts"], "No such command 'fronts'"),
        (["front", "x", "--json", "--csv"], "--json cannot be used with --csv"),
        (["export", "x", "--knee", "--trial", "1", "--to", "y"], "--trial, --knee and --best exclude each other"),
        (["export", "x", "--max", "lut", "--to", "y"], "'lut' is not of the form FIELD=VALUE"),
        (["search", "x", "--trials", "0"], "0 is not in the range x>=1"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, text, run):
    code, out, err = run(*arguments)
    assert code == 2 and out == "" and text in err


def test_ctrl_c_says_that_the_same_command_goes_on(tmp_path):
    import os
    import signal

    (tmp_path / "tiny.toml").write_text(tiny_space(trials=200).text)
    # a shell that starts the tests in the background hands them an ignored SIGINT
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from codesign.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "search", str(tmp_path / "tiny.toml"), "--to", str(tmp_path / "r")],
        cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None and process.stdout is not None
    for line in process.stderr:
        if line.startswith("search: 1/"):
            os.kill(process.pid, signal.SIGINT)
            break
    rest = process.stderr.read()
    process.wait(60)
    process.stderr.close()
    process.stdout.close()
    assert process.returncode == 130
    assert rest.splitlines()[-1] == "codesign: interrupted; the same command goes on where it stopped"
    assert "Traceback" not in rest


def test_the_public_names_are_complete_sorted_and_all_there():
    import codesign

    assert codesign.__all__ == sorted(codesign.__all__) == sorted(codesign._HOMES)
    for name in codesign.__all__:
        assert getattr(codesign, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'Studdy'"):
        _ = codesign.Studdy
