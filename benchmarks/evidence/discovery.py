"""Naming blind spots from generated images alone: the first ten cells that an arm's images point at.

Which terms an image shows is said by the generator's own text-image encoder, and whether it is bad by the classifier
under test (it does not see the class that was asked for). The search is the product's own, at a level at which ten
findings are there to be ranked. Nothing here reads the planted cells; `benchmarks.evidence.truth` counts afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.evidence import arms
from benchmarks.evidence.arms import Arm
from benchmarks.evidence.finding import SMALLEST, findings, oftener, shown
from benchmarks.evidence.signs import ASSETS, Signs
from benchmarks.evidence.truth import Examiner, counted
from benchmarks.evidence.units import Clock, Store, Unit
from ltg_core.demo.world import CLASSES
from ltg_core.guidance.engine import from_uint8
from ltg_core.models.textimage import TextImage

FIRST = 10
UNGUIDED = "+ unguided"
SEARCHED: tuple[Arm, ...] = tuple(
    arms.arm(name)
    for name in (
        "+ unguided", "+ LTG epistemic", "+ best of N, equal compute", "+ feedback-guided, entropy",
        "+ LTG entropy", "+ feedback-guided, loss", "+ feedback-guided, hardness",
    )
)  # fmt: skip


class Discovery:
    """Arms by what their images name."""

    name = "discovery"

    def __init__(self, signs: Signs, clock: Clock) -> None:
        self.signs, self.clock = signs, clock
        self.arms = {arm.name: arm for arm in SEARCHED}
        self.encoder: TextImage | None = None

    def units(self, seeds: Sequence[int]) -> list[Unit]:
        """Every arm and seed."""
        return [Unit(self.name, arm, seed) for arm in self.arms for seed in seeds]

    def settings(self, unit: Unit) -> dict[str, Any]:
        """What decides the result."""
        guidance = self.arms[unit.arm].guidance
        assert guidance is not None
        sizes = self.signs.sizes
        return {
            "guidance": arms.small(guidance, self.signs).to_dict(), "images": sizes.images, "smallest": SMALLEST, "paired": True,
            "train": sizes.train, "val": sizes.val, "head_passes": sizes.head_passes,
        }  # fmt: skip

    def measure(self, unit: Unit, store: Store) -> dict[str, Any]:
        """The believed images of one arm and seed: what they name, and how much of it is planted."""
        signs = self.signs
        each = max(1, signs.sizes.images // len(CLASSES))
        taken = arms.pool_of(signs, self.arms[unit.arm], unit.seed, self.clock).take(each)
        self.encoder = self.encoder or TextImage(ASSETS / "generator" / "clip")
        words = list(signs.phrases)
        table = shown(self.encoder, signs.phrases, taken.images, taken.labels)
        said = signs.classifier.outputs(from_uint8(taken.images), batch_size=256).logits.argmax(dim=1).numpy()
        found = findings(table, said != taken.labels, taken.labels, words)
        named = [(one.sign, one.word) for one in found[:FIRST]]
        return {
            "images": len(taken.images),
            "attempts": taken.attempts,
            "errors": int((said != taken.labels).sum()),
            "found": [
                {
                    "cell": f"{f.sign} / {f.word}",
                    "n": f.n,
                    "bad": f.bad,
                    "p": round(f.p, 6),
                    "q": round(f.q, 6),
                }
                for f in found[:FIRST]
            ],
            "certain": sum(one.q <= 0.05 for one in found),
            **self.paired(unit, each),
            **counted(named, [(f.sign, f.word) for f in found if f.q <= 0.05][:FIRST]),
            "seen_by_oracles": Examiner(ASSETS).seen(taken.images, taken.labels),
        }

    def paired(self, unit: Unit, each: int) -> dict[str, Any]:
        """What the images show more often than the unguided ones of the same seeds; pairs of two believed images."""
        plain = arms.arm(UNGUIDED)
        if unit.arm == UNGUIDED:
            return {}
        pools = [arms.pool_of(self.signs, arm, unit.seed, self.clock) for arm in (self.arms[unit.arm], plain)]
        rows = [pool.first(each) for pool in pools]
        both = pools[0].rows("believed")[rows[0]] & pools[1].rows("believed")[rows[1]]
        labels = pools[0].rows("label")[rows[0]][both]
        assert self.encoder is not None
        guided, control = (
            shown(self.encoder, self.signs.phrases, pool.rows("images")[own][both], labels)
            for pool, own in zip(pools, rows, strict=True)
        )
        words = list(self.signs.phrases)
        found = oftener(guided, control, labels, words)
        cells = [(CLASSES[one.label], words[one.term]) for one in found]
        certain = [cell for cell, one in zip(cells, found, strict=True) if one.q <= 0.05]
        return {
            "pairs": len(labels),
            "oftener": [
                {
                    "cell": f"{sign} / {word}",
                    "guided": one.guided,
                    "control": one.control,
                    "p": round(one.p, 6),
                }
                for (sign, word), one in list(zip(cells, found, strict=True))[:FIRST]
            ],
            "by_pairs": counted(cells[:FIRST], certain[:FIRST]),
        }
