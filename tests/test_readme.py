"""The README's Python runs as it stands there."""

import os
import re
from pathlib import Path

import pytest

from codesign.hardware import TECHNOLOGIES
from codesign.tasks import TASKS, RuPhones

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)


def test_the_example_of_a_part_and_a_task_of_ones_own_registers_both():
    try:
        exec(BLOCKS[2], {"MyTask": RuPhones})
        assert TECHNOLOGIES["mypart"].dsp == 90 and TASKS["mine"]().shape.n_inputs == 39
    finally:
        TECHNOLOGIES.pop("mypart", None)
        TASKS.pop("mine", None)


@pytest.mark.slow
def test_the_five_lines_search_print_a_front_and_export(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.symlink(ROOT / "search_spaces", "search_spaces")
    exec(BLOCKS[0], {})
    assert len(capsys.readouterr().out.splitlines()) >= 2
    assert sorted(path.name for path in Path("chosen").iterdir()) == ["design.toml", "weights.safetensors"]


@pytest.mark.slow
def test_the_example_of_a_ternary_network_trains(capsys):
    exec(BLOCKS[1], {})
    assert "error" in capsys.readouterr().out
