"""Tiny autoencoders (TAESD and its relatives) from plain weight files: the cheap decoders of the guidance path.

The layout was read off the names and shapes in the published weights (madebyollin/taesd, MIT): 3 × 3 convolutions of 64
channels, residual blocks of three of them, three halvings or doublings of the side. Newer ones (TAEF2) have a branch of
group-normalised, wider 1 × 1 layers in the blocks of the smallest side. Images are in [0, 1].
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import torch
from torch import nn

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import ModelError
from ltg_core.models.weights import State, first_line, read_state
from ltg_core.types import Images, Latents

_WIDTH, _GROUPS = 64, 4


@final
class Block(nn.Module):
    """relu(conv(x) + x); with ``pool`` the input is refined by normalised 1 × 1 layers first."""

    def __init__(self, pool: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(_WIDTH, _WIDTH), nn.ReLU(), _conv(_WIDTH, _WIDTH), nn.ReLU(), _conv(_WIDTH, _WIDTH)
        )
        wide = 4 * _WIDTH
        self.pool = (
            nn.Sequential(
                nn.Conv2d(_WIDTH, wide, 1, bias=False),
                nn.GroupNorm(_GROUPS, wide),
                nn.ReLU(),
                nn.Conv2d(wide, _WIDTH, 1, bias=False),
            )
            if pool
            else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 64, h, w), the same shape."""
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


def _conv(inside: int, outside: int, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, padding=1, **options)


@final
class Squash(nn.Module):
    """A soft clamp to ±3."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return torch.tanh(x / 3) * 3


def encoder_layers(channels: int, pool: bool) -> nn.Sequential:
    """Images (B, 3, H, W) to latents (B, channels, H/8, W/8)."""
    layers: list[nn.Module] = [_conv(3, _WIDTH), Block()]
    for number in range(3):
        layers.append(_conv(_WIDTH, _WIDTH, stride=2, bias=False))
        layers += [Block(pool and number == 2) for _ in range(3)]
    return nn.Sequential(*layers, _conv(_WIDTH, channels))


def decoder_layers(channels: int, pool: bool) -> nn.Sequential:
    """Latents (B, channels, h, w) to images (B, 3, 8 h, 8 w)."""
    layers: list[nn.Module] = [Squash(), _conv(channels, _WIDTH), nn.ReLU()]
    for number in range(3):
        layers += [Block(pool and number == 0) for _ in range(3)]
        layers += [nn.Upsample(scale_factor=2), _conv(_WIDTH, _WIDTH, bias=False)]
    return nn.Sequential(*layers, Block(), _conv(_WIDTH, 3))


@final
class TinyDecoder(nn.Module):
    """A decoder of plain weights that answers as diffusers' AutoencoderTiny does: images in [-1, 1] as ``sample``."""

    def __init__(self, layers: nn.Sequential, channels: int) -> None:
        super().__init__()
        pool = any(isinstance(layer, Block) and layer.pool is not None for layer in layers)
        self.layers, self.config = layers, SimpleNamespace(latent_channels=channels, pool=pool)

    @classmethod
    def from_config(cls, config: Any) -> TinyDecoder:
        """A decoder of that form with random weights."""
        return cls(decoder_layers(config.latent_channels, config.pool), config.latent_channels)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype

    def decode(self, z: Latents) -> Any:
        """An object whose ``sample`` is (B, 3, 8 h, 8 w)."""
        return SimpleNamespace(sample=2 * self.layers(z) - 1)


@final
class TinyAutoencoder(nn.Module):
    """Both halves, for round trips; images in [0, 1]."""

    def __init__(self, encoder: nn.Sequential, decoder: nn.Sequential) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, images: Images) -> Latents:
        """(B, channels, H/8, W/8)."""
        latents: torch.Tensor = self.encoder(images)
        return latents

    def decode(self, z: Latents) -> Images:
        """(B, 3, 8 h, 8 w), not clamped."""
        images: torch.Tensor = self.decoder(z)
        return images


def load_layers(path: str | Path, half: str) -> nn.Sequential:
    """One half from a state dict (safetensors, or a PyTorch file read by the safe unpickler).

    Args:
        path: The file; names like ``3.conv.0.weight``, with or without ``layers.`` before them.
        half: "encoder" or "decoder".

    Raises:
        ModelError: It cannot be read or is no tiny autoencoder.
    """
    path = Path(path)
    state = {
        name.removeprefix(f"{half}.").removeprefix("layers."): value.float()
        for name, value in read_state(path)[0].items()
    }
    pool = any(".pool." in name for name in state)
    layers = (encoder_layers if half == "encoder" else decoder_layers)(_channels(state, half, path), pool)
    try:
        layers.load_state_dict(_counted(state, layers))
    except RuntimeError as error:
        raise ModelError(f"{path.name} is no {half} of a tiny autoencoder: {first_line(error)}") from error
    return layers.eval().requires_grad_(False)


def load_autoencoder(folder: str | Path) -> TinyAutoencoder:
    """Both halves from a folder with one file ``*encoder*`` and one ``*decoder*``.

    Raises:
        ModelError: They are not there or do not fit.
    """
    halves = [load_layers(_file_of(Path(folder), half), half) for half in ("encoder", "decoder")]
    return TinyAutoencoder(halves[0], halves[1])


def tiny_decoder(path: str | Path, *, device: torch.device, dtype: torch.dtype) -> Any:
    """A tiny decoder from a diffusers AutoencoderTiny directory, a plain state dict, or a folder that holds one.

    Raises:
        ModelError: It cannot be read.
    """
    path = Path(path).expanduser()
    if (path / "config.json").is_file():
        ensure_torchvision()
        from diffusers import AutoencoderTiny

        try:
            network = AutoencoderTiny.from_pretrained(
                path, torch_dtype=dtype, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(f"the tiny decoder {path.name!r} cannot be read: {first_line(error)}") from error
    else:
        file = path if path.is_file() else _file_of(path, "decoder")
        layers = load_layers(file, "decoder")
        first = layers[1]
        assert isinstance(first, nn.Conv2d)
        network = TinyDecoder(layers, first.in_channels)
    placed = network.to(device, dtype).to(memory_format=torch.channels_last)
    return placed.eval().requires_grad_(False)


def _file_of(folder: Path, half: str) -> Path:
    found = sorted(p for p in folder.glob(f"*{half}*") if p.suffix in (".safetensors", ".pth", ".pt"))
    if not found:
        raise ModelError(
            f"{folder.name!r} holds neither an AutoencoderTiny (config.json) nor a file '*{half}*.safetensors' or "
            f"'*{half}*.pth'"
        )
    return found[0]


def _channels(state: State, half: str, path: Path) -> int:
    """Channels of the latent, from the last layer of an encoder or the first of a decoder."""
    convolutions = [(name, value) for name, value in state.items() if value.ndim == 4 and "." in name]
    numbers = [int(name.split(".")[0]) for name, _ in convolutions if name.split(".")[0].isdecimal()]
    if not numbers:
        raise ModelError(f"{path.name} has no layers of a tiny autoencoder (names like 3.conv.0.weight)")
    edge = max(numbers) if half == "encoder" else min(numbers)
    weight = state.get(f"{edge}.weight")
    if weight is None or weight.ndim != 4:
        raise ModelError(
            f"{path.name} is no {half} of a tiny autoencoder: its layer {edge} is no convolution"
        )
    return int(weight.shape[0] if half == "encoder" else weight.shape[1])


def _counted(state: State, layers: nn.Sequential) -> State:
    """Names shifted where the file does not count the soft clamp as a layer (diffusers does not)."""
    own = min(int(name.split(".")[0]) for name in layers.state_dict())
    given = min(int(name.split(".")[0]) for name in state if name.split(".")[0].isdecimal())
    if own == given:
        return state
    moved = {}
    for name, value in state.items():
        first, _, rest = name.partition(".")
        moved[f"{int(first) + own - given}.{rest}"] = value
    return moved
