"""Who does the units of work, and how many workers of what size a cluster is divided into."""

from __future__ import annotations

import importlib.util

import pytest

from app.settings import parse
from ltg_core.cli import build_parser
from ltg_core.cli.flags import engine_of
from ltg_core.errors import Cancelled, InputError, MissingExtra
from ltg_core.jobs import CancelToken
from ltg_core.workers.engine import LOCAL, EngineSettings, There
from ltg_core.workers.ray_driver import reach, shares


def test_this_process_does_units_one_by_one_and_stops_between_them() -> None:
    never = There[int]("nowhere:nothing", dict, int)  # is not imported
    token, seen = CancelToken(), []
    with pytest.raises(Cancelled):
        for unit, result in LOCAL.map(iter(range(9)), lambda unit: unit * unit, never, token):
            seen.append((unit, result))
            if unit == 2:
                token.cancel()
    assert seen == [(0, 0), (1, 1), (2, 4)] and LOCAL.words == ""


@pytest.mark.parametrize(
    ("workers", "device", "threads", "there", "units", "wanted"),
    [
        (0, "auto", 1, {"CPU": 8.0, "GPU": 2.0}, 100, (2, {"num_cpus": 1.0, "num_gpus": 1.0})),
        (0, "auto", 1, {"CPU": 8.0}, 100, (8, {"num_cpus": 1.0})),
        (0, "auto", 4, {"CPU": 8.0}, 100, (2, {"num_cpus": 4.0})),
        (0, "auto", 16, {"CPU": 8.0}, 100, (1, {"num_cpus": 8.0})),
        (0, "cpu", 1, {"CPU": 4.0, "GPU": 2.0}, 3, (3, {"num_cpus": 1.0})),
        (3, "cpu", 2, {"CPU": 2.0}, 100, (3, {"num_cpus": 0.66})),
        (4, "cuda:0", 1, {"CPU": 8.0, "GPU": 2.0}, 100, (4, {"num_cpus": 1.0, "num_gpus": 0.5})),
    ],
)
def test_a_cluster_is_divided_by_gpus_else_by_threads(workers, device, threads, there, units, wanted) -> None:
    settings = {"workers": workers, "device": device, "threads": threads}
    assert shares(settings, there, units) == wanted


def test_a_gpu_that_is_not_there_is_said() -> None:
    with pytest.raises(InputError, match="has no GPU"):
        shares({"workers": 0, "device": "cuda", "threads": 1}, {"CPU": 2.0}, 5)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "127.0.0.1:x"])
def test_a_cluster_that_does_not_answer_is_said(address: str) -> None:
    with pytest.raises(InputError, match=r"ray start --head"):
        reach(address)


def test_the_command_line_chooses_and_what_does_not_fit_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["score"], ["generate"], ["sweep", "x"], ["balance"], ["map"], ["export"], ["name"]):
        given = build_parser().parse_args(
            [*words, "--engine", "ray", "--ray-workers", "3", "--ray-address", "a:1"]
        )
        assert engine_of(given) == EngineSettings("ray", 3, "a:1", getattr(given, "device", "auto"))
        assert engine_of(build_parser().parse_args(words)).open() is LOCAL
    with pytest.raises(InputError, match="known: local, ray"):
        EngineSettings("spark")
    with pytest.raises(InputError, match="-1 workers"):
        EngineSettings("ray", workers=-1)
    with pytest.raises(InputError, match="belong to Ray"):
        EngineSettings("local", workers=2)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install -r requirements-ray\.txt"):
        EngineSettings("ray").open()
    with pytest.raises(SystemExit):
        parse(["--engine", "ray"])
    assert "requirements-ray.txt" in capsys.readouterr().err
    assert parse([]).engine == EngineSettings()
