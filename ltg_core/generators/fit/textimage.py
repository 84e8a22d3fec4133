"""The text side: a tokenizer and a small CLIP trained on the captions; it conditions, names and retrieves."""

from __future__ import annotations

import collections
import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import DatasetError
from ltg_core.fitting import FitSettings, Trainer, pick
from ltg_core.jobs import CancelToken, ProgressFn
from ltg_core.params import param

ensure_torchvision()
from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # noqa: E402
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer  # noqa: E402

START, END = "<|startoftext|>", "<|endoftext|>"


@dataclasses.dataclass(frozen=True)
class TextSettings(FitSettings):
    """The CLIP-style encoder."""

    steps: int = param(1000, "Optimiser steps", low=1)
    batch_size: int = param(96, "Image-text pairs a step", low=2)
    width: int = param(96, "Width of both towers, a multiple of 32", low=32)
    layers: int = param(3, "Transformer layers of each tower", low=1)
    length: int = param(16, "Longest text in tokens; longer ones are cut", low=4, high=77)
    patch: int = param(8, "Side of an image patch in pixels", low=2)


def build_tokenizer(texts: Sequence[str], folder: Path, length: int) -> Any:
    """A CLIP tokenizer (byte-pair encoding) whose words are those of the captions; other words fall back to letters.

    The merges are learned by the tokenizers library until every word of the captions is one token, so a caption has as
    many tokens as words and signs, and ordinary CLIP code reads the files.

    Raises:
        DatasetError: No captions.
    """
    words = collections.Counter(word for text in texts for word in re.findall(r"[a-z]+|[0-9]", text.lower()))
    if not words:
        raise DatasetError("the captions hold no words; give class names or captions in plain text")
    vocab, merges = _byte_pairs(words)
    for token in (START, END):
        vocab[token] = len(vocab)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    tokenizer = CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=length,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def _byte_pairs(words: collections.Counter[str]) -> tuple[dict[str, int], list[str]]:
    """Vocabulary and ranked merges under which each of these words is one token."""
    letters = [chr(code) for code in range(33, 127)]
    model = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=100_000,
        min_frequency=1,
        end_of_word_suffix="</w>",
        initial_alphabet=letters,
        show_progress=False,
    )
    model.train_from_iterator((f"{word} " * count for word, count in sorted(words.items())), trainer)
    learned = json.loads(model.to_str())["model"]
    vocab: dict[str, int] = {}
    for token in [*letters, *(letter + "</w>" for letter in letters)]:
        vocab.setdefault(token, len(vocab))
    for token in sorted(learned["vocab"], key=learned["vocab"].get):
        vocab.setdefault(token, len(vocab))
    return vocab, [" ".join(pair) for pair in learned["merges"]]


def tokens(tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """Token ids padded to the tokenizer's length, (N, length) int64."""
    ids: torch.Tensor = tokenizer(
        list(texts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return ids


def build_clip(settings: TextSettings, vocabulary: int, end: int, size: int) -> nn.Module:
    """An untrained CLIPModel for square images of ``size`` pixels."""
    tower = {
        "hidden_size": settings.width,
        "intermediate_size": 3 * settings.width,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.width // 32,
        "projection_dim": settings.width,
    }
    text = {**tower, "vocab_size": vocabulary, "max_position_embeddings": settings.length}
    text |= {"eos_token_id": end, "bos_token_id": end - 1, "pad_token_id": end}
    vision = {**tower, "image_size": size, "patch_size": settings.patch}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        clip: nn.Module = CLIPModel(
            CLIPConfig(text_config=text, vision_config=vision, projection_dim=settings.width)
        )
    return clip


def fit_clip(
    images: torch.Tensor,
    captions: Sequence[Sequence[str]],
    tokenizer: Any,
    settings: TextSettings,
    folder: Path,
    *,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> nn.Module:
    """Contrastive training; pairs of a batch with the same text count as positives of each other.

    Args:
        images: uint8 (N, 3, H, W).
        captions: The alternative texts of each image.
        tokenizer: See `build_tokenizer`.
        settings: See `TextSettings`.
        folder: Where the checkpoint goes.
        on_progress: Called about every 50 steps.
        cancel: Checked every step.
    """
    clip: Any = build_clip(settings, len(tokenizer), tokenizer.eos_token_id, images.shape[-1])
    table = sorted({text for texts in captions for text in texts})
    index = {text: i for i, text in enumerate(table)}
    ids = tokens(tokenizer, table)
    choices = [[index[text] for text in texts] for texts in captions]
    trainer = Trainer(clip, settings, folder / "clip.ckpt")

    def step(number: int, rng: torch.Generator) -> torch.Tensor:
        rows = pick(len(images), settings.batch_size, rng)
        chosen = choose(choices, rows, rng)
        pixels = images[rows].float() / 127.5 - 1
        image = F.normalize(clip.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
        text = F.normalize(clip.get_text_features(input_ids=ids[chosen]).pooler_output, dim=-1)
        logits = clip.logit_scale.exp().clamp(max=100) * image @ text.T
        same = (chosen[:, None] == chosen[None, :]).float()
        target = same / same.sum(dim=1, keepdim=True)
        return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))

    return trainer.run(step, what="text-image encoder", on_progress=on_progress, cancel=cancel)


def choose(choices: Sequence[Sequence[int]], rows: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """One of the alternative texts of each row, (len(rows),) int64."""
    draws = torch.rand(len(rows), generator=rng).tolist()
    picked = [choices[r][int(u * len(choices[r]))] for r, u in zip(rows.tolist(), draws, strict=True)]
    return torch.tensor(picked)
