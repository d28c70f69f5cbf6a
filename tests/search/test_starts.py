"""Known designs that a search begins with: [[search.start]]."""

import tomllib
from pathlib import Path

import pytest
import tomli_w

from codesign.design import Network
from codesign.errors import InputError
from codesign.search.space import load_search_space
from codesign.search.study import Study
from tests.tiny import TINY

PRESETS = Path(__file__).parents[2] / "search_spaces" / "presets"
COARSE = {"kind": "coarse_grain", "level1_block": 8, "level1_keep": 1.0, "level2_block": 4, "level2_keep": 0.5}
KNOWN = {
    "network": {
        "state_threshold": 0.1,
        "recurrent_kernel": {"structure": COARSE},
        "input_kernel": {
            "structure": {"kind": "block_circulant", "block_size": 4},
            "weights": {"kind": "fixed", "bits": 8},
        },
    },
    "accelerator": {"n_pe": 4},
}


def load(folder, *starts, **tables):
    """The tiny space with starts, written to a file."""
    space = tomllib.loads(TINY)
    space["search"]["start"] = list(starts)
    for table, fields in tables.items():
        space[table] |= fields
    path = folder / "space.toml"
    path.write_text(tomli_w.dumps(space))
    return load_search_space(path)


def faults(folder, *starts, **tables):
    with pytest.raises(InputError) as caught:
        load(folder, *starts, **tables)
    return [fault.removeprefix(f"{folder}/space.toml: ") for fault in caught.value.faults]


def test_the_first_trials_are_the_starts_in_their_order(tmp_path):
    study = Study(
        load(tmp_path, KNOWN, {"accelerator": {"n_pe": 8}}, search={"trials": 3, "confirm_seeds": 1}), tmp_path / "s"
    )
    study.run()
    first, second, third = (trial.design for trial in study.records.trials()[:3])
    assert first["network"]["input_kernel"]["structure"] == {"kind": "block_circulant", "block_size": 4}
    assert first["network"]["recurrent_kernel"]["structure"]["kind"] == "coarse_grain"
    assert first["network"]["state_threshold"] == 0.1 and first["accelerator"]["n_pe"] == 4
    assert second["accelerator"]["n_pe"] == 8 and second["network"]["state_threshold"] == 0.0  # the first of the space
    assert third not in (first, second)


def test_readers_of_a_study_do_not_need_the_files_of_its_starts(tmp_path):
    from codesign.search.results import Results

    (tmp_path / "known.toml").write_text(tomli_w.dumps({"network": KNOWN["network"]}))
    study = Study(load(tmp_path, {"file": "known.toml"}), tmp_path / "s")
    (tmp_path / "known.toml").unlink()
    assert Results(tmp_path / "s").space.starts == study.space.starts != ()


def test_another_start_is_another_study(tmp_path):
    from codesign.errors import StudyError

    Study(load(tmp_path, KNOWN), tmp_path / "s")
    with pytest.raises(StudyError, match="another search space .*start"):
        Study(load(tmp_path), tmp_path / "s")


def test_what_a_space_does_not_hold_is_one_line_each(tmp_path):
    assert faults(tmp_path, KNOWN, {"accelerator": {"n_pe": 5}}) == [
        "search.start[1].accelerator.n_pe: must be one of [2, 4, 8, 16], got 5; widen the space"
    ]
    assert faults(tmp_path, {"network": {"hidden": 16}}) == [
        "search.start[0].network.hidden: is 8 in this space, got 16"
    ]
    assert faults(tmp_path, {"network": {"hiden": 8}}) == [
        "search.start[0].network.hiden: unknown key 'hiden'; did you mean 'hidden'? Known: "
        + ", ".join(sorted(Network.model_fields))
    ]
    assert faults(tmp_path, {"net": {}}) == [
        "search.start[0].net: unknown key 'net'; did you mean 'network'? Known: accelerator, file, network, recipe"
    ]
    assert "no such file" in faults(tmp_path, {"file": "nowhere.toml"})[0]
    assert faults(tmp_path, {"network": {"input_kernel": {"structure": "hierarchical_tucker"}}})[0].startswith(
        "search.start[0]"
    )
    assert faults(tmp_path, search={"start": 3}) == [
        "search.start: must be tables [[search.start]] with network, recipe and accelerator, got 3"
    ]


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.toml")))
def test_the_network_of_every_preset_starts_a_space_that_holds_it(preset, tmp_path):
    tables = tomllib.loads((PRESETS / f"{preset}.toml").read_text())
    tables["search"]["start"] = [{"file": str(PRESETS / f"{preset}.toml")}]
    wanted = tables["network"].get("state_threshold", [])
    wanted = wanted if isinstance(wanted, list) else [wanted]
    tables["network"]["state_threshold"] = [0.05, 0.15, *wanted]
    path = tmp_path / "space.toml"
    path.write_text(tomli_w.dumps(tables))
    (start,) = load_search_space(path).starts
    assert start["network.state_threshold"] == [*wanted, 0.05][0]


def test_an_exported_design_can_start_a_search(tmp_path):
    exported = {"network": {"hidden": 8, "state_threshold": 0.1}, "accelerator": {"n_pe": 4}}
    (tmp_path / "design.toml").write_text(tomli_w.dumps(exported))
    (start,) = load(tmp_path, {"file": "design.toml"}).starts
    assert start["network.state_threshold"] == 0.1 and start["accelerator.n_pe"] == 2  # its accelerator is not taken
