"""Networks from the operator's own code: a Python function, named on the command line and never through the page."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Sequence

import torch
from torch import nn

from ltg_core.errors import ModelError, UnsafeFile

PREFIX = "factory:"


def build_from(arch: str, allowed: Sequence[str], num_classes: int | None) -> tuple[nn.Module, int]:
    """Call ``package.module:function`` and look at what it returns.

    Args:
        arch: ``"factory:package.module:function"``.
        allowed: The functions that the operator has named, as "package.module:function".
        num_classes: Given to the function where it takes an argument ``num_classes``; None lets it decide.

    Returns:
        The network, and how many outputs it has (0 where that cannot be told from its last layer).

    Raises:
        UnsafeFile: The function is not among those that the operator has named.
        ModelError: It cannot be imported or called, or returns no network.
    """
    name = arch.removeprefix(PREFIX)
    if name not in allowed:
        raise UnsafeFile(
            f"this classifier is built by the Python function {name!r:.120}, which this machine's operator has not "
            "allowed: name it with 'use --factory' on the command line. It cannot be allowed through the page"
        )
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
        raise ModelError(f"{name!r:.120} is no function; expected package.module:function")
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except ImportError as error:
        raise ModelError(
            f"the module {module_name!r} cannot be imported here ({error}); start in its folder or set PYTHONPATH"
        ) from error
    except AttributeError:
        raise ModelError(f"the module {module_name!r} has no {function_name!r}") from None
    try:
        takes = "num_classes" in inspect.signature(function).parameters
        with torch.random.fork_rng(devices=[]):
            net = function(num_classes=num_classes) if takes and num_classes else function()
    except Exception as error:
        raise ModelError(f"{name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(net, nn.Module):
        raise ModelError(f"{name} returned a {type(net).__name__}; expected a torch.nn.Module")
    return net, _outputs(net)


def _outputs(net: nn.Module) -> int:
    last = [m for m in net.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    if not last:
        return 0
    return last[-1].out_features if isinstance(last[-1], nn.Linear) else last[-1].out_channels
