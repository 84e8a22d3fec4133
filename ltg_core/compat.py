"""Make torchvision import beside a CPU build of torch.

The torchvision wheel on PyPI registers its C++ operators against a CUDA build of torch. Beside a CPU build its import
fails with "operator torchvision::nms does not exist", and with it those of timm, transformers and diffusers. The two
operators that are looked up at import are declared here; the rest of torchvision (models, transforms, feature
extraction) is pure Python. Boxes and codecs stay unavailable: this package uses neither.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

_keep_alive: list[Any] = []


def ensure_torchvision() -> bool:
    """Import torchvision, with the remedy where it is needed.

    Returns:
        True when torchvision can be used, False when it is not installed.

    Call it before the first import of torchvision, timm, transformers, diffusers or captum. Cheap after the first call.
    """
    if "torchvision" in sys.modules:
        return True
    try:
        importlib.import_module("torchvision")
        return True
    except ModuleNotFoundError:
        return False
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    import torch

    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]
    if not _keep_alive:
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
        _keep_alive.append(library)
    importlib.import_module("torchvision")
    return True
