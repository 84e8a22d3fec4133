"""The frozen classifier: logits and features in one differentiable call that leaves no trace."""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import nn

from ltg_core.errors import ArchitectureMismatch, InputError, ModelError, UnsupportedError
from ltg_core.models import layers
from ltg_core.models.preprocess import Preprocess
from ltg_core.models.units import Units
from ltg_core.types import Images, Logits, Outputs

# Hooks live on modules, and two classifiers may share those: while one reads, the others wait. Forward passes
# use all cores or an asynchronous device anyway, so that waiting costs nothing.
_TURN = threading.RLock()


@final
class Classifier:
    """A classifier that is asked and never changed.

    The network's parameters are frozen and the network is put into evaluation mode here, once. Afterwards no
    call changes weights, buffers, mode, gradients or hooks. Calls from several threads are safe; they take
    turns.

    Args:
        net: The network: (B, channels, height, width) to logits (or to a record with ``logits``).
        labels: One name a class, in the order of the logits.
        preprocess: From images in [0, 1] to the network's input.
        name: For people.
        arch: The name under which ``ltg_core.models.architectures.build`` makes this network.
        feature_layer: The module whose *input* is the feature vector; found when not given.
        early_layer: The module whose averaged *output* is the earlier feature; found when not given.
        options: What ``arch`` leaves open, as ``build`` takes it.
        keep: The network's outputs that count, in the order of ``labels``; None for all. The others are as if they
            did not exist: probabilities sum to 1 over those kept.
        notes: What was found out while it was loaded, for people.
        device: Where the network runs.

    A network with a single output and two labels is a binary one: its output z is the log-odds of the second label,
    and its logits are (-z / 2, z / 2).

    Raises:
        ArchitectureMismatch: The number of logits is not the number of labels.
        UnsupportedError: No feature layer can be found, or the device is not there.
        ModelError: The network cannot run on its own input size, or a named layer does not exist.
    """

    def __init__(
        self,
        net: nn.Module,
        labels: Sequence[str],
        preprocess: Preprocess,
        *,
        name: str,
        arch: str,
        feature_layer: str | None = None,
        early_layer: str | None = None,
        options: Mapping[str, Any] | None = None,
        keep: Sequence[int] | None = None,
        notes: Sequence[str] = (),
        device: str | torch.device = "cpu",
    ) -> None:
        self.name = name
        self.arch = arch
        self.options: dict[str, Any] = dict(options or {})
        self.labels: tuple[str, ...] = tuple(str(label) for label in labels)
        self.preprocess = preprocess
        self.device = _usable(device)
        self.net = net.to(self.device).eval().requires_grad_(False)
        calls, units = self._dry_run()
        self.units = Units.fitting(units, len(self.labels), keep, f"{name} ({arch})")
        size = (preprocess.height, preprocess.width)
        self.feature_layer = self._existing(feature_layer, calls) or layers.find_feature_layer(calls, units)
        said = layers.averaged(calls, self.feature_layer)
        self.notes: tuple[str, ...] = tuple(dict.fromkeys([*notes, *([said] if said else [])]))
        self.early_layer = self._existing(early_layer, calls) or layers.find_early_layer(calls, *size)
        self.gradcam_layer = layers.find_gradcam_layer(calls, *size)
        self.grids = layers.grids(calls, *size)
        early = next((c.output for c in reversed(calls) if c.name == self.early_layer), ())
        self._early_channels_last = len(early) == 4 and layers.channels_last(early, *size)
        self.hash = self._fingerprint()

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.labels)

    @property
    def dtype(self) -> torch.dtype:
        """The network's floating point type."""
        return next((p.dtype for p in self.net.parameters() if p.is_floating_point()), torch.float32)

    def forward(self, images: Images) -> Outputs:
        """Ask about a batch, with the graph kept: everything is differentiable with respect to the images.

        Args:
            images: (B, 3, H, W) in [0, 1], on any device.

        Returns:
            Logits (B, classes), features (B, D) and early (B, E) or None, on the classifier's device.
        """
        batch = self._prepared(images)
        with _TURN, self._captured() as seen:
            logits = self._run(batch)
        if "features" not in seen or (self.early_layer is not None and "early" not in seen):
            raise ModelError(
                f"{self.name} did not run its layer {self.feature_layer!r}; its path depends on the input"
            )
        return Outputs(logits, seen["features"], seen.get("early"))

    __call__ = forward

    def logits(self, images: Images) -> Logits:
        """Only the logits (B, classes), differentiable with respect to the images."""
        batch = self._prepared(images)
        with _TURN:
            return self._run(batch)

    @torch.no_grad()
    def outputs(self, images: Images, batch_size: int = 64) -> Outputs:
        """Ask about many images without gradients; where memory runs out, with smaller batches.

        Args:
            images: (N, 3, H, W) in [0, 1]; N may be 0.
            batch_size: The largest batch.

        Returns:
            As ``forward``, on the device of ``images``.

        Raises:
            ModelError: Even one image does not fit into memory.
        """
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; the smallest value is 1")
        if len(images) == 0:
            one = self.outputs(images.new_zeros(1, 3, self.preprocess.height, self.preprocess.width))
            return Outputs(one.logits[:0], one.features[:0], None if one.early is None else one.early[:0])
        parts: list[Outputs] = []
        start = 0
        while start < len(images):
            too_big = False
            try:
                out = self.forward(images[start : start + batch_size])
            except (
                RuntimeError
            ) as error:  # torch.OutOfMemoryError is one; the CPU's allocator raises the plain class
                if not _out_of_memory(error):
                    raise
                if batch_size == 1:
                    raise ModelError(
                        f"{self.name} does not fit into memory even with one image at a time"
                    ) from error
                too_big = True
            if too_big:  # outside the handler, whose traceback keeps the failed batch alive
                batch_size = (min(batch_size, len(images) - start) + 1) // 2
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            parts.append(_moved(out, images.device))
            start += batch_size
        early = None if parts[0].early is None else torch.cat([p.early for p in parts if p.early is not None])
        return Outputs(torch.cat([p.logits for p in parts]), torch.cat([p.features for p in parts]), early)

    @torch.no_grad()
    def answers(self, batch: torch.Tensor) -> Logits:
        """Logits of a batch that is prepared already: (B, channels, height, width), normalised, on this device."""
        with _TURN:
            return self._run(batch)

    def to(self, device: str | torch.device) -> Classifier:
        """This classifier on another device: itself if it is there, else a copy; the original stays."""
        if _usable(device) == self.device:
            return self
        return Classifier(
            copy.deepcopy(self.net),
            self.labels,
            self.preprocess,
            name=self.name,
            arch=self.arch,
            feature_layer=self.feature_layer,
            early_layer=self.early_layer,
            options=self.options,
            keep=self.units.keep,
            notes=self.notes,
            device=device,
        )

    def restricted(self, labels: Sequence[str]) -> Classifier:
        """A classifier that knows only some of this one's classes; it shares the network.

        Raises:
            InputError: A class that this one does not have, or fewer than two.
        """
        unknown = [label for label in labels if label not in self.labels]
        if unknown or len(set(labels)) < 2:
            raise InputError(
                f"{self.name} cannot be restricted to {list(labels)[:8]}: "
                + (f"it has no class {unknown[0]!r}" if unknown else "at least two classes are needed")
            )
        places = [self.labels.index(label) for label in dict.fromkeys(labels)]
        kept = self.units.keep
        return Classifier(
            self.net,
            [self.labels[place] for place in places],
            self.preprocess,
            name=self.name,
            arch=self.arch,
            feature_layer=self.feature_layer,
            early_layer=self.early_layer,
            options=self.options,
            keep=places if kept is None else [kept[place] for place in places],
            notes=(*self.notes, f"restricted to {len(places)} of {len(self.labels)} classes"),
            device=self.device,
        )

    def layer(self, name: str) -> nn.Module:
        """The module with this dotted name.

        Raises:
            ModelError: There is none.
        """
        try:
            return self.net.get_submodule(name)
        except AttributeError:
            raise self._no_layer(name, [n for n, _ in self.net.named_modules()]) from None

    def info(self) -> dict[str, Any]:
        """Plain values for a record."""
        return {
            "name": self.name,
            "arch": self.arch,
            "hash": self.hash,
            "labels": list(self.labels),
            "preprocess": self.preprocess.to_dict(),
            "feature_layer": self.feature_layer,
            "early_layer": self.early_layer,
            "gradcam_layer": self.gradcam_layer,
            "options": self.options,
            "outputs": self.units.count,
            "keep": None if self.units.keep is None else list(self.units.keep),
            "notes": list(self.notes),
            "parameters": sum(p.numel() for p in self.net.parameters()),
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def _prepared(self, images: Images) -> torch.Tensor:
        if self.net.training:
            raise ModelError(
                f"{self.name} was put into training mode from outside; call net.eval() or train a copy"
            )
        return self.preprocess(images.to(self.device)).to(self.dtype)

    def _run(self, batch: torch.Tensor) -> Logits:
        logits = layers.first_tensor(self.net(batch))
        if logits is None or logits.ndim != 2 or logits.shape[1] != self.units.count:
            shape = None if logits is None else tuple(logits.shape)
            raise ArchitectureMismatch(
                f"{self.name} gave {shape}; expected (batch, {self.units.count}) logits"
            )
        return self.units(logits)

    @contextmanager
    def _captured(self) -> Iterator[dict[str, torch.Tensor]]:
        """Hooks for one call. They ignore other threads, which may use the network through another object."""
        seen: dict[str, torch.Tensor] = {}
        caller = threading.get_ident()

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            value = layers.first_tensor(args or kwargs)
            if value is not None and threading.get_ident() == caller:
                seen["features"] = layers.pooled(value, isinstance(module, nn.Linear))

        def after(_: nn.Module, __: Any, output: Any) -> None:
            value = layers.first_tensor(output)
            if value is not None and threading.get_ident() == caller:
                # pooled at once: a later in-place activation may overwrite the map
                seen["early"] = layers.pooled(value, self._early_channels_last)

        handles = []
        try:
            handles.append(self.layer(self.feature_layer).register_forward_pre_hook(before, with_kwargs=True))
            if self.early_layer is not None:
                handles.append(self.layer(self.early_layer).register_forward_hook(after))
            yield seen
        finally:
            for handle in handles:
                handle.remove()

    def _dry_run(self) -> tuple[list[layers.Call], int]:
        """Two grey images through the network: every module noted, and the number of outputs."""
        grey = torch.full((2, 3, self.preprocess.height, self.preprocess.width), 0.5)
        try:
            with _TURN:
                try:
                    calls, logits = layers.record(self.net, self._prepared(grey))
                except (RuntimeError, ValueError, AssertionError):  # one image at a time
                    calls, logits = layers.record(self.net, self._prepared(grey[:1]))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ModelError(
                f"{self.name} ({self.arch}) cannot take {self.preprocess.width}×{self.preprocess.height} "
                f"images with {self.preprocess.channels} channels: {error}"
            ) from error
        if logits is None or logits.ndim != 2:
            shape = None if logits is None else tuple(logits.shape)
            raise ArchitectureMismatch(
                f"{len(self.labels)} labels were given, but {self.name} ({self.arch}) has output of shape {shape}; "
                "a classifier gives one number a class for each image"
            )
        return calls, int(logits.shape[1])

    def _existing(self, name: str | None, calls: list[layers.Call]) -> str | None:
        if name is not None and name not in {call.name for call in calls}:
            raise self._no_layer(name, [call.name for call in calls])
        return name

    def _no_layer(self, name: str, known: list[str]) -> ModelError:
        near = (
            difflib.get_close_matches(name, known, n=3)
            or sorted({n for n in known if "." not in n and n})[:8]
        )
        return ModelError(f"{self.name} has no layer {name!r} that runs; there are {', '.join(near)}")

    def _fingerprint(self) -> str:
        """Everything that decides the outputs: weights, architecture, preprocessing and the layers read."""
        preprocess = self.preprocess.to_dict()
        if preprocess["order"] == "rgb":  # came later; what was there before keeps its hash
            del preprocess["order"]
        rest: list[Any] = [self.arch, preprocess, self.feature_layer, self.early_layer]
        rest += [given for given in (self.options, self.units.keep) if given]
        text = weights_hash(self.net.state_dict()) + json.dumps(rest, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def weights_hash(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names; 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _usable(device: str | torch.device) -> torch.device:
    """The device with its number, "cuda" as "cuda:0"."""
    try:
        return torch.zeros(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UnsupportedError(
            f"the device {str(device)!r} cannot be used here ({reason}); use 'cpu'"
        ) from error


def _moved(out: Outputs, device: torch.device) -> Outputs:
    early = None if out.early is None else out.early.to(device)
    return Outputs(out.logits.to(device), out.features.to(device), early)


def _out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "not enough memory" in text
