"""Find, generate, explain and repair the blind spots of a frozen image classifier.

Names are resolved on first use, so that ``import ltg_core`` stays far below a second.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ltg_core.compat import steady_rows

__version__ = "0.1.0"

_LAZY = {
    "Classifier": "ltg_core.models.classifier",
    "load_classifier": "ltg_core.models.loaders",
    "Workspace": "ltg_core.data.workspace",
    "load_generator": "ltg_core.generators.loading",
    "Guidance": "ltg_core.guidance.settings",
    "workflows": "ltg_core.workflows",
}

__all__ = [
    "Classifier",
    "Guidance",
    "Workspace",
    "__version__",
    "load_classifier",
    "load_generator",
    "workflows",
]

if TYPE_CHECKING:
    from ltg_core import workflows
    from ltg_core.data.workspace import Workspace
    from ltg_core.generators.loading import load_generator
    from ltg_core.guidance.settings import Guidance
    from ltg_core.models.classifier import Classifier
    from ltg_core.models.loaders import load_classifier


steady_rows()


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ltg_core' has no attribute {name!r}")
    module = importlib.import_module(_LAZY[name])
    return module if name == "workflows" else getattr(module, name)
