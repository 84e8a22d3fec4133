"""Finding the layers worth reading in a network that somebody else wrote, from one recorded forward pass."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import Any

import torch
from torch import nn

from ltg_core.errors import UnsupportedError

_PASSIVE = (
    nn.Identity,
    nn.Flatten,
    nn.modules.dropout._DropoutNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)


_MAX_EXTRA_TOKENS = 8
"""Class, distillation and register tokens stand before those of the places."""


@dataclasses.dataclass(frozen=True)
class Call:
    """One module at work during the recorded pass, in order of completion.

    Attributes:
        name: Its dotted name in the network.
        module: The module.
        input: Shape of its first tensor argument, () where there was none.
        output: Shape of its (first) output tensor, () where there was none with one entry an image.
    """

    name: str
    module: nn.Module
    input: tuple[int, ...]
    output: tuple[int, ...]

    @property
    def depth(self) -> int:
        """How deep the module is nested."""
        return self.name.count(".")


def first_tensor(value: Any) -> torch.Tensor | None:
    """The tensor in what a module takes or gives: itself, a record's ``logits``, the first of a sequence."""
    if isinstance(value, torch.Tensor):
        return value
    logits = getattr(value, "logits", None)
    if isinstance(logits, torch.Tensor):
        return logits
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return next((v for v in value if isinstance(v, torch.Tensor)), None)
    return None


def record(net: nn.Module, batch: torch.Tensor) -> tuple[list[Call], torch.Tensor | None]:
    """Run once without gradients and note every module that worked.

    Returns:
        The calls in order of completion and the network's output.
    """
    calls: list[Call] = []

    def noter(name: str) -> Any:
        def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            given, made = first_tensor(args or kwargs), first_tensor(output)
            shapes = [() if t is None else tuple(int(n) for n in t.shape) for t in (given, made)]
            if shapes[1][:1] != (len(batch),):
                shapes[1] = ()  # a table of positions, windows of all images: not one value an image
            calls.append(Call(name, module, shapes[0], shapes[1]))

        return note

    handles = [
        module.register_forward_hook(noter(name), with_kwargs=True)
        for name, module in net.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            output = first_tensor(net(batch))
    finally:
        for handle in handles:
            handle.remove()
    return calls, output


def find_feature_layer(calls: list[Call], classes: int) -> str:
    """The last linear layer with one output a class; its input is what the classifier knows about an image.

    A 1×1 convolution is the same thing at every position. On a pooled map it counts as one; over several positions
    (SqueezeNet, all-convolutional networks) too, where nothing that was learned comes after it: the features are then
    its input, averaged over the positions.

    Raises:
        UnsupportedError: There is none.
    """
    for place, call in reversed(list(enumerate(calls))):
        if isinstance(call.module, nn.Linear) and call.module.out_features == classes:
            return call.name
        if isinstance(call.module, nn.Conv2d) and call.module.out_channels == classes:
            pointwise = call.module.kernel_size == (1, 1)
            if pointwise and (call.input[-2:] == (1, 1) or _ends_in(calls, place)):
                return call.name
            raise UnsupportedError(
                f"the last convolution with {classes} outputs, {call.name!r}, "
                + (
                    "is followed by other layers"
                    if pointwise
                    else f"looks at {_side(call.module)} positions at once"
                )
                + ", so that there is no single feature vector before the classes; name a feature_layer (its averaged "
                "input is used) or choose a network with a linear head"
            )
    raise UnsupportedError(
        f"the network has no linear layer with {classes} outputs, so its features cannot be found; "
        "name a feature_layer"
    )


def averaged(calls: list[Call], name: str) -> str | None:
    """What is to be said of a feature layer that reads a map: its features are averages over positions."""
    call = next((call for call in reversed(calls) if call.name == name), None)
    if call is None or not isinstance(call.module, nn.Conv2d) or math.prod(call.input[-2:]) == 1:
        return None
    return (
        f"its last layer {name!r} is a convolution over {call.input[-1]}×{call.input[-2]} positions; the features are "
        "its input, averaged over them"
    )


def _ends_in(calls: list[Call], place: int) -> bool:
    """Whether nothing with weights works after this call, containers of its module apart."""
    name = calls[place].name
    return not any(
        next(call.module.parameters(), None) is not None and not name.startswith(call.name + ".")
        for call in calls[place + 1 :]
    )


def _side(module: nn.Conv2d) -> str:
    return "×".join(str(n) for n in module.kernel_size)


def channels_last(shape: tuple[int, ...], height: int, width: int) -> bool:
    """Whether a 4-D map is (B, H, W, C), judged by the aspect ratio of the input."""
    ratio = math.log(height / width)
    first = abs(math.log(shape[2] / shape[3]) - ratio)
    last = abs(math.log(shape[1] / shape[2]) - ratio)
    return last < first


def find_early_layer(calls: list[Call], height: int, width: int) -> str | None:
    """An earlier stage: the end of the second-last resolution; in token models the middle block."""
    maps = _maps(calls, height, width)
    areas = sorted({area for _, area in maps})
    if len(areas) >= 2:
        return _outermost_last([call for call, area in maps if area == areas[1]]).name
    blocks = _blocks(calls)
    if blocks:
        return blocks[len(blocks) // 2].name
    shallow = min((call.depth for call, _ in maps), default=0)
    flat = [call for call, _ in maps if call.depth == shallow]
    return flat[2 * len(flat) // 3].name if len(flat) >= 3 else None


def find_gradcam_layer(calls: list[Call], height: int, width: int) -> str | None:
    """The last module whose output still knows places: a map of the final stage, or the tokens of a block.

    In plain token models the second-last block: after the last one only the class token reaches the output, and the
    others have no gradient. None where nothing of the kind runs.
    """
    maps = _maps(calls, height, width)
    row = _token_row(calls)
    places = {id(call): place for place, call in enumerate(calls)}
    if row and (not maps or places[id(row[-1])] > max(places[id(call)] for call, _ in maps)):
        sizes = grids(calls, height, width)
        flat = row[-1].output[1] == row[0].output[1]
        chosen = [call for call in row if find_grid(call.output[1], height, width, sizes)]
        if chosen:
            return chosen[-2 if flat and len(chosen) > 1 else -1].name
    if not maps:
        return None
    areas = {area for _, area in maps}
    return _outermost_last([call for call, area in maps if area == min(areas)]).name


def grids(calls: list[Call], height: int, width: int) -> tuple[tuple[int, int], ...]:
    """(rows, columns) of all maps that occur, the smallest first."""
    found = set()
    for call, _ in _maps(calls, height, width):
        last = channels_last(call.output, height, width)
        found.add((call.output[1], call.output[2]) if last else (call.output[2], call.output[3]))
    return tuple(sorted(found))


def find_grid(
    tokens: int, height: int, width: int, known: tuple[tuple[int, int], ...] = ()
) -> tuple[int, int] | None:
    """(rows, columns) of a row of tokens, of which the first few may stand for the whole image; None where it has none.

    Args:
        tokens: Their number.
        height: Of the network's input.
        width: Of the network's input.
        known: Sizes of maps in the same network; they decide before the aspect ratio does.
    """
    for extra in range(_MAX_EXTRA_TOKENS + 1):
        rest = tokens - extra
        for rows, columns in known:
            if rows * columns == rest:
                return rows, columns
    for extra in range(_MAX_EXTRA_TOKENS + 1):
        rest = tokens - extra
        rows = round(math.sqrt(max(0, rest) * height / width))
        if rows > 0 and rest > 1 and rest % rows == 0 and rows * width == (rest // rows) * height:
            return rows, rest // rows
    return None


def as_map(
    x: torch.Tensor, height: int, width: int, known: tuple[tuple[int, int], ...] = ()
) -> torch.Tensor | None:
    """(B, C, h, w) of a map, of a map with channels last, or of tokens (those of the whole image left out).

    None where ``x`` has no places.
    """
    if x.ndim == 4:
        return x.permute(0, 3, 1, 2) if channels_last(tuple(x.shape), height, width) else x
    grid = find_grid(int(x.shape[1]), height, width, known) if x.ndim == 3 else None
    if grid is None:
        return None
    places = grid[0] * grid[1]
    return x[:, x.shape[1] - places :].transpose(1, 2).reshape(len(x), x.shape[2], *grid)


def pooled(x: torch.Tensor, last: bool = False) -> torch.Tensor:
    """(B, D) from a map or from tokens by averaging over positions.

    Args:
        x: (B, C, H, W), (B, H, W, C) with ``last``, (B, tokens, D) or (B, D).
        last: The map has its channels last.
    """
    if x.ndim == 4:
        return x.mean(dim=(1, 2) if last else (2, 3))
    return x.mean(dim=1) if x.ndim == 3 else x.flatten(1)


def _maps(calls: list[Call], height: int, width: int) -> list[tuple[Call, int]]:
    """Calls that end in a map of more than one position, with its area. Shared modules would be ambiguous."""
    times = Counter(call.name for call in calls)
    found = []
    for call in calls:
        if len(call.output) != 4 or times[call.name] > 1 or isinstance(call.module, _PASSIVE):
            continue
        _, a, b, c = call.output
        area = a * b if channels_last(call.output, height, width) else b * c
        if area > 1:
            found.append((call, area))
    return found


def _blocks(calls: list[Call]) -> list[Call]:
    """The longest row of sibling modules that each give (B, tokens, D)."""
    modules = {call.name: call.module for call in calls}
    rows: dict[str, list[Call]] = {}
    for call in calls:
        parent = call.name.rpartition(".")[0]
        # ModuleLists never run themselves, so that their names are absent from the calls
        if len(call.output) == 3 and isinstance(
            modules.get(parent, nn.ModuleList()), (nn.Sequential, nn.ModuleList)
        ):
            rows.setdefault(parent, []).append(call)
    longest = max(rows.values(), key=len, default=[])
    return longest if len(longest) >= 2 else []


def _token_row(calls: list[Call]) -> list[Call]:
    """The outermost row of siblings that each give (B, tokens, D): blocks, or stages of blocks."""
    modules = {call.name: call.module for call in calls}
    rows: dict[str, list[Call]] = {}
    for call in calls:
        parent = call.name.rpartition(".")[0]
        holder = modules.get(parent, nn.ModuleList())
        if len(call.output) == 3 and parent and isinstance(holder, (nn.Sequential, nn.ModuleList)):
            rows.setdefault(parent, []).append(call)
    long = [row for row in rows.values() if len(row) >= 2]
    return min(long, key=lambda row: (row[0].depth, -len(row)), default=[])


def _outermost_last(calls: list[Call]) -> Call:
    shallow = min(call.depth for call in calls)
    return [call for call in calls if call.depth == shallow][-1]
