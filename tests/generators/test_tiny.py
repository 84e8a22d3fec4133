"""Tiny decoders: real TAEF2 weights, diffusers' AutoencoderTiny as the same numbers, refusals."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import diffusers
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from ltg_core.errors import ModelError
from ltg_core.generators.base import Calls
from ltg_core.generators.decoding import AutoencoderCodec
from ltg_core.generators.folder import Folder
from ltg_core.generators.tiny import (
    TinyDecoder,
    decoder_layers,
    encoder_layers,
    load_autoencoder,
    load_layers,
    tiny_decoder,
)

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
TAEF2 = SHARED / "weights" / "taef2"
CPU, F32 = torch.device("cpu"), torch.float32


def test_taef2_keeps_cifar_images_as_well_as_was_measured() -> None:
    data = SHARED / "cifar10" / "test.parquet"
    if not TAEF2.is_dir() or not data.exists():
        pytest.skip("TAEF2 and CIFAR-10 are not in ../shared/data")
    rows = pq.read_table(data, columns=["image"]).slice(0, 64).to_pylist()
    pictures = [np.array(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")) for row in rows]
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    images = F.interpolate(images, size=64, mode="bicubic").clamp(0, 1)
    autoencoder = load_autoencoder(TAEF2)
    with torch.no_grad():
        latents = autoencoder.encode(images)
        back = autoencoder.decode(latents).clamp(0, 1)
    assert latents.shape == (64, 32, 8, 8)
    psnr = -10 * float((back - images).square().mean().log10())
    assert psnr == pytest.approx(30.2, abs=0.5)


def test_taef2_guides_as_a_decoder_with_gradients() -> None:
    if not TAEF2.is_dir():
        pytest.skip("TAEF2 is not in ../shared/data")
    decoder = tiny_decoder(TAEF2, device=CPU, dtype=F32)
    assert decoder.config.latent_channels == 32
    z = torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    pixels = decoder.decode(z).sample
    pixels.sum().backward()
    assert pixels.shape == (1, 3, 32, 32) and z.grad is not None and torch.isfinite(z.grad).all()


def test_plain_weights_are_the_autoencoder_of_diffusers(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = diffusers.AutoencoderTiny().eval()
    for half, part in (("encoder", theirs.encoder), ("decoder", theirs.decoder)):
        torch.save(part.layers.state_dict(), tmp_path / f"taesd_{half}.pth")
    ours = load_autoencoder(tmp_path)
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z = theirs.encode(2 * images - 1).latents
        torch.testing.assert_close(ours.encode(images), z)
        torch.testing.assert_close(2 * ours.decode(z) - 1, theirs.decode(z).sample)
        decoder = tiny_decoder(tmp_path, device=CPU, dtype=F32)
        torch.testing.assert_close(decoder.decode(z).sample, theirs.decode(z).sample)


@pytest.mark.parametrize(("channels", "pool"), [(4, False), (16, False), (32, True)])
def test_latents_are_an_eighth_of_the_image(channels: int, pool: bool) -> None:
    images = torch.rand(1, 3, 24, 40)
    with torch.no_grad():
        z = encoder_layers(channels, pool)(images)
        assert z.shape == (1, channels, 3, 5)
        assert decoder_layers(channels, pool)(z).shape == images.shape


def test_other_files_are_refused(tmp_path: Path, model_folder: Callable[[str], Path]) -> None:
    torch.save({"weight": torch.zeros(2, 2)}, tmp_path / "decoder.pth")
    with pytest.raises(ModelError, match="no layers of a tiny autoencoder"):
        load_layers(tmp_path / "decoder.pth", "decoder")
    with pytest.raises(ModelError, match="neither an AutoencoderTiny"):
        tiny_decoder(tmp_path / "nothing", device=CPU, dtype=F32)
    torch.save(decoder_layers(16, False).state_dict(), tmp_path / "decoder.pth")
    with pytest.raises(ModelError, match="16 channels, those of 'sd-1' have 4"):
        AutoencoderCodec(Folder(model_folder("sd 1")), tiny=tmp_path)


def test_without_a_tiny_decoder_the_full_one_guides_at_lower_precision(
    model_folder: Callable[[str], Path],
) -> None:
    folder = Folder(model_folder("sd 1"))
    full, half = AutoencoderCodec(folder), AutoencoderCodec(folder, guide_dtype=torch.bfloat16)
    assert full.tiny.startswith("full decoder, float32") and half.tiny.startswith("full decoder, bfloat16")
    weights = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    gradients = []
    for codec in (full, half):
        calls = Calls()
        z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
        (codec.decode(z, calls, tiny=True) * weights).sum().backward()
        assert calls == {"D": 2} and z.grad is not None and z.grad.dtype == torch.float32
        gradients.append(z.grad)
    assert float(F.cosine_similarity(gradients[0].flatten(), gradients[1].flatten(), dim=0)) > 0.99
    assert full.vae.decoder.gradient_checkpointing


def test_a_given_tiny_decoder_goes_before_the_full_one(tmp_path: Path) -> None:
    from tests.generators.tiny_models import build

    folder = build("sd 1", tmp_path / "model")
    torch.save(decoder_layers(4, False).state_dict(), tmp_path / "taesd_decoder.pth")
    codec = AutoencoderCodec(Folder(folder), tiny=tmp_path / "taesd_decoder.pth")
    assert codec.tiny == "tiny decoder taesd_decoder.pth" and isinstance(codec._tiny, TinyDecoder)
