"""The first stage: an AutoencoderKL, and a tiny decoder distilled from it for the guidance path."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from ltg_core.compat import ensure_torchvision
from ltg_core.fitting import FitSettings, Trainer, pick
from ltg_core.jobs import CancelToken, ProgressFn
from ltg_core.params import param

ensure_torchvision()
from diffusers import AutoencoderKL, AutoencoderTiny  # noqa: E402


@dataclasses.dataclass(frozen=True)
class AutoencoderSettings(FitSettings):
    """The autoencoder: 4 x smaller each way, ``latent_channels`` channels."""

    lr: float = param(1.5e-3, "Peak learning rate", low=0.0)
    batch_size: int = param(16, "Images a step", low=1)
    width: int = param(24, "Channels at full resolution, a multiple of 8", low=8)
    latent_channels: int = param(4, "Channels of the latent", low=1, high=64)
    kl: float = param(1e-4, "Weight of the KL term, per latent element", low=0.0)
    crop: int = param(
        32, "Side of the crops of the first two thirds of the training; 0 for whole images", low=0
    )


def build_autoencoder(settings: AutoencoderSettings, size: int) -> Any:
    """An untrained AutoencoderKL for square images of ``size`` pixels."""
    width = settings.width
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        vae: Any = AutoencoderKL(
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(width, 2 * width, 4 * width),
            layers_per_block=1,
            latent_channels=settings.latent_channels,
            norm_num_groups=8,
            sample_size=size,
            mid_block_add_attention=False,
        )
    return vae


def fit_autoencoder(
    images: torch.Tensor,
    settings: AutoencoderSettings,
    folder: Path,
    *,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    """Train on uint8 images (N, 3, H, W); the latents come out with mean 0 and variance 1 in every channel.

    The normalisation is folded into the two 1 x 1 convolutions around the latent, so ``scaling_factor`` is 1 and any
    diffusers pipeline decodes correctly.
    """
    size = images.shape[-1]
    vae = build_autoencoder(settings, size).to(memory_format=torch.channels_last)
    trainer = Trainer(vae, settings, folder / "autoencoder.ckpt")

    def step(index: int, rng: torch.Generator) -> torch.Tensor:
        whole = settings.crop == 0 or settings.crop >= size or index >= settings.steps * 2 // 3
        batch = settings.batch_size if whole else settings.batch_size * (size // settings.crop) ** 2 // 2
        x = _to_float(images[pick(len(images), batch, rng)])
        if not whole:
            x = _crop(x, settings.crop, rng)
        x = x.contiguous(memory_format=torch.channels_last)
        posterior = vae.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=rng)
        y = vae.decode(posterior.mean + posterior.std * noise).sample
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        loss: torch.Tensor = reconstruction_loss(x, y) + settings.kl * kl
        return loss

    trained = trainer.run(step, what="autoencoder", on_progress=on_progress, cancel=cancel)
    normalise_latents(trained, images[:: max(1, len(images) // 1024)])
    return trained


def reconstruction_loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """L1 and squared error, and L1 of the horizontal and vertical differences, which keeps edges sharp; in [-1, 1]."""
    dx = (x - y)[..., :, 1:] - (x - y)[..., :, :-1]
    dy = (x - y)[..., 1:, :] - (x - y)[..., :-1, :]
    return (x - y).abs().mean() + 2.0 * (x - y).square().mean() + 0.25 * (dx.abs().mean() + dy.abs().mean())


@torch.no_grad()
def normalise_latents(vae: Any, images: torch.Tensor) -> None:
    """Fold the per-channel mean and standard deviation of the latents of real images into the network, in place."""
    latents = torch.cat([vae.encode(_to_float(part)).latent_dist.mean for part in torch.split(images, 64)])
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    channels = len(mean)
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] /= std.view(-1, 1, 1, 1)
    quant.bias[:channels] = (quant.bias[:channels] - mean) / std
    quant.bias[channels:] -= 2 * std.log()
    post.bias += (post.weight[..., 0, 0] * mean).sum(dim=1)
    post.weight *= std.view(1, -1, 1, 1)
    vae.register_to_config(scaling_factor=1.0)


def fit_tiny_decoder(
    latents: tuple[torch.Tensor, torch.Tensor],
    images: torch.Tensor,
    settings: FitSettings,
    folder: Path,
    *,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    """Train an AutoencoderTiny on the latents of a trained autoencoder: same latents, a fraction of the cost.

    Args:
        latents: Posterior means and standard deviations of the images, each (N, C, h, w); see `encode_all`.
        images: uint8 (N, 3, H, W).
        settings: Optimisation.
        folder: Where the checkpoint goes.
        on_progress: Called about every 50 steps.
        cancel: Checked every step.
    """
    means, stds = latents
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        tiny: Any = AutoencoderTiny(
            encoder_block_out_channels=(24, 24, 24),
            decoder_block_out_channels=(24, 24, 24),
            num_encoder_blocks=(0, 1, 2),
            num_decoder_blocks=(2, 2, 1),
            latent_channels=means.shape[1],
            upsampling_scaling_factor=2,
        )
    trainer = Trainer(tiny, settings, folder / "tiny.ckpt")

    def step(index: int, rng: torch.Generator) -> torch.Tensor:
        rows = pick(len(images), settings.batch_size, rng)
        x, mean = _to_float(images[rows]), means[rows].float()
        # Guidance decodes estimates that are not quite on the data, so the decoder learns to be tolerant.
        noise = torch.randn(mean.shape, generator=rng) * (stds[rows].float() + 0.05)
        decoded = tiny.decoder(mean + noise)
        encoded = tiny.encoder(x)
        return reconstruction_loss(x, decoded) + 0.1 * F.mse_loss(encoded, mean)

    return trainer.run(step, what="tiny decoder", on_progress=on_progress, cancel=cancel)


@torch.no_grad()
def encode_all(vae: Any, images: torch.Tensor, batch: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior mean and standard deviation of every image, each (N, C, h, w) float16."""
    means, stds = [], []
    for part in torch.split(images, batch):
        posterior = vae.encode(_to_float(part)).latent_dist
        means.append(posterior.mean.half())
        stds.append(posterior.std.half())
    return torch.cat(means), torch.cat(stds)


@torch.no_grad()
def psnr(vae: Any, images: torch.Tensor) -> float:
    """Mean peak signal-to-noise ratio of the reconstruction, in dB, of uint8 images."""
    values = []
    for part in torch.split(images, 64):
        x = _to_float(part)
        y = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        values.append(-10 * torch.log10(((x - y) / 2).square().mean(dim=(1, 2, 3))))
    return float(torch.cat(values).mean())


def _to_float(images: torch.Tensor) -> torch.Tensor:
    return images.float() / 127.5 - 1


def _crop(x: torch.Tensor, side: int, rng: torch.Generator) -> torch.Tensor:
    high = x.shape[-1] - side + 1
    corners = torch.randint(high, (len(x), 2), generator=rng).tolist()
    return torch.stack(
        [image[:, r : r + side, c : c + side] for image, (r, c) in zip(x, corners, strict=True)]
    )
