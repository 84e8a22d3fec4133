"""What guidance costs at the shapes of large models, counted without weights, download or GPU: FLOPs and memory.

Networks of the true shapes stand on the meta device, where every operation has a shape and no numbers. FLOPs are counted by
torch's FlopCounterMode; memory is an ESTIMATE: bytes of all tensors alive at the same time, attention as fused kernels do it,
without the workspace of kernels and the fragmentation of an allocator. Time on a GPU is not measured here.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import RESULTS, commit, machine, write_json
from ltg_core.compat import ensure_torchvision
from ltg_core.generators.memory import _go_back, peak
from ltg_core.guidance.cost import batch_cost
from ltg_core.guidance.objective import mild_views
from ltg_core.guidance.settings import PRESETS

ensure_torchvision()
import diffusers  # noqa: E402

diffusers.utils.logging.set_verbosity_error()
Network = Callable[[torch.Tensor], torch.Tensor]
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Shape:
    """One family at one size.

    Attributes:
        name: For the table.
        unet: Configuration of the denoiser; {} for UNet2DConditionModel's defaults but for the text's width.
        steps: Usual number.
        side: Of the latent.
        text: (tokens, width).
    """

    name: str
    unet: dict[str, Any]
    steps: int
    side: int
    text: tuple[int, int]


SHAPES = (
    Shape("Stable Diffusion 1.5, 512 px", {"attention_head_dim": 8, "cross_attention_dim": 768}, 50, 64, (77, 768)),
    Shape(
        "Stable Diffusion XL, 1024 px",
        {
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": [1, 2, 10],
            "attention_head_dim": [5, 10, 20],
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        30,
        128,
        (77, 2048),
    ),
)  # fmt: skip
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
TEXT_WEIGHTS = {"Stable Diffusion 1.5, 512 px": 123_060_480, "Stable Diffusion XL, 1024 px": 817_719_552}
"""Parameters of the text encoders, which wait in memory too."""


class Large:
    """The networks of one shape on the meta device.

    Args:
        shape: Which.
        dtype: Of denoiser and decoders; the classifier, a ResNet-50 at 224 pixels, stays in float32.
    """

    def __init__(self, shape: Shape, dtype: torch.dtype = torch.float32) -> None:
        from torchvision.models import resnet50

        self.shape, self.dtype = shape, dtype
        with torch.device("meta"):
            unet = diffusers.UNet2DConditionModel(**shape.unet, sample_size=shape.side)
            vae, tiny = diffusers.AutoencoderKL(**VAE), diffusers.AutoencoderTiny()
            classifier = resnet50()
        self.unet, self.vae, self.tiny = (
            net.to(dtype).eval().requires_grad_(False) for net in (unet, vae, tiny)
        )
        self.classifier = classifier.eval().requires_grad_(False)

    def latents(self, rows: int) -> torch.Tensor:
        """Without numbers."""
        return torch.empty(rows, 4, self.shape.side, self.shape.side, device="meta", dtype=self.dtype)

    def denoise(self, z: torch.Tensor) -> torch.Tensor:
        """One prediction a row."""
        tokens, width = self.shape.text
        text = torch.empty(len(z), tokens, width, device="meta", dtype=self.dtype)
        more = {}
        if self.shape.unet.get("addition_embed_type"):
            more = {
                "text_embeds": torch.empty(len(z), 1280, device="meta", dtype=self.dtype),
                "time_ids": torch.empty(len(z), 6, device="meta", dtype=self.dtype),
            }
        step = torch.empty(len(z), device="meta")
        result: torch.Tensor = self.unet(
            z, step, encoder_hidden_states=text, added_cond_kwargs=more or None
        ).sample
        return result

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """The full decoder."""
        result: torch.Tensor = self.vae.decode(z).sample
        return result

    def decode_tiny(self, z: torch.Tensor) -> torch.Tensor:
        """The tiny one."""
        result: torch.Tensor = self.tiny.decode(z).sample
        return result

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, after the resize that the classifier needs."""
        small = nn.functional.interpolate(x.float(), size=(224, 224), mode="bilinear", antialias=True)
        result: torch.Tensor = self.classifier(small)
        return result

    def weights(self, *names: str) -> int:
        """Bytes of these networks and of the text encoders."""
        nets = [getattr(self, name) for name in names]
        own = sum(p.numel() * p.element_size() for net in nets for p in net.parameters())
        return own + TEXT_WEIGHTS[self.shape.name] * torch.finfo(self.dtype).bits // 8


def flops(shape: Shape) -> dict[str, float]:
    """TFLOP of one row of each call: U, D, T, C forward, the same with b for the gradient of the input."""
    large = Large(shape)
    z, side = large.latents(1), 8 * shape.side
    x = torch.empty(1, 3, side, side, device="meta")
    calls: dict[str, tuple[Network, torch.Tensor]] = {
        "U": (large.denoise, z),
        "D": (large.decode, z),
        "T": (large.decode_tiny, z),
        "C": (large.classify, x),
    }
    found = {}
    for name, (network, start) in calls.items():
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            network(start)
        with FlopCounterMode(display=False) as both:
            network(start.clone().requires_grad_(True)).sum().backward()
        found[name] = forward.get_total_flops() / 1e12
        found[name + "b"] = both.get_total_flops() / 1e12 - found[name]
    return found


def ratios(shape: Shape, cost: dict[str, float]) -> dict[str, float]:
    """Cost of an image in multiples of unguided sampling with the same steps, guidance scale at every step.

    Ours are the climbs of presets as ``guidance/cost.py`` counts their calls (three mild views an image, no judge); the others are
    the published schemes: naive N (2(U + U_b) + D + D_b + C + C_b) + D; feedback-guided at every fifth step, conditional
    prediction only, which is also computed again.
    """
    n = shape.steps

    def total(calls: dict[str, int]) -> float:
        return sum(number * cost[name] for name, number in calls.items()) / 8

    base = n * 2 * cost["U"] + cost["D"]
    found = {}
    for name, changes in (
        ("climb of the default preset", {}),
        ("climb, every step of the window", {"every": 1}),
        ("climb, every step", {"every": 1, "band_start": 0.0, "band_end": 1.0}),
        ("climb, window, plain view only", {"augment": False}),
    ):
        guidance = dataclasses.replace(
            PRESETS["explore"], search="none", steps=n, cfg=7.5, cfg_below=1.0, **changes
        )
        found[name] = total(batch_cost(guidance, 8, controls=False, judge=False).calls) / base
    back = cost["D"] + cost["Db"] + cost["C"] + cost["Cb"]
    found["naive LTG"] = (n * (2 * (cost["U"] + cost["Ub"]) + back) + cost["D"]) / base
    found["denoiser-free, full decoder, every step"] = (n * (2 * cost["U"] + back) + cost["D"]) / base
    fifth = -(-n // 5)
    found["feedback-guided, every fifth step"] = (base + fifth * (cost["U"] + cost["Ub"] + back)) / base
    return found


def memory(shape: Shape, rows: int) -> dict[str, float]:
    """Estimated peak in GiB in half precision: unguided, ours, naive; the classifier sees three views of an image."""
    large = Large(shape, torch.float16)
    z = large.latents(rows)

    def climb(decode: Network, through: bool) -> None:
        start = z.clone().requires_grad_(True)
        clean = start
        if through:
            both = large.denoise(torch.cat([start, start]))
            clean = start + both[:rows] + both[rows:]
        views = mild_views(decode(clean).float())
        _go_back(torch.stack([large.classify(view) for view in views]).sum(), start)

    with torch.no_grad():
        plain = max(peak(lambda: large.denoise(torch.cat([z, z]))), peak(lambda: large.decode(z)))
    ours, naive = peak(lambda: climb(large.decode_tiny, False)), peak(lambda: climb(large.decode, True))
    held, guided = large.weights("unet", "vae"), large.weights("unet", "vae", "tiny", "classifier")
    return {
        "unguided": (held + plain) / _GIB,
        "ours": (guided + max(plain, ours)) / _GIB,
        "naive": (held + large.weights("classifier") - large.weights() + max(plain, naive)) / _GIB,
        "ours, activations of the climb": ours / _GIB,
        "unguided, activations": plain / _GIB,
    }


def main(arguments: list[str] | None = None) -> None:
    """Count and write ``benchmarks/results/guidance/shapes.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4, help="images at a time for the memory")
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {"commit": commit(), "machine": machine(), "rows": options.rows}
    for shape in SHAPES:
        cost = flops(shape)
        found[shape.name] = {
            "steps": shape.steps,
            "tflop": cost,
            "ratios": ratios(shape, cost),
            "memory_gib": memory(shape, options.rows),
        }
        print(shape.name, found[shape.name], flush=True)
    write_json(RESULTS / "guidance" / "shapes.json", found)


if __name__ == "__main__":
    main()
