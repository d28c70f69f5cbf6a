"""The demo as a record: what `make demo` finds, and where each kind of kernel stands on its front.

    python -m benchmarks.demo

Runs (or resumes) search_spaces/ru_phones.toml and writes results/reference/demo.md, .json and .png.
A few minutes on two cores.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from codesign.cli.progress import study_progress
from codesign.inspect.plots import plot_front
from codesign.inspect.tables import columns
from codesign.search.results import FrontRow, Results
from codesign.search.space import load_search_space
from codesign.search.study import Study

ROOT = Path(__file__).parent.parent
SPACE = ROOT / "search_spaces" / "ru_phones.toml"
OUTPUT = ROOT / "results" / "reference" / "demo"


def kinds(row: FrontRow) -> tuple[str, str]:
    """Structures of input and recurrent kernel."""
    network = row.design.network
    return network.input_kernel.structure.kind, network.recurrent_kernel.structure.kind


def trained_values(results: Results) -> dict[str, list[Any]]:
    """Values of the four searched families that were really trained, sorted."""
    found: dict[str, set[Any]] = {"block_size": set(), "sparsity": set(), "word_length": set(), "n_pe": set()}
    for row in results.trained():
        network = row.design.network
        found["n_pe"].add(row.design.accelerator.n_pe)
        for kernel in (network.input_kernel, network.recurrent_kernel):
            values = kernel.structure.model_dump()
            found["word_length"].add(kernel.weights.word_length)
            if kernel.structure.kind == "block_circulant":
                found["block_size"].add(values["block_size"])
            if kernel.structure.kind == "coarse_grain":
                found["sparsity"].add(values["level1_keep"] * values["level2_keep"])
    return {name: sorted(values) for name, values in found.items()}


def summary(results: Results) -> dict[str, Any]:
    """Facts about the front that the README states."""
    front = results.front()
    networks = {row.network_key: row for row in front}
    best = min(row.error_val for row in front)
    near = [row for row in front if row.error_val <= best + 0.08]
    return {
        "trained": results.records.count_trials()["trained"],
        "front": len(front),
        "networks_on_front": len(networks),
        "within_8_points": len(near),
        "shapes_within_8_points": sorted({f"{r.design.network.cell} {r.design.network.hidden}" for r in near}),
        "n_pe_within_8_points": sorted({r.design.accelerator.n_pe for r in near}),
        # of the member that validation calls best; the front is sorted by it
        "test_accuracy_of_best": None if front[0].error_test is None else 1.0 - front[0].error_test,
        "kernels_of_networks_on_front": {
            f"{a} + {b}": n for (a, b), n in Counter(map(kinds, networks.values())).most_common()
        },
        "trained_values": trained_values(results),
    }


def main() -> None:
    """Run the demo's study and write its record."""
    space = load_search_space(SPACE)
    with study_progress() as show:
        study = Study(space, ROOT / "results" / space.name)
        study.run(show)
    results = Results(study.folder)
    front, facts = results.front(), summary(results)
    knee = results.knee(front)
    record = {"space": space.text, "summary": facts, "front": [row.as_dict() for row in front]}
    OUTPUT.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    plot_front(results, OUTPUT.with_suffix(".png"))
    about = results.objectives, results.task.metric
    titles = list(columns(front[0], *about))
    lines = [
        "# The demo's front",
        "",
        f"`python -m benchmarks.demo`, search space `search_spaces/{SPACE.name}`: {facts['trained']} designs trained,",
        f"{facts['front']} on the front, each confirmed with {space.settings.confirm_seeds} seeds and tested once.",
        "",
        "| " + " | ".join(titles) + " |",
        "|" + "---|" * len(titles),
        *(
            "| "
            + " | ".join(columns(r, results.objectives, results.task.metric).values())
            + (" (knee) |" if r is knee else " |")
            for r in front
        ),
        "",
        *(f"- {name.replace('_', ' ')}: {value}" for name, value in facts.items()),
    ]
    OUTPUT.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
