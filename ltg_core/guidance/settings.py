"""What a person can set about guidance, and the presets that most people use instead."""

from __future__ import annotations

import dataclasses
from typing import Any

from ltg_core.errors import InputError
from ltg_core.params import Params, param

SEARCHES = ("none", "lookahead", "halving", "particles", "best of n")
CLIMBS = ("none", "denoiser-free", "full", "feedback")
CRITERIA = ("loss", "entropy", "hardness")
"""What feedback-guided synthesis ascends; each is the signal of that name."""
LIKENESSES = ("auto", "adapter", "captions", "start")
"""How a real image is resembled: the generator's best way, or one that is insisted on (``generators.base``)."""
RELEASED: dict[str, str] = {
    "stale": "the noise estimate is not computed again after the latent was shifted",
    "stretched": "the classifier sees images stretched so that their darkest value is 0 and their brightest is 1",
    "unresized": "the classifier sees images at the generator's size instead of its own",
    "coupled": "norms are those of the whole batch, so that an image depends on those made with it",
    "epsilon": "the clean estimate takes every network's output for noise, also a velocity",
    "unscaled": "gradients in half precision are not scaled up, so that small ones vanish",
}
"""Behaviours of the feedback method's released code that can be repeated, by name. Its unseeded draws cannot: a run
that cannot be made again has no record. Weights left with requires_grad change no image and are left out."""
LIKE_STRENGTH = 0.8
"""Share of the schedule that is re-drawn where a likeness is a start from the noised image."""
STAGES = {
    "control": "unguided controls",
    "draft": "drafts",
    "second": "second look at the best drafts",
    "guided": "final images",
    "examined": "examining and storing",
}
"""Parts of a generation in the order in which they come, in the words that progress uses."""


@dataclasses.dataclass(frozen=True)
class Guidance(Params):
    """All settings of one guided generation.

    Search chooses among candidates, climb follows the gradient; ``search="none", climb="none"`` (or a weight of 0)
    is the unguided sampler, bit for bit.
    """

    signal: str = param("epistemic", "Signal of rarity that is sought")
    steps: int = param(16, "Denoising steps of the final image", low=2, high=1000)
    sampler: str = param("default", "Scheduler; default is the model's own")
    cfg: float = param(
        3.0,
        "Classifier-free guidance scale; 1 for none. Higher keeps closer to the words (3 for small models, 5 to 8 for "
        "Stable Diffusion)",
        low=1.0,
        high=30.0,
    )
    cfg_below: float = param(
        0.7,
        "Share of noise below which that scale applies; 1 for all steps. Above it the content is decided, and "
        "without the scale rare conditions appear as often as in the data; images cost less, too",
        low=0.0,
        high=1.0,
    )
    search: str = param("lookahead", "How candidates are compared", choices=SEARCHES)
    candidates: int = param(20, "Candidates for every image", low=1, high=256)
    draft_steps: int = param(
        3, "Lookahead: steps of a draft; short solver runs from the same noise", low=1, high=100
    )
    survivors: int = param(
        4, "Lookahead: drafts that are looked at again with twice the steps; 1 for none", low=1
    )
    diversity: float = param(
        0.0,
        "Chance-taking among candidates: temperature of the choice in units of the signal's spread; 0 takes the best",
        low=0.0,
        high=10.0,
    )
    search_group: str = param(
        "audit", "Epistemic heads that the search reads", choices=("guide", "audit", "all")
    )
    augment: bool = param(
        True, "Score the mean over mild augmentations, so that texture alone does not count"
    )
    climb: str = param(
        "denoiser-free", "Gradient: at the clean estimate, or through the denoiser", choices=CLIMBS
    )
    weight: float = param(
        0.5, "Strength of the climb, in units of the gap that the text makes", low=0.0, high=100.0
    )
    band_start: float = param(0.25, "Share of the steps after which the climb begins", low=0.0, high=1.0)
    band_end: float = param(0.75, "Share of the steps after which the climb ends", low=0.0, high=1.0)
    every: int = param(2, "Climb at every k-th step of the band", low=1, high=100)
    target: float = param(
        97.0, "Stop climbing above this percentile of held-out real data; 100 for never", low=0, high=100
    )
    on_class: float = param(4.0, "Penalty when the judge doubts the intended class", low=0.0, high=100.0)
    on_class_from: float = param(
        0.95, "Judge's probability below which the penalty begins", low=0.001, high=1.0
    )
    realism: float = param(
        1.0, "Penalty for features farther from real data than 95 % of held-out data", low=0, high=100
    )
    criterion: str = param("entropy", "Feedback mode: what is sought", choices=CRITERIA)
    omega: float = param(0.03, "Feedback mode: step in units of the latent's norm", low=0.0, high=1.0)
    released: str = param(
        "",
        f"Feedback mode: behaviours of the released code to repeat, with commas between: {', '.join(RELEASED)}",
    )
    like: str = param(
        "",
        "Each image also resembles a random real image of its class from this split (dual conditioning); "
        "empty for none",
    )
    like_by: str = param(
        "auto",
        "How it resembles that image: through an image adapter, as a mixture of the captions that it is near to, or "
        "by a start from it, noised; auto takes the generator's best",
        choices=LIKENESSES,
    )
    like_dropout: float = param(
        0.3,
        "Share of the real image's embedding that is left out; 0 keeps closest to it",
        low=0.0,
        high=1.0,
    )
    strength: float = param(
        0.6, "From a real sample: share of the noise schedule that is re-drawn", low=0.05, high=1.0
    )
    toward: str = param(
        "", "From a real sample: class to turn it into; empty for a rarer one of the same class"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.band_start > self.band_end:
            raise InputError(
                f"the climb would begin at {self.band_start} and end at {self.band_end}; swap them"
            )

        unknown = sorted(self.repeats - set(RELEASED))
        if unknown:
            raise InputError(
                f"the released code has no behaviour {unknown[0]!r} that can be repeated; choose from "
                f"{', '.join(RELEASED)}"
            )

    @property
    def repeats(self) -> frozenset[str]:
        """Behaviours of the released code that are repeated, by the names of ``RELEASED``."""
        return frozenset(name.strip() for name in self.released.split(",") if name.strip())

    @property
    def climbs(self) -> bool:
        """Whether any gradient is followed."""
        return self.climb != "none" and (self.weight > 0 if self.climb != "feedback" else self.omega > 0)

    @property
    def searches(self) -> bool:
        """Whether candidates are compared."""
        return self.search != "none" and self.candidates > 1

    def differences(self, other: Guidance) -> dict[str, tuple[Any, Any]]:
        """Settings that another one has otherwise: name -> (the other's, own)."""
        mine, theirs = self.to_dict(), other.to_dict()
        return {name: (theirs[name], value) for name, value in mine.items() if value != theirs[name]}

    def unguided(self) -> Guidance:
        """The same settings without guidance: the control."""
        return dataclasses.replace(self, search="none", climb="none")


def feedback_guided(
    criterion: str = "entropy", *, as_released: bool = False, like: str = "train"
) -> Guidance:
    """Feedback-guided synthesis: every 5th of 30 steps, omega .03, and a likeness to a random real image.

    Args:
        criterion: Of ``CRITERIA``.
        as_released: With every behaviour of the released code that can be repeated; otherwise those are mended.
        like: Split of the real images that are resembled; "" for the text alone.
    """
    plain = Guidance(
        search="none",
        climb="feedback",
        every=5,
        steps=30,
        band_start=0.0,
        band_end=1.0,
        criterion=criterion,
        released=", ".join(RELEASED) if as_released else "",
    )
    return dataclasses.replace(plain, like=like, strength=LIKE_STRENGTH) if like else plain


PRESETS: dict[str, Guidance] = {
    "explore": Guidance(),
    "hard but believable": Guidance(candidates=12, target=90.0, realism=2.0, weight=0.25),
    "search only": Guidance(climb="none"),
    "gradient only": Guidance(search="none", weight=4.0, target=100.0),
    "gradient through the denoiser": Guidance(
        search="none", climb="full", weight=4.0, band_start=0.0, band_end=0.5
    ),
    "feedback-guided": feedback_guided(),
    "feedback-guided, as released": feedback_guided(as_released=True),
    "counterfactual": Guidance(candidates=6, strength=0.6, weight=1.0),
    "unguided": Guidance(search="none", climb="none"),
}
