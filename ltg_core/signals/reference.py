"""The reference: all that is fitted on real data of one frozen classifier, saved as one file."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ltg_core.errors import InputError, ModelError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.params import Params, param
from ltg_core.signals import SIGNALS
from ltg_core.signals.gaussian import Design, Gaussians, fit_design, fit_gaussians
from ltg_core.signals.head import EpistemicHead, HeadSettings, fit_head
from ltg_core.signals.neighbours import Bank, fit_bank
from ltg_core.signals.percentiles import Table, fit_table, ranks, value_at
from ltg_core.signals.projection import CHUNK, Pack, Projection, fit_projection
from ltg_core.types import Features, Labels, Outputs, Scores

FORMAT = 1
NEIGHBOURS = 10
COVARIANCE_ELEMENTS = 32_000_000  # 128 MB of class covariances at most: many classes get fewer dimensions


@dataclasses.dataclass(frozen=True)
class ReferenceSettings(Params):
    """How real features are summarised beside the head."""

    bank_size: int = param(5000, "Real samples kept for nearest neighbours.", low=1, high=100_000)
    max_dims: int = param(512, "Wider features are projected to this many main directions.", low=2, high=4096)
    leverage_ridge: float = param(1.0, "Prior precision of the last layer, for leverage.", low=1e-9, high=1e9)


class Limits(NamedTuple):
    """Nearest-neighbour distances that 95 and 99 percent of held-out real samples stay below."""

    d_95: float
    d_99: float


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """What real data looks like to one classifier.

    Attributes:
        head: The epistemic head.
        projection: Standardises penultimate features for all that follows.
        gaussians: Class, tied and background Gaussians.
        design: Information of the last layer, for leverage.
        bank: Some real features.
        bank_ids: The bank's sample ids, in bank order; empty where none were given.
        tables: Sorted held-out values per signal; "epistemic/guide" and the like for groups of heads.
        limits: Distances on held-out data.
        num_classes: C.
        model_hash: Which classifier this belongs to.
        memory: What was computed for one batch so far, None to remember nothing; see ``remembering``.
    """

    head: EpistemicHead
    projection: Projection
    gaussians: Gaussians
    design: Design
    bank: Bank
    bank_ids: tuple[str, ...]
    tables: dict[str, Table]
    limits: Limits
    num_classes: int
    model_hash: str = ""
    memory: dict[tuple[str, str], torch.Tensor] | None = None

    def remembering(self) -> Reference:
        """The same for **one** batch of outputs: what several signals ask about it is computed once.

        It does not look whether it is asked about other outputs later; take a new one for each batch.
        """
        return dataclasses.replace(self, memory={})

    def members(self, out: Outputs, group: str = "all") -> torch.Tensor:
        """Logits of the head's members (K', B, C); see ``EpistemicHead.logits``."""
        return self._once("members", group, lambda: self.head.logits(out.stacked(), group, base=out.logits))

    def projected(self, out: Outputs) -> Features:
        """Standardised features (B, k)."""
        return self._once("projected", "", lambda: self.projection(out.features))

    def class_distances(self, out: Outputs) -> torch.Tensor:
        """Squared distances to every class under the tied covariance (B, C)."""
        return self._once("distances", "", lambda: self.gaussians.class_distances(self.projected(out)))

    def _once(self, what: str, group: str, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        if self.memory is None:
            return make()
        found = self.memory.get((what, group))
        if found is None:
            found = self.memory[what, group] = make()
        return found

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Reference:
        """A copy on another device or in another floating-point precision."""
        head = _empty_head(self.head.in_features, self.num_classes, self.head.settings)
        head.load_state_dict(self.head.state_dict())
        return dataclasses.replace(
            self,
            head=head.to(device=device, dtype=dtype).requires_grad_(False).eval(),
            projection=self.projection.to(device, dtype),
            gaussians=self.gaussians.to(device, dtype),
            design=self.design.to(device, dtype),
            bank=self.bank.to(device, dtype),
            memory=None,
        )

    @overload
    def percentile(self, name: str, values: torch.Tensor, group: str = "all") -> torch.Tensor: ...
    @overload
    def percentile(self, name: str, values: Table, group: str = "all") -> Table: ...
    def percentile(self, name: str, values: torch.Tensor | Table, group: str = "all") -> torch.Tensor | Table:
        """Share of held-out real samples below each value, 0 to 100, in the shape and kind of ``values``.

        Ties count half. ``group`` reads the table of the same group of heads, where the signal has one.

        Raises:
            InputError: The signal has no table.
        """
        return ranks(self._table(name, group), values)

    def value_at(self, name: str, percentile: float, group: str = "all") -> float:
        """The signal's value at a percentile of held-out real data: the inverse of ``percentile``.

        Raises:
            InputError: The signal has no table, or the percentile is not within 0 to 100.
        """
        return value_at(self._table(name, group), percentile)

    def _table(self, name: str, group: str) -> Table:
        table = self.tables.get(f"{name}/{group}", self.tables.get(name))
        if table is None:
            known = ", ".join(n for n in self.tables if "/" not in n)
            raise InputError(f"there are no percentiles of {name!r} on real data; known: {known}")
        return table

    def knn_distance(self, features: Features, k: int = NEIGHBOURS) -> Scores:
        """Mean distance to the k nearest real samples of the bank, (B,), differentiable.

        Args:
            features: (B, D) penultimate features.
            k: Neighbours; ``limits`` are for the default.
        """
        return self.bank.distance(self.projection(features), k)

    def nearest(self, features: Features, k: int = NEIGHBOURS) -> tuple[torch.Tensor, torch.Tensor]:
        """Distances (B, k), nearest first, and bank rows (B, k); ``bank_ids[row]`` names the sample."""
        return self.bank.nearest(self.projection(features), k)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, with a JSON card of the same stem beside it; each replaced atomically.

        The tensors' file is complete by itself; the card is for people and other programs.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {f"head.{n}": t for n, t in self.head.state_dict().items()}
        for part in _PACKS:
            tensors |= {f"{part}.{n}": t for n, t in getattr(self, part).tensors().items()}
        tensors |= {f"tables.{n}": torch.from_numpy(v) for n, v in self.tables.items()}
        tensors = {n: t.detach().cpu().contiguous() for n, t in tensors.items()}
        card = json.dumps(self.card(), indent=1, ensure_ascii=False)
        _replace(path.with_suffix(".json"), lambda p: _write_text(p, card))
        _replace(path, lambda p: save_file(tensors, p, metadata={"reference": card}))

    def card(self) -> dict[str, Any]:
        """All that is not a tensor, as plain values."""
        return {
            "format": FORMAT,
            "model_hash": self.model_hash,
            "num_classes": self.num_classes,
            "stacked_features": self.head.in_features,
            "head": self.head.settings.to_dict(),
            "limits": self.limits._asdict(),
            "signals": sorted(self.tables),
            "bank_ids": list(self.bank_ids),
        }

    @classmethod
    def load(cls, path: str | Path) -> Reference:
        """Read what ``save`` wrote; scores are bit-identical to those before.

        Raises:
            ModelError: The file is missing, damaged or of a newer format.
        """
        path = Path(path)
        try:
            with safe_open(path, framework="pt") as file:
                card = json.loads((file.metadata() or {})["reference"])
                # cloned: products of unaligned memory may round differently
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return cls._from(card, tensors)
        except FileNotFoundError:
            raise ModelError(
                f"there is no reference {path.name}; fit the head of this classifier first"
            ) from None
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(
                f"{path.name} is not a reference that can be read ({error}); fit the head again"
            ) from error

    @classmethod
    def _from(cls, card: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Reference:
        if card["format"] > FORMAT:
            raise ModelError(f"this reference has format {card['format']}; this version reads up to {FORMAT}")

        def part(prefix: str) -> dict[str, torch.Tensor]:
            return {n.removeprefix(prefix + "."): t for n, t in tensors.items() if n.startswith(prefix + ".")}

        head = _empty_head(
            card["stacked_features"], card["num_classes"], HeadSettings.from_dict(card["head"])
        )
        head.load_state_dict(part("head"))
        packs: dict[str, Any] = {name: pack(**part(name)) for name, pack in _PACKS.items()}
        return cls(
            head=head.requires_grad_(False).eval(),
            bank_ids=tuple(card["bank_ids"]),
            tables={n: t.numpy() for n, t in part("tables").items()},
            limits=Limits(**card["limits"]),
            num_classes=card["num_classes"],
            model_hash=card["model_hash"],
            **packs,
        )


_PACKS: dict[str, type[Pack]] = {
    "projection": Projection,
    "gaussians": Gaussians,
    "design": Design,
    "bank": Bank,
}


def fit_reference(
    train: Outputs,
    train_labels: Labels,
    heldout: Outputs,
    heldout_labels: Labels,
    num_classes: int,
    settings: HeadSettings,
    *,
    generator: torch.Generator,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
    options: ReferenceSettings | None = None,
    ids: Sequence[str] | None = None,
    model_hash: str = "",
) -> Reference:
    """Fit head, Gaussians, leverage and bank on training outputs, percentiles and limits on held-out ones.

    Args:
        train: Outputs of the frozen classifier on real training data, N samples, without a graph.
        train_labels: (N,) their classes.
        heldout: Outputs on real data that is in neither this nor the classifier's training.
        heldout_labels: Their classes.
        num_classes: C.
        settings: Size and training of the head.
        generator: Source of every random draw.
        on_progress: Told after every pass of the head and after every further part.
        cancel: Checked before every step.
        options: Size of the bank and the like.
        ids: N sample ids; those of the bank are kept as ``bank_ids``.
        model_hash: Which classifier the outputs are from.

    Raises:
        InputError: Arrays that do not fit each other, or none at all.
        ModelError: The outputs hold non-finite values or the training diverged.
        Cancelled: The user stopped it.
    """
    options, cancel = options or ReferenceSettings(), cancel or CancelToken()
    if not len(heldout.logits) or tuple(heldout_labels.shape) != (len(heldout.logits),):
        raise InputError(
            f"percentiles need held-out samples with labels; got {len(heldout.logits)} samples and labels "
            f"of shape {tuple(heldout_labels.shape)}"
        )
    if ids is not None and len(ids) != len(train.features):
        raise InputError(f"{len(train.features)} training samples came with {len(ids)} ids")
    total = settings.epochs + 3

    def step(done: int, message: str) -> None:
        cancel.check()
        on_progress(Progress(settings.epochs + done, total, message))

    head = fit_head(
        train.stacked(),
        train_labels,
        num_classes,
        settings,
        generator=generator,
        on_progress=lambda p: on_progress(Progress(p.done, total, "epistemic head: " + p.message)),
        cancel=cancel,
        base_logits=train.logits,
    )
    labels = train_labels.to(device=train.features.device, dtype=torch.long)
    dims = max(2, min(options.max_dims, int((COVARIANCE_ELEMENTS / num_classes) ** 0.5)))
    projection = fit_projection(train.features, dims, generator)
    with torch.no_grad():
        x = torch.cat([projection(rows) for rows in torch.split(train.features, CHUNK)])
    gaussians = fit_gaussians(x, labels, num_classes, projection.log_volume, cancel)
    step(1, "class statistics")
    bank = fit_bank(x, labels, options.bank_size, generator)
    bank_ids = tuple(ids[p] for p in bank.positions.tolist()) if ids is not None else ()
    design = fit_design(x, options.leverage_ridge)
    step(2, "bank of real samples")
    draft = Reference(
        head, projection, gaussians, design, bank, bank_ids, {}, Limits(0.0, 0.0), num_classes, model_hash
    )
    reference = _with_tables(draft, heldout, heldout_labels)
    step(3, "percentiles of real data")
    return reference


def score_all(
    out: Outputs, ref: Reference | None, labels: Labels | None = None, group: str = "all"
) -> dict[str, Scores]:
    """Every signal that can be computed from what is given, by name, (B,) on the outputs' device.

    Without labels ``loss`` is left out; without a reference only signals of logits remain. No graph.
    """
    signals = {name: signal() for name, signal in SIGNALS.items()}
    signals = {name: signal for name, signal in signals.items() if signal.available(ref, labels)}
    parts: dict[str, list[Scores]] = {name: [] for name in signals}
    with torch.no_grad():
        for start in range(0, max(1, len(out.logits)), CHUNK):
            rows = slice(start, start + CHUNK)
            early = None if out.early is None else out.early[rows]
            some = Outputs(out.logits[rows], out.features[rows], early)
            once = None if ref is None else ref.remembering()
            for name, signal in signals.items():
                parts[name].append(signal(some, once, None if labels is None else labels[rows], group))
    return {name: torch.cat(values) for name, values in parts.items()}


def _with_tables(draft: Reference, heldout: Outputs, labels: Labels) -> Reference:
    """The reference with percentile tables and distance limits from held-out real data."""
    values = score_all(heldout, draft, labels)
    for group in ("guide", "audit"):
        some = score_all(heldout, draft, labels, group)
        values |= {f"{n}/{group}": some[n] for n in some if "head" in SIGNALS[n].NEEDS}
    with torch.no_grad():
        distance = torch.cat([draft.knn_distance(rows) for rows in torch.split(heldout.features, CHUNK)])
    values["knn_distance"] = distance
    tables = {name: fit_table(name, v) for name, v in values.items()}
    d_95, d_99 = np.quantile(distance.cpu().double().numpy(), [0.95, 0.99])
    return dataclasses.replace(draft, tables=tables, limits=Limits(float(d_95), float(d_99)))


def _empty_head(width: int, num_classes: int, settings: HeadSettings) -> EpistemicHead:
    """A head to be filled from a state dict."""
    zeros = torch.zeros(width)
    return EpistemicHead(zeros, zeros + 1, num_classes, settings, generator=torch.Generator().manual_seed(0))


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside the target, then take its place, so that no reader ever sees half a file."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
