"""codesign finds compressed recurrent networks for hardware.

Example:
    >>> import codesign
    >>> space = codesign.load_search_space("search_spaces/quickstart.toml")  # doctest: +SKIP
    >>> study = codesign.Study(space)  # doctest: +SKIP
    >>> study.run()  # doctest: +SKIP
    >>> best = study.front()[0]  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codesign.design import Accelerator, Design, Kernel, Network, Recipe, TaskShape
    from codesign.errors import CodesignError, InputError
    from codesign.export.folder import export_design, load_export
    from codesign.hardware import estimate
    from codesign.search.results import Results
    from codesign.search.space import SearchSpace, load_search_space
    from codesign.search.study import Study

_HOMES = {
    "Accelerator": "codesign.design",
    "CodesignError": "codesign.errors",
    "Design": "codesign.design",
    "InputError": "codesign.errors",
    "Kernel": "codesign.design",
    "Network": "codesign.design",
    "Recipe": "codesign.design",
    "Results": "codesign.search.results",
    "SearchSpace": "codesign.search.space",
    "Study": "codesign.search.study",
    "TaskShape": "codesign.design",
    "estimate": "codesign.hardware",
    "export_design": "codesign.export.folder",
    "load_export": "codesign.export.folder",
    "load_search_space": "codesign.search.space",
}


def __getattr__(name: str) -> Any:
    """Public names are imported at first use: jax and Optuna take seconds that not every command needs."""
    if name not in _HOMES:
        raise AttributeError(f"module 'codesign' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


__all__ = [
    "Accelerator",
    "CodesignError",
    "Design",
    "InputError",
    "Kernel",
    "Network",
    "Recipe",
    "Results",
    "SearchSpace",
    "Study",
    "TaskShape",
    "estimate",
    "export_design",
    "load_export",
    "load_search_space",
]
