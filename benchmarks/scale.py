"""``python -m benchmarks.scale``: what a million guided images cost per model family, on paper.

The cost model counts floating-point operations per image with guidance scale: N steps of two calls of the denoiser, G
guided steps of a tiny decoder and a classifier forward and backward, one full decoding. U, D and T are the counts of
docs/scale.md (torch's FlopCounter, batch 1). What share of a processor's peak is reached has to be measured; the table
names the one that it assumes.
"""

from __future__ import annotations

import argparse
import dataclasses

PEAK = 989.0  # TFLOP/s, H100 SXM, bfloat16, dense
CLASSIFIER = 0.0082  # TFLOP, ResNet-50 at 224 pixels, forward; as much again backward


@dataclasses.dataclass(frozen=True)
class Family:
    """TFLOP of one forward of denoiser, full decoder and tiny decoder; steps; kilobytes of one image on the disk."""

    name: str
    denoiser: float
    decoder: float
    tiny: float
    steps: int
    kilobytes: float


FAMILIES = (
    Family("SD 1.5, 512", 0.803, 2.51, 0.141, 20, 450),
    Family("SD 2.1, 768", 2.15, 5.75, 0.318, 20, 1000),
    Family("SDXL, 1024", 6.76, 10.47, 0.565, 20, 1700),
    Family("SD 3 medium, 1024", 8.90, 10.47, 0.566, 28, 1700),
    Family("FLUX.1-dev, 1024", 74.4, 10.47, 0.566, 28, 1700),
    Family("DiT-XL/2, 256", 0.237, 0.622, 0.035, 20, 120),
)


def tflop(one: Family, *, guided: bool, window: float = 0.4) -> float:
    """Of one image; FLUX.1-dev embeds its scale and calls the denoiser once a step."""
    calls = 1 if one.name.startswith("FLUX") else 2
    steps = round(window * one.steps) if guided else 0
    return one.steps * calls * one.denoiser + steps * (2 * one.tiny + 2 * CLASSIFIER) + one.decoder


def main() -> None:
    """Print the table."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--share", type=float, default=0.35, help="of the peak that is reached")
    given = made.parse_args()
    print(
        "| family | steps | TFLOP an image | of unguided | GPU hours a million | with controls | TB a million |"
    )
    print("|---|---|---|---|---|---|---|")
    for one in FAMILIES:
        plain, guided = tflop(one, guided=False), tflop(one, guided=True)
        hours = 1e6 / 3600 / (PEAK * given.share)
        print(
            f"| {one.name} | {one.steps} | {guided:.1f} | {guided / plain:.2f} | {guided * hours:,.0f} |"
            f" {(guided + plain) * hours:,.0f} | {one.kilobytes / 1e3:.2f} |"
        )


if __name__ == "__main__":
    main()
