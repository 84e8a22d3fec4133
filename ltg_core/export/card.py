"""The README of an export: what it is, what is in it, what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ltg_core.export import guard
from ltg_core.export.base import Exporter
from ltg_core.export.text import plain

_SHOWN_CLASSES = 1000


def dataset_card(
    exporter: Exporter,
    classes: Mapping[str, int],
    splits: Mapping[str, int],
    left_out: Sequence[tuple[str, str]],
    about: str = "",
) -> str:
    """Markdown with the settings block that Hugging Face reads.

    Args:
        exporter: The format.
        classes: Number of samples by class name.
        splits: Number of samples by split.
        left_out: (sample id, reason).
        about: What was exported, in words.
    """
    total = sum(classes.values())
    files, load = exporter.card(list(splits))
    config = f"configs:\n- config_name: default\n  data_files:\n{files}\n" if files else ""
    rows = [f"| {plain(name)} | {count:,} |" for name, count in sorted(classes.items())[:_SHOWN_CLASSES]]
    if len(classes) > _SHOWN_CLASSES:
        rows.append(f"| and {len(classes) - _SHOWN_CLASSES:,} more | |")
    lost = [f"- {count:,} x: {plain(reason)}" for reason, count in guard.summary(left_out).items()]
    said = f"\n{plain(about)}\n" if about else ""
    held = {split: count for split, count in splits.items() if split != "train"}
    return f"""---
task_categories:
- image-classification
size_categories:
- {_size(total)}
{config}---

# Training samples for an image classifier

{total:,} samples in {len(classes):,} classes, chosen and exported with longtail. They may be real,
generated, or both: `origin` in `manifest.jsonl` is `real` or the id of the run that generated the image.
{said}
{load}

## Classes

| class | samples |
|---|---|
{chr(10).join(rows)}

## Provenance

`manifest.jsonl` has one line for each sample: its file, class, caption, metadata, the run that made it
with its settings, seed, model hashes and versions, the real sample it was made from, every score and
prediction, and the verdict, rating, tags and note of the person who curated it. `runs.jsonl` has each run
whole. Each generated PNG carries its prompt, seed, settings, model hashes, versions and source (text chunk
`longtail:provenance`) and is marked as synthetic (XMP, IPTC digital source type `trainedAlgorithmicMedia`);
real ones are not. `left_out.jsonl` names what was asked for and not exported.

## Left out

{_held(held)} Exact copies of another sample, and exact and near copies of held-out samples (encoded
again, resized, a little brighter or trimmed) are left out; mirrored, turned and shifted ones are not looked for.

{chr(10).join(lost) or "Nothing was left out."}

## Limits

Generated images carry the mistakes of the generator, and their labels are what they were asked to show.
An image that nobody has accepted (`verdict`) may not show its class. The licence is that of the real
images and of the generator.
"""


def _held(held: Mapping[str, int]) -> str:
    if not held:
        return "Samples of the validation and test splits and images made from them are not exported."
    counts = " and ".join(f"{count:,} in `{split}`" for split, count in held.items())
    return (
        f"Held-out samples and images made from them were asked for: {counts}. Do not train on them if they are "
        "to measure anything."
    )


def _size(total: int) -> str:
    for limit, name in (
        (1_000, "n<1K"),
        (10_000, "1K<n<10K"),
        (100_000, "10K<n<100K"),
        (1_000_000, "100K<n<1M"),
    ):
        if total < limit:
            return name
    return "1M<n<10M"
