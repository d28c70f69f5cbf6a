"""An export: a folder with one design and its weights, and the way back from it."""

from pathlib import Path
from typing import Any

from codesign import training
from codesign.design_file import Exported, export_text, read_export
from codesign.errors import InputError
from codesign.export.weights import load_weights, save_weights
from codesign.models import RecurrentNetwork
from codesign.search.results import FrontRow, Results

DESIGN, WEIGHTS = "design.toml", "weights.safetensors"


def export_design(results: Results, row: FrontRow, folder: str | Path) -> Exported:
    """Write design.toml and weights.safetensors.

    Of a design's seeds the one with the smallest validation error is handed over; its own metrics stand
    in the file, not the means of the front.

    Raises:
        InputError: if the folder cannot be written.
        DataError: if the study has lost the weights.
    """
    folder = Path(folder)
    trainings = [results.records.trainings()[row.network_key, seed] for seed in row.seeds]
    best = min(trainings, key=lambda run: (run.error, run.seed))
    weights = results.weights(row.network_key, best.seed)
    model = training.restore(row.design.network, results.task, best.seed, weights)
    metrics: dict[str, Any] = {"validation": best.metrics, "test": best.test_metrics}
    content = Exported(
        design=row.design,
        task=results.task,
        recipe=row.recipe,
        cost=row.cost,
        metrics=metrics,
        provenance={
            "study": results.space.name,
            "trial": row.trial,
            "seed": best.seed,
            "seeds_trained": list(row.seeds),
            "data": results.task.data_version(),
            **({"synthetic": results.task.synthetic} if results.task.synthetic else {}),
            "training_version": training.VERSION,
            **results.records.get("environment"),
        },
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(model, folder / WEIGHTS)
        (folder / DESIGN).write_text(export_text(content), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None
    return content


def load_export(folder: str | Path) -> tuple[RecurrentNetwork, Exported]:
    """The network of an export, ready for `training.evaluate`, and what its design.toml says.

    Raises:
        InputError, DataError: if a file is missing, wrong or damaged.
    """
    folder = Path(folder)
    content = read_export(folder / DESIGN)
    seed = content.provenance.get("seed")
    if not isinstance(seed, int):
        raise InputError(f"{folder / DESIGN}: provenance.seed must be a whole number, got {seed!r}")
    return load_weights(folder / WEIGHTS, content.design.network, content.task, seed), content
