"""Features of a user's own data, kept in the user's cache so that reading sound or video is done once."""

import hashlib
import json
import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def cached(reader: str, made_from: tuple[str | int, ...], make: Callable[[], Arrays]) -> Arrays:
    """Arrays that are read from the cache, or made and kept there, whole or not at all.

    A cache that is damaged is made again; one that cannot be written is a warning. Nothing is ever
    deleted here: the files are `features/READER-*.npz` in the user's cache folder.

    Args:
        reader: begins the file's name.
        made_from: all that the arrays depend on: checksum of the data, options, version of the recipe.
        make: makes them; what it raises is passed on.
    """
    digest = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()
    path = platformdirs.user_cache_path("codesign") / "features" / f"{reader}-{digest[:32]}.npz"
    kept = _kept(path)
    if kept is not None:
        return kept
    arrays = make()
    try:
        _keep(path, arrays)
    except OSError as error:
        warnings.warn(
            f"{path}: features cannot be kept ({error.strerror}); they are made again at the next start", stacklevel=2
        )
    return arrays


def _kept(path: Path) -> Arrays | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        return None


def _keep(path: Path, arrays: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez(file, **arrays)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
