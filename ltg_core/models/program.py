"""ONNX files as differentiable networks (experimental): read as data, rebuilt from PyTorch's own layers."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import MissingExtra, ModelError, UnsafeFile, UnsupportedError
from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.models.units import Units
from ltg_core.models.weights import first_line

MAX_BYTES = 2**31 - 1
"""What a single protobuf message can hold; larger models keep their weights in other files, which are refused."""


@final
class OnnxNet(nn.Module):
    """A converted graph, with the bytes that it came from.

    Args:
        graph: From images to logits.
        source: The ONNX file.
        size: Height and width of the input where the file fixes them.
        channels: Of the input.
    """

    def __init__(self, graph: nn.Module, source: bytes, size: tuple[int, int] | None, channels: int) -> None:
        super().__init__()
        self.graph = graph
        self.source = source
        self.size = size
        self.channels = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, outputs)."""
        out: torch.Tensor = self.graph(x)
        return out


def load_onnx(
    path: Path,
    labels: Sequence[str] | None,
    preprocess: Preprocess | None,
    device: str | torch.device,
    name: str | None,
) -> Classifier:
    """A classifier from an ONNX file.

    Raises:
        ModelError: The file is damaged or no image classifier.
        UnsafeFile: It keeps tensors in other files.
        UnsupportedError: No gradients can be had: an operation has no counterpart, the batch size is fixed, or the
            output does not depend smoothly on the image.
        MissingExtra: onnx2torch is not installed.
    """
    if not path.is_file():
        raise ModelError(f"there is no file {path}")
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(f"{path.name} is larger than 2 GB")
    net = convert(path.read_bytes(), path.name)
    notes = ["experimental: rebuilt from the operations of an ONNX file; gradients were checked"]
    height, width = net.size or (224, 224)
    if preprocess is None:
        mean, std = (
            ((0.449,), (0.226,)) if net.channels == 1 else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        preprocess = Preprocess(height=height, width=width, channels=net.channels, mean=mean, std=std)
        notes.append(
            "an ONNX file does not say how images are prepared; ImageNet's usual way was taken, check it"
        )
    count = _check_gradients(net, preprocess, path.name)
    chosen = list(labels) if labels is not None else [f"class {i}" for i in range(Units.labels_for(count))]
    return Classifier(
        net,
        chosen,
        preprocess,
        name=name or path.stem,
        arch="onnx",
        options={"onnx": hashlib.sha256(net.source).hexdigest()},
        notes=notes,
        device=device,
    )


def read_beside(path: Path, card: Mapping[str, Any]) -> OnnxNet:
    """The network of a saved classifier, from the ONNX file beside its weights.

    Raises:
        ModelError: The file is absent or another one than the card names.
    """
    file = path.with_suffix(".onnx")
    if not file.is_file() or file.stat().st_size > MAX_BYTES:
        raise ModelError(f"there is no {file.name} beside {path.name}; choose the ONNX file again")
    data = file.read_bytes()
    wanted = card.get("options", {}).get("onnx")
    if hashlib.sha256(data).hexdigest() != wanted:
        raise ModelError(f"{file.name} is not the file that the card of {path.name} belongs to")
    return convert(data, file.name)


def convert(data: bytes, name: str) -> OnnxNet:
    """A network from the bytes of an ONNX file; nothing in it is executed and no other file is read.

    Raises:
        ModelError: Damaged, or not from one picture to one row of numbers.
        UnsafeFile: It keeps tensors in other files.
        UnsupportedError: An operation has no counterpart.
        MissingExtra: onnx2torch is not installed.
    """
    ensure_torchvision()
    try:
        import onnx
        import onnx2torch
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"ONNX files need {error.name}; install them with: pip install -r requirements-onnx.txt"
        ) from error
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf raises its own, which differ between its builds
        raise ModelError(f"{name} is damaged or no ONNX file: {first_line(error)}") from error
    for tensor in _tensors(model.graph, 0):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise UnsafeFile(
                f"{name} was refused: it keeps the tensor {tensor.name!r:.80} in another file, and no model may name "
                "files of this machine. Save it in one file (onnx.save_model(..., save_as_external_data=False))"
            )
    size, channels = _input(model, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            onnx.checker.check_model(model)
            graph = onnx2torch.convert(model)
    except NotImplementedError as error:
        raise UnsupportedError(
            f"{name} cannot be used: {first_line(error)}. Without it no gradients can be had, and signals and guidance "
            "need them; use the original weights (safetensors) with the name of their architecture instead"
        ) from error
    except Exception as error:
        raise ModelError(f"{name} cannot be converted: {first_line(error)}") from error
    return OnnxNet(graph.eval(), data, size, channels)


def _tensors(graph: Any, level: int) -> Iterator[Any]:
    """All tensors of a graph, those in the attributes of its nodes and in branches too."""
    if level > 8:
        raise ModelError("the graph of the ONNX file is nested too deeply")
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _tensors(inner, level + 1)


def _input(model: Any, name: str) -> tuple[tuple[int, int] | None, int]:
    """Height and width (None where they are free) and channels of the only input."""
    known = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in known]
    dims = [list(value.type.tensor_type.shape.dim) for value in inputs]
    if len(inputs) != 1 or len(dims[0]) != 4 or not model.graph.output:
        raise ModelError(
            f"{name} takes {len(inputs)} inputs of {[len(d) for d in dims]} axes; expected one batch of images "
            "(batch, channels, height, width)"
        )
    channels, height, width = (int(dim.dim_value) for dim in dims[0][1:])
    if channels not in (1, 3):
        raise ModelError(f"{name} takes images with {channels or 'any number of'} channels; expected 1 or 3")
    return ((height, width) if height > 0 and width > 0 else None), channels


def _check_gradients(net: OnnxNet, preprocess: Preprocess, name: str) -> int:
    """Run two images, alone and together, and back; returns the number of outputs."""
    size = (net.channels, preprocess.height, preprocess.width)
    x = torch.rand(2, *size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    try:
        both = net(x)
        alone = net(x[:1].detach())
    except Exception as error:
        raise UnsupportedError(
            f"{name} cannot run on two images at once ({first_line(error)}); export it with a free batch axis"
        ) from error
    if not isinstance(both, torch.Tensor) or both.ndim != 2 or len(both) != 2:
        raise ModelError(f"{name} does not give one row of numbers for each image")
    if not both.requires_grad:
        raise UnsupportedError(
            f"{name} has no gradient with respect to the image; signals and guidance need one"
        )
    (gradient,) = torch.autograd.grad(both.square().sum(), x)
    if not bool(torch.isfinite(gradient).all()) or float(gradient.abs().sum()) == 0:
        raise UnsupportedError(f"the gradient of {name} is zero or not finite; signals and guidance need one")
    if not torch.allclose(alone, both[:1].detach(), rtol=1e-3, atol=1e-4):
        raise UnsupportedError(
            f"{name} answers differently for one image and for two; export it in evaluation mode"
        )
    return int(both.shape[1])
