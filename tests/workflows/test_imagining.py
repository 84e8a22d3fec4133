"""Orders: carried out from plain values, priced before, traced and swept."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from ltg_core import workflows
from ltg_core.data.records import Filter, Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError, LtgError
from ltg_core.guidance.settings import PRESETS, Guidance
from ltg_core.jobs import CancelToken, Progress
from ltg_core.workflows import Order

PUSHED = Guidance(
    steps=4, candidates=2, draft_steps=1, survivors=1, band_start=0.0, band_end=1.0, every=1, target=100
)


def order(**given: Any) -> Order:
    return Order(**({"number": 2, "label": "stop", "guidance": PUSHED.to_dict()} | given))


def do(ws: Workspace, wanted: Order, **options: Any) -> Run:
    """Through JSON, as a queue would keep it."""
    return workflows.imagine(ws, json.loads(json.dumps(wanted.to_dict())), **options)


def test_an_order_survives_json_and_is_carried_out(fitted: Workspace) -> None:
    wanted = order(prompt="a {label} sign at night", aim={"condition": "night"}, preset="explore", seed=4)
    assert Order.from_dict(json.loads(json.dumps(wanted.to_dict()))) == wanted
    reports: list[Progress] = []
    run = do(fitted, wanted, on_progress=reports.append)
    rows = workflows.triplets(fitted, run.id)
    assert [(row["seed"], row["prompt"]) for row in rows] == [
        (4, "a stop sign at night"),
        (5, "a stop sign at night"),
    ]
    made = fitted.samples([row["guided"] for row in rows])
    assert {s.meta["condition"] for s in made} == {"night"} and {s.label_name for s in made} == {"stop"}
    assert set(fitted.query(Filter(meta={"condition": "night"}, origin="generated"))) >= {s.id for s in made}
    assert reports[-1].message == "examining and storing, image 1 to 2 of 2"
    assert run.result["calls_control"]["U"] > 0


def test_the_class_comes_from_the_order_the_source_or_the_counterfactual(fitted: Workspace) -> None:
    labels = fitted.label_names()
    a, b = (fitted.query(Filter(split="train", label=i), limit=1)[0] for i in (1, 2))

    def ask(**given: Any) -> list[int]:
        return workflows.intended(fitted, order(number=3, **given), labels)

    assert ask(label="") == [0, 1, 2]
    assert ask(label="", each=(2, 0, 1)) == [0, 0, 2] == ask(**{"label": "", "each": [2, 0, 1]})
    with pytest.raises(InputError, match="images of 4 classes"):
        ask(label="", each=(1, 1, 1, 0))
    assert ask(label="", sources=(a, b)) == [1, 2, 1] and ask(label="stop", sources=(a, b)) == [0, 0, 0]
    toward = dataclasses.replace(PRESETS["counterfactual"], toward="yield").to_dict()
    assert ask(label="stop", sources=(b,), guidance=toward) == [labels.index("yield")] * 3
    with pytest.raises(InputError, match="starts from a real sample"):
        ask(guidance=toward)
    with pytest.raises(InputError, match=r"no class 'bus'.*stop, yield"):
        ask(label="bus")
    fitted.add_image(fitted.image(a), origin="real", source="nameless.png")
    with pytest.raises(InputError, match="choose the class"):
        ask(label="", sources=(fitted.query(Filter(text="nameless"))[0],))


@pytest.mark.parametrize(
    ("given", "words"),
    (
        ({"number": 0}, "at least 1"),
        ({"seed": -1}, "from 0"),
        ({"weights": (0.0,)}, "above 0"),
        ({"weights": (1.0,) * 9}, "1 to 8 weights"),
        ({"prompt": "x" * 501}, "shorten"),
        ({"guidance": {"stepz": 3}}, "no setting"),
        ({"label": "", "number": 3, "each": (1, 1)}, "not 3 altogether"),
        ({"label": "", "number": 1, "each": (2, -1)}, "not 1 altogether"),
        ({"number": 2, "each": (1, 1)}, "leave class"),
        ({"guidance": {"band_start": 0.9}}, "swap them"),
    ),
)
def test_wrong_orders_are_refused_in_words(given: dict[str, Any], words: str) -> None:
    with pytest.raises(LtgError, match=words):
        order(**given)


def test_an_aim_cannot_take_the_place_of_what_is_recorded(fitted: Workspace) -> None:
    with pytest.raises(InputError, match="other names"):
        do(fitted, order(aim={"source": "camera 1"}))
    assert fitted.runs("generate") == []


def test_an_order_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(InputError, match="no field"):
        Order.from_dict({"numbers": 3})


def test_a_sweep_is_one_strip_a_seed_with_one_control(fitted: Workspace) -> None:
    weights = (0.0, 0.5, 4.0)
    run = do(fitted, order(weights=weights, seed=7))
    strips = workflows.film_strips(workflows.triplets(fitted, run.id))
    assert [strip["seed"] for strip in strips] == [7, 8]
    for strip in strips:
        assert [frame["weight"] for frame in strip["frames"]] == [0.0, 0.5, 4.0]
        assert {frame["control"] for frame in strip["frames"]} == {strip["control"]}
        hashes = [fitted.sample(frame["guided"]).image_hash for frame in strip["frames"]]
        assert hashes[0] != hashes[2]
        assert len({fitted.sample(frame["guided"]).meta["candidate"] for frame in strip["frames"]}) == 1
    assert fitted.count(Filter(origin=run.id)) == 2 * 3 + 2
    alone = do(fitted, order(number=1, seed=7, guidance=dataclasses.replace(PUSHED, weight=4.0).to_dict()))
    (one,) = workflows.triplets(fitted, alone.id)
    last = fitted.sample(strips[0]["frames"][2]["guided"])
    assert fitted.sample(one["guided"]).image_hash == last.image_hash


def test_a_finished_image_can_be_swept_with_everything_else_as_it_was(fitted: Workspace) -> None:
    search_only = dataclasses.replace(PUSHED, climb="none").to_dict()
    run = do(fitted, order(guidance=search_only, negative="fog", seed=3))
    second = workflows.triplets(fitted, run.id)[1]
    again = workflows.sweep_order(fitted, second["guided"], (0.0, 2.0))
    assert (again.seed, again.label, again.negative) == (4, "stop", "fog")
    assert again.settings.climb == "denoiser-free" and again.settings.weight == 2.0
    swept = do(fitted, again)
    (strip,) = workflows.film_strips(workflows.triplets(fitted, swept.id))
    first = fitted.sample(strip["frames"][0]["guided"])
    assert first.image_hash == fitted.sample(second["guided"]).image_hash, "weight 0 is the image itself"
    with pytest.raises(InputError, match="real sample"):
        workflows.sweep_order(fitted, fitted.query(Filter(origin="real"), limit=1)[0])


def test_a_stopped_sweep_keeps_whole_strips_and_resumes(fitted: Workspace) -> None:
    token = CancelToken()

    def stop(step: Progress) -> None:
        if "image 9 to" in step.message:
            token.cancel()

    wanted = order(number=3, weights=(0.5, 1.0, 2.0, 4.0))
    with pytest.raises(LtgError):
        do(fitted, wanted, on_progress=stop, cancel=token)
    run = fitted.runs("generate")[0]
    kept = workflows.film_strips(workflows.triplets(fitted, run.id))
    assert run.state == "cancelled" and [len(strip["frames"]) for strip in kept] == [4, 4]
    workflows.resume_generate(fitted, run.id)
    assert len(workflows.film_strips(workflows.triplets(fitted, run.id))) == 3


def test_the_trace_says_signal_and_weight_by_step(fitted: Workspace) -> None:
    run = do(fitted, order(number=2), on_progress=lambda step: None)
    trace = workflows.run_trace(fitted, run.id)
    assert trace.steps == 4 and set(trace.images) == {0, 1} and trace.target is None
    one = trace.images[0]
    assert [step for step, _ in one.control] == [step for step, _ in one.guided] == [1, 2, 4]
    assert one.weight == [(step, 0.5) for step, _ in one.weight] and len(one.weight) >= 3
    assert trace.mean.guided[0][1] == pytest.approx(
        sum(image.guided[0][1] for image in trace.images.values()) / 2
    )


def test_where_an_image_is_past_the_target_nothing_pushes_it(fitted: Workspace) -> None:
    easy = dataclasses.replace(PUSHED, target=0.001).to_dict()
    run = do(fitted, order(guidance=easy), on_progress=lambda step: None)
    trace = workflows.run_trace(fitted, run.id)
    levels = [
        e["level"] for e in json.loads(next(fitted.run_folder(run.id).glob("unit-*")).read_text())["trace"]
    ]
    for place, image in trace.images.items():
        assert [w > 0 for _, w in image.weight] == [row[place] < trace.target for row in levels]


def test_an_unguided_run_has_no_twins_and_no_weights_in_its_trace(fitted: Workspace) -> None:
    run = do(fitted, order(guidance=PRESETS["unguided"].to_dict() | {"steps": 2}))
    trace = workflows.run_trace(fitted, run.id)
    assert trace.mean.weight == [] and set(trace.images) == {0, 1}
    shown = trace.mean.guided or trace.mean.control
    assert [step for step, _ in shown] == [1, 2]


def test_before_anything_was_measured_only_the_calls_are_known(fitted: Workspace) -> None:
    found = workflows.estimate(fitted, order(number=8))
    assert found.seconds is None and found.memory is None and found.calls["U"] > 0 and found.images == 8


def test_the_estimate_counts_what_the_run_counts_and_learns_from_it(fitted: Workspace) -> None:
    workflows.measure_cost(fitted)
    for wanted in (
        order(number=3),
        order(number=10, guidance=PRESETS["unguided"].to_dict() | {"steps": 2}),
        order(weights=(0.0, 1.0, 2.0)),
    ):
        before = workflows.estimate(fitted, wanted)
        assert before.seconds > 0 and before.first <= before.seconds and before.memory > 0 < before.weights
        run = do(fitted, wanted)
        counted = run.result["calls"].items() | run.result["calls_control"].items()
        totals: dict[str, int] = {}
        for name, number in [*run.result["calls"].items(), *run.result["calls_control"].items()]:
            totals[name] = totals.get(name, 0) + number
        assert {k: v for k, v in before.calls.items() if v} == {k: v for k, v in totals.items() if v}, counted
    after = workflows.estimate(fitted, order(number=3))
    assert after.runs == 3
    run = fitted.runs("generate")[-1]  # the first one; corrected by the median of all three
    assert after.seconds > 0 and run.finished > run.started


def test_more_work_is_estimated_to_take_longer(fitted: Workspace) -> None:
    workflows.measure_cost(fitted)

    def seconds(**given: Any) -> float:
        number = given.pop("number", 8)
        guidance = dataclasses.replace(Guidance(), **given).to_dict()
        found = workflows.estimate(fitted, order(number=number, guidance=guidance)).seconds
        assert found is not None
        return found

    assert seconds(number=8) < seconds(number=16) < seconds(number=16, candidates=40)
    assert (
        seconds(search="none", climb="none") < seconds(search="none", every=1) < seconds(search="best of n")
    )


def test_a_measurement_of_other_models_does_not_count(fitted: Workspace) -> None:
    workflows.measure_cost(fitted)
    kept = fitted.get_state("cost")
    assert workflows.measured(fitted) == kept
    fitted.put_state("cost", kept | {"models": ["x", "y"]})
    assert workflows.measured(fitted) is None
    assert workflows.estimate(fitted, order()).seconds is None
    fitted.put_state("cost", kept)
    state = fitted.get_state("generator")
    fitted.put_state("generator", state | {"options": {"offload": "layers"}})
    assert workflows.measured(fitted) is None, "it is slower that way"


def test_a_likeness_is_priced_as_what_the_generator_does_for_it(fitted):
    """A start from the image leaves out steps; a mixture of captions leaves out none."""
    near = order(guidance=Guidance(steps=10, search="none", like="train", strength=0.5).to_dict())
    far = order(guidance=Guidance(steps=10, search="none").to_dict())
    ways = {
        way: order(guidance={**near.to_dict()["guidance"], "like_by": way})
        for way in ("start", "captions", "adapter")
    }
    calls = {way: workflows.estimate(fitted, one).calls["U"] for way, one in ways.items()}
    assert calls["captions"] == calls["adapter"] == workflows.estimate(fitted, far).calls["U"]
    assert calls["start"] == calls["captions"] / 2
    assert workflows.estimate(fitted, near).calls["U"] == calls["start"]  # this generator has no better way
