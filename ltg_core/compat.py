"""What the libraries need to get on with each other: torchvision beside a CPU build of torch, one mistaken warning,
products of matrices that do not depend on the place of a row.

The torchvision wheel on PyPI registers its C++ operators against a CUDA build of torch. Beside a CPU build its import
fails with "operator torchvision::nms does not exist", and with it those of timm, transformers and diffusers. The two
operators that are looked up at import are declared here; the rest of torchvision (models, transforms, feature
extraction) is pure Python. Boxes and codecs stay unavailable: this package uses neither.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

_keep_alive: list[Any] = []

# diffusers writes this attribute into the configuration of every AutoencoderTiny that it saves and then warns when it
# reads it back. Only this attribute alone is passed over: with any other beside it the warning is shown.
_MISTAKEN = re.compile(
    r"The config attributes \{'block_out_channels': [\[(][\d, ]*[\])]\} were passed to AutoencoderTiny,"
)


def steady_rows(processors: Path = Path("/proc/cpuinfo")) -> None:
    """Let MKL give a row of a product of matrices the same bits wherever it stands among the others.

    By itself MKL takes another kernel for some rows of narrow products on Intel's processors: with 8 rows and 2 or 3
    columns of the result, the last bit of a row depends on its place, and with it an image on the others that are made
    beside it. Its strict mode of conditional numerical reproducibility does not (docs/design.md has its cost). MKL
    reads the environment at its first product, so this comes with the import of the package; what somebody has set
    stays. Other makers' processors do not need it.
    """
    try:
        with processors.open(encoding="ascii", errors="replace") as lines:
            told = lines.read(4096)
    except OSError:
        told = os.environ.get("PROCESSOR_IDENTIFIER", "")  # Windows
    if "GenuineIntel" in told:
        os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def _worth_reading(record: logging.LogRecord) -> bool:
    return _MISTAKEN.match(record.getMessage()) is None


def quiet_tiny_autoencoder() -> None:
    """Drop the one warning of diffusers about its own configuration of a tiny autoencoder; all others stay."""
    logging.getLogger("diffusers.configuration_utils").addFilter(_worth_reading)


def ensure_torchvision() -> bool:
    """Import torchvision, with the remedy where it is needed.

    Returns:
        True when torchvision can be used, False when it is not installed.

    Call it before the first import of torchvision, timm, transformers, diffusers or captum. Cheap after the first call.
    """
    quiet_tiny_autoencoder()
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
