"""Between latents and pixels: the full autoencoder for what is kept, a cheaper decoder for the guidance path."""

from __future__ import annotations

import abc
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import ModelError
from ltg_core.generators.base import Calls
from ltg_core.generators.folder import Folder
from ltg_core.generators.tiny import TinyDecoder, tiny_decoder
from ltg_core.types import Images, Latents

ensure_torchvision()
import diffusers  # noqa: E402


class Codec(abc.ABC):
    """Latents to images and back. Images are in [0, 1], not clamped; everything is float32 outside.

    Attributes:
        channels: Of a latent.
        factor: Pixels of a side for one of the latent.
        tiny: What decodes on the guidance path, in words.
        has_tiny: Whether that is cheaper than the full decoder.
    """

    channels: int
    factor: int
    tiny: str
    has_tiny: bool

    @abc.abstractmethod
    def decode(self, z: Latents, calls: Calls, *, tiny: bool = False) -> Images:
        """Images of latents in the denoiser's scale; differentiable."""

    @abc.abstractmethod
    def encode(self, images: Images) -> Latents:
        """Latents in the denoiser's scale."""

    @property
    def guide(self) -> nn.Module | None:
        """The network that decodes on the guidance path; None where there is nothing to decode."""
        return None

    def slice(self) -> None:  # noqa: B027  # nothing to do for most
        """Decode one image after another from now on: slower, with the memory of one."""

    @abc.abstractmethod
    def imitated(self, imitate: Callable[[Any], Any]) -> Codec:
        """The same with every network replaced by what ``imitate`` makes of it."""


@final
class PixelCodec(Codec):
    """For models of pixels: the latent is the image in [-1, 1]."""

    channels, factor, tiny, has_tiny = 3, 1, "none needed", True

    def decode(self, z: Latents, calls: Calls, *, tiny: bool = False) -> Images:
        """See `Codec.decode`; costs nothing."""
        return (z.float() + 1) / 2

    def encode(self, images: Images) -> Latents:
        """See `Codec.encode`."""
        return 2 * images - 1

    def imitated(self, imitate: Callable[[Any], Any]) -> PixelCodec:
        """See `Codec.imitated`; there is no network."""
        return self


@final
class AutoencoderCodec(Codec):
    """AutoencoderKL, with what it takes to leave the denoiser's scale: z / scaling + shift, or mean and deviation.

    On the guidance path decodes, the first that there is: the weights given as ``tiny``, the part ``vae_tiny`` beside
    the others, the full decoder. The latter runs in bfloat16 on a GPU, and its activations are computed again on the
    way back. Tiling is never used: it changes gradients.

    Args:
        folder: Holds the part ``vae``.
        tiny: Folder or file of a tiny decoder; none for what the folder has.
        guide_dtype: Precision of the full decoder on the guidance path; the network's own if not given.

    Raises:
        ModelError: A part cannot be read, or its latents have another number of channels.
    """

    def __init__(
        self, folder: Folder, *, tiny: str | Path | None = None, guide_dtype: torch.dtype | None = None
    ) -> None:
        self._device = folder.device
        config = _vae_config(folder)
        upcast = bool(config.get("force_upcast")) and folder.dtype == torch.float16
        # weights of SDXL's kind overflow in half precision and give black or NaN pictures
        self.vae = folder.part("vae", "AutoencoderKL", dtype=torch.float32 if upcast else None)
        self.channels = int(self.vae.config.latent_channels)
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self._tiny = self._find_tiny(folder, tiny)
        self._guide: Any = None
        self.has_tiny = self._tiny is not None
        if self._tiny is None:
            self._guide = self._full_guide(guide_dtype)

    def _find_tiny(self, folder: Folder, given: str | Path | None) -> Any:
        if given:
            decoder = tiny_decoder(given, device=folder.device, dtype=folder.dtype)
            self.tiny = f"tiny decoder {Path(given).name}"
        elif (folder.path / "vae_tiny" / "config.json").is_file():
            decoder = folder.network(folder.path / "vae_tiny", diffusers.AutoencoderTiny)
            self.tiny = "tiny decoder"
        else:
            return None
        channels = int(decoder.config.latent_channels)
        if channels != self.channels:
            raise ModelError(
                f"the tiny decoder reads latents of {channels} channels, those of {folder.name!r} have "
                f"{self.channels}; give the one of this family (taesd 4, taesdxl 4, taesd3 16, taef1 16)"
            )
        return decoder

    def _full_guide(self, dtype: torch.dtype | None) -> Any:
        if dtype is None:
            dtype = torch.bfloat16 if self._device.type == "cuda" else self.vae.dtype
        guide = self.vae
        if dtype != self.vae.dtype:
            guide = copy.deepcopy(self.vae).to(dtype)
            guide.encoder = None  # only ever decodes
        guide.enable_gradient_checkpointing()
        self.tiny = f"full decoder, {str(dtype).removeprefix('torch.')}, activations computed again"
        return guide

    def decode(self, z: Latents, calls: Calls, *, tiny: bool = False) -> Images:
        """See `Codec.decode`. A tiny decoder reads latents in the denoiser's own scale."""
        if tiny and self._tiny is not None:
            calls["T"] += len(z)
            return _image(self._tiny.decode(_placed(z, self._tiny)).sample, z)
        calls["D"] += len(z)
        vae = self._guide if tiny else self.vae
        return _image(vae.decode(_placed(self._unscaled(z), vae)).sample, z)

    @torch.no_grad()
    def encode(self, images: Images) -> Latents:
        """Means of the posterior."""
        mean: torch.Tensor = self.vae.encode(_placed(2 * images - 1, self.vae)).latent_dist.mean
        return self._scaled(mean.float().to(images.device)).contiguous()

    def imitated(self, imitate: Callable[[Any], Any]) -> AutoencoderCodec:
        """See `Codec.imitated`."""
        twin = copy.copy(self)
        twin.vae = imitate(self.vae)
        twin._tiny = None if self._tiny is None else imitate(self._tiny)
        if self._guide is not None:
            twin._guide = twin.vae if self._guide is self.vae else imitate(self._guide)
        return twin

    @property
    def guide(self) -> nn.Module | None:
        """See `Codec.guide`; the half that decodes."""
        whole = self._guide if self._tiny is None else self._tiny
        if isinstance(whole, TinyDecoder):
            return whole.layers
        decoder: nn.Module = whole.decoder
        return decoder

    def slice(self) -> None:
        """See `Codec.slice`."""
        self.vae.enable_slicing()

    def _unscaled(self, z: Latents) -> Latents:
        config = self.vae.config
        mean, std = _statistics(config)
        scaling, shift = float(config.scaling_factor), float(getattr(config, "shift_factor", None) or 0.0)
        if mean is not None and std is not None:
            return z * std.to(z) / scaling + mean.to(z)
        return z / scaling + shift

    def _scaled(self, z: Latents) -> Latents:
        config = self.vae.config
        mean, std = _statistics(config)
        scaling, shift = float(config.scaling_factor), float(getattr(config, "shift_factor", None) or 0.0)
        if mean is not None and std is not None:
            return (z - mean.to(z)) * scaling / std.to(z)
        return (z - shift) * scaling


def _vae_config(folder: Folder) -> dict[str, Any]:
    folder.need("vae")
    config: dict[str, Any] = diffusers.AutoencoderKL.load_config(folder.path / "vae", local_files_only=True)
    return config


def _statistics(config: Any) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Mean and deviation of the latents' channels, where the configuration has them."""
    found = [getattr(config, name, None) for name in ("latents_mean", "latents_std")]
    if None in found:
        return None, None
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in found)
    return mean, std


def _placed(x: torch.Tensor, network: Any) -> torch.Tensor:
    return x.to(network.device, network.dtype, memory_format=torch.channels_last)


def _image(pixels: torch.Tensor, like: torch.Tensor) -> Images:
    image: torch.Tensor = (pixels.float() + 1) / 2
    return image.to(like.device).contiguous()
