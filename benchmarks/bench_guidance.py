"""``make bench-guidance``: our guidance and that of others on the same models, noise and classifier; resumable.

Every (mode, setting, seed) is a file in ``benchmarks/results/guidance/<ground>``; what is there is not run again. All modes climb
or choose by one function (signal, minus doubt of the judge, minus distance from real data). The gain is read on a head that
was fitted with another seed and that no mode reads; the class by an oracle that no mode asks.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import grounds
from benchmarks.grounds import Ground
from benchmarks.measure import RESULTS, ROOT, commit, machine, read_json, write_json
from benchmarks.peers import PEERS, Problem
from benchmarks.peers.problem import SOLVER
from ltg_core.evaluation.quality import prdc
from ltg_core.guidance.engine import GenerateRequest, from_uint8, generate_images, to_uint8
from ltg_core.guidance.objective import Levels
from ltg_core.guidance.settings import Guidance
from ltg_core.guidance.validity import _blur, _crop, _jpeg, signal_of

OURS = "ours"
FIRST_SEED = 31_000_000
Setting = dict[str, Any]

CLIMB: Setting = {"search": "none", "sampler": SOLVER, "target": 100.0}
FULL: Setting = {**CLIMB, "climb": "full", "band_start": 0.0, "band_end": 0.75}
LIGHT: Setting = {"sampler": SOLVER, "survivors": 1, "climb": "none"}
SETTINGS: dict[str, list[Setting]] = {
    "unguided": [{}],
    OURS: [
        {**CLIMB, "weight": 2.0, "hold": True},
        {**CLIMB, "weight": 4.0, "hold": True},
        {**CLIMB, "weight": 3.0, "hold": True, "target": 97.0},
        {},
        {**CLIMB, "weight": 8.0, "hold": True},
        {**CLIMB, "weight": 8.0, "adam": True},
        {**CLIMB, "weight": 8.0, "hold": True, "adam": True},
        {**FULL, "weight": 2.0},
        {**FULL, "weight": 6.0},
        {**FULL, "weight": 6.0, "hold": True},
        {**LIGHT, "candidates": 4},
        {**LIGHT, "candidates": 8},
    ],
    "naive LTG": [
        {"weight": 1.0},
        {"weight": 0.1, "normed": True},
        {"weight": 0.05, "normed": True},
        {"weight": 3.0},
    ],
    "MPGD": [{"weight": 8.0}, {"weight": 15.0}],
    "DPS": [{"zeta": 0.5}, {"zeta": 0.25}, {"zeta": 1.5}],
    "feedback-guided": [{"omega": 0.03}, {"omega": 0.07}],
    "successive halving": [{"n": 4}, {"n": 8}],
    "best of N": [{"n": 2}, {"n": 4}],
    "AdamMPGD": [{"weight": 0.3}, {"weight": 0.6}, {"weight": 2.0}],
    "Feynman-Kac steering": [{"n": 2, "scale": 2.0}, {"n": 4, "scale": 2.0}],
    "TFG": [{"rho": 0.1, "mu": 0.5}, {"rho": 0.3, "mu": 1.0}, {"rho": 1.0, "mu": 4.0}],
    "LGD-MC": [{"zeta": 0.5}, {"zeta": 1.5}],
}
"""The sweep of every mode: strengths tried on seed 0 (``--pilot``), and weaker ones, of ours and others, after seed 1."""


def run(
    ground: Ground, mode: str, setting: Setting, seed: int, images: int, base: Guidance
) -> dict[str, Any]:
    """One mode, one setting, one seed: the classes in turn (over the seeds too), prompts without a condition."""
    labels = [(16 * seed + i) % len(ground.prompts) for i in range(images)]
    seeds = [FIRST_SEED + 10_000 * seed + i for i in range(len(labels))]
    prompts = [ground.prompts[i] for i in labels]
    generator = ground.generator
    generator.calls.clear()
    started, cpu = time.perf_counter(), time.process_time()
    if mode == OURS:
        guidance = dataclasses.replace(base, **setting)
        request = GenerateRequest(tuple(prompts), tuple(labels), tuple(seeds))
        result = generate_images(generator, ground.target, guidance, request, controls=False)
        made, calls = result.images, dict(result.calls)
    else:
        problem = Problem(generator, ground.target, base, prompts, labels, seeds)
        found = PEERS[mode](problem, **setting)
        made = to_uint8(found.images if found.images is not None else problem.decode(found.latents))
        calls = {name: n for name, n in generator.calls.items() if n}
    spent = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    return measured(ground, made, np.array(labels), base.signal) | {"calls": calls, **spent}


def measured(ground: Ground, images: np.ndarray, labels: np.ndarray, signal: str) -> dict[str, Any]:
    """What an arm's images show, one row each, and density and coverage of them together."""
    x, y = from_uint8(images), torch.from_numpy(labels)
    spare = dataclasses.replace(ground.target, reference=ground.spare)
    levels = Levels(ground.spare, signal, "all")
    level = levels(signal_of(spare, signal, x, y, "all"))
    # what is content and not texture is still there after mild changes
    after = [
        levels(signal_of(spare, signal, changed, y, "all")) for changed in (_jpeg(x), _blur(x), _crop(x))
    ]
    robust = torch.stack(after).median(dim=0).values
    percentile = ground.spare.percentile(signal, signal_of(spare, signal, x, y, "all"), "all")
    audit = ground.target.reference.percentile(
        signal, signal_of(ground.target, signal, x, y, "audit"), "audit"
    )
    found, features = ground.judged(images)
    predicted = ground.target.classifier.outputs(x).logits.argmax(dim=1).numpy()
    planted = ground.planted(images, labels) if ground.planted is not None else np.zeros(len(labels), bool)
    quality = prdc(ground.real, features)
    rows = [
        {
            "label": int(labels[i]),
            "level": round(float(level[i]), 4),
            "robust": round(float(robust[i]), 4),
            "percentile": round(float(percentile[i]), 2),
            "percentile_audit": round(float(audit[i]), 2),
            "on_class": bool(found[i] == labels[i]),
            "planted": bool(planted[i]),
            "wrong": bool(predicted[i] != labels[i]),
        }
        for i in range(len(labels))
    ]
    return {"rows": rows, "density": quality.density, "coverage": quality.coverage}


def name_of(mode: str, setting: Setting, seed: int) -> str:
    """A file for one run."""
    text = json.dumps(setting, sort_keys=True)
    short = re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-") or "default"
    if len(short) > 80:
        short = short[:70] + "-" + hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^a-z0-9]+', '-', mode.lower())}__{short}__{seed}.json"


def sweep(
    ground: Ground,
    out: Path,
    settings: dict[str, list[Setting]],
    seeds: list[int],
    images: int,
    base: Guidance,
    stop_at: float = float("inf"),
    again: bool = False,
) -> int:
    """Run what is missing (``again``: and what is of another commit), seed by seed, first the first setting of every mode and four of ours; returns how many runs are still missing (where time ran out)."""
    rank = {mode: place for place, mode in enumerate(settings)}
    wanted = sorted(
        ((mode, setting, seed) for seed in seeds for mode, many in settings.items() for setting in many),
        key=lambda one: (
            one[2],
            settings[one[0]].index(one[1]) // (4 if one[0] == OURS else 1),
            rank[one[0]],
        ),
    )
    missing = 0
    for mode, setting, seed in wanted:
        path = out / name_of(mode, setting, seed)
        key = {"mode": mode, "setting": setting, "seed": seed, "base": base.to_dict()}
        stored = read_json(path)
        if stored is not None and stored["images"] >= images and (not again or stored["commit"] == commit()):
            # an image is the same in any batch; a setting that came later began at the value that changes nothing
            was = {**stored, "base": {**Guidance().to_dict(), **stored["base"]}}
            if {name: was[name] for name in key} == key:
                continue
        if time.monotonic() > stop_at:
            missing += 1
            continue
        result = run(ground, mode, setting, seed, images, base)
        load = round(os.getloadavg()[0], 1)
        write_json(
            path, {**key, "images": images, "commit": commit(), "machine": machine(), "load": load, **result}
        )
        rows = result["rows"]
        print(
            f"{mode} {setting} seed {seed}: level {np.mean([r['level'] for r in rows]):+.2f} "
            f"on-class {np.mean([r['on_class'] for r in rows]):.2f} planted {np.mean([r['planted'] for r in rows]):.2f} "
            f"{result['seconds']:.0f} s",
            flush=True,
        )
    return missing


def main() -> None:
    """Run what is missing, then write figures and page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ground", choices=("demo", "cifar10"), default="demo")
    parser.add_argument("--generator", type=Path, help="for cifar10: a generator that was fitted on it")
    parser.add_argument("--out", type=Path, default=RESULTS / "guidance")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "guidance")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--images", type=int, default=8, help="of every seed; the classes in turn")
    parser.add_argument("--modes", nargs="*", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument(
        "--pilot", action="store_true", help="seed 0, 8 images, into the work folder: to choose sweeps"
    )
    parser.add_argument(
        "--quick", action="store_true", help="seed 0, 8 images, first setting of every mode, 4 steps"
    )
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="begin no further run after so many"
    )
    parser.add_argument("--again", action="store_true", help="measure rows of other commits anew")
    parser.add_argument("--sweep-only", action="store_true", help="run what is missing, write no page")
    parser.add_argument(
        "--shapes", action="store_true", help="also count the large models' shapes (a minute)"
    )
    options = parser.parse_args()
    stop_at = time.monotonic() + 60 * options.minutes
    if options.ground == "cifar10" and options.generator is None:
        raise SystemExit(
            "no generator of CIFAR-10 comes with this; give one with --generator FOLDER (see fit-generator)"
        )
    options.work.mkdir(parents=True, exist_ok=True)
    ground = (
        grounds.demo(options.work)
        if options.ground == "demo"
        else grounds.cifar(options.work, options.generator)
    )
    settings = {mode: SETTINGS[mode] for mode in options.modes}
    seeds, images, base, out = options.seeds, options.images, Guidance(), options.out / ground.name
    if options.pilot or options.quick:
        seeds, images, out = [0], 8, options.work / ("pilot" if options.pilot else "quick")
    if options.quick:
        base = dataclasses.replace(base, steps=4, candidates=3, draft_steps=2, survivors=1)
        settings = {mode: many[:1] for mode, many in settings.items()}
    missing = sweep(ground, out, settings, seeds, images, base, stop_at, options.again)
    print(f"{missing} runs are still missing" if missing else "every run is there")
    if options.pilot or options.quick or options.sweep_only:
        return
    write_json(
        options.out / f"{ground.name}-costs.json",
        {"commit": commit(), "machine": machine(), "costs": ground.costs},
    )
    from benchmarks import guidance_report, shapes

    if options.shapes or not (options.out / "shapes.json").exists():
        shapes.main([])
    guidance_report.main([])


if __name__ == "__main__":
    main()
