"""The second stage: a UNet2DConditionModel trained with rectified flow on the latents, conditioned on the text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ltg_core.compat import ensure_torchvision
from ltg_core.fitting import FitSettings, Trainer, pick
from ltg_core.generators.fit.textimage import choose, tokens
from ltg_core.jobs import CancelToken, ProgressFn
from ltg_core.params import param

ensure_torchvision()
from diffusers import UNet2DConditionModel  # noqa: E402


@dataclasses.dataclass(frozen=True)
class DenoiserSettings(FitSettings):
    """The denoiser."""

    steps: int = param(4000, "Optimiser steps", low=1)
    batch_size: int = param(32, "Latents a step", low=1)
    lr: float = param(8e-4, "Peak learning rate", low=0.0)
    weight_decay: float = param(0.01, "AdamW weight decay", low=0.0)
    ema: float = param(0.9985, "Decay of the averaged weights; 0 for none", low=0.0, high=0.99999)
    width: int = param(48, "Channels at full latent resolution, a multiple of 16", low=16)
    no_text: float = param(
        0.1, "Share of images trained without any text, for classifier-free guidance", low=0, high=1
    )


def build_denoiser(settings: DenoiserSettings, latent_channels: int, side: int, text_width: int) -> nn.Module:
    """An untrained UNet2DConditionModel for latents (B, latent_channels, side, side)."""
    channels = (settings.width, 2 * settings.width, settings.width * 10 // 3 // 32 * 32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        net: nn.Module = UNet2DConditionModel(
            sample_size=side,
            in_channels=latent_channels,
            out_channels=latent_channels,
            layers_per_block=1,
            block_out_channels=channels,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=text_width,
            attention_head_dim=tuple(
                max(1, c // 32) for c in channels
            ),  # diffusers reads it as the number of heads
            norm_num_groups=16,
        )
    return net


@torch.no_grad()
def encode_texts(text_encoder: nn.Module, tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """Hidden states of the text encoder, (N, length, width)."""
    ids = tokens(tokenizer, texts)
    return torch.cat([text_encoder(part).last_hidden_state for part in torch.split(ids, 256)])


def fit_denoiser(
    latents: tuple[torch.Tensor, torch.Tensor],
    captions: Sequence[Sequence[str]],
    text_encoder: nn.Module,
    tokenizer: Any,
    settings: DenoiserSettings,
    folder: Path,
    *,
    on_progress: ProgressFn,
    cancel: CancelToken,
    until: int | None = None,
    device: str = "cpu",
) -> nn.Module:
    """Train with rectified flow: z_s = (1 - s) z_0 + s e, target e - z_0, s logit-normal (Esser et al. 2024).

    Args:
        latents: Posterior means and standard deviations, each (N, C, h, w).
        captions: The alternative texts of each image.
        text_encoder: Frozen CLIPTextModel.
        tokenizer: Its tokenizer.
        settings: See `DenoiserSettings`.
        folder: Where the checkpoint goes.
        on_progress: Called about every 50 steps.
        cancel: Checked every step.
        until: Stop earlier, at this step; the schedule stays that of ``settings.steps``.
        device: Where to train.
    """
    means, stds = latents
    table = ["", *sorted({text for texts in captions for text in texts})]
    index = {text: i for i, text in enumerate(table)}
    states = encode_texts(text_encoder, tokenizer, table).to(device)
    choices = [[index[text] for text in texts] for texts in captions]
    net = build_denoiser(settings, means.shape[1], means.shape[-1], states.shape[-1]).to(device)
    trainer = Trainer(net, settings, folder / "denoiser.ckpt")

    def step(number: int, rng: torch.Generator) -> torch.Tensor:
        rows = pick(len(means), settings.batch_size, rng)
        text = choose(choices, rows, rng)
        text[torch.rand(len(rows), generator=rng) < settings.no_text] = 0
        mean, std = means[rows].float(), stds[rows].float()
        clean = mean + std * torch.randn(mean.shape, generator=rng)
        noise = torch.randn(mean.shape, generator=rng)
        sigma = torch.sigmoid(torch.randn(len(rows), generator=rng))
        s = sigma.view(-1, 1, 1, 1)
        noisy = (1 - s) * clean + s * noise
        predicted = net(noisy.to(device), sigma.to(device) * 1000, states[text.to(device)]).sample
        return F.mse_loss(predicted, (noise - clean).to(device))

    return trainer.run(step, what="denoiser", on_progress=on_progress, cancel=cancel, until=until)
