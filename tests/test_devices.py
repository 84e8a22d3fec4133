"""Where networks run: what a name means here, and what is said where it means nothing."""

from __future__ import annotations

import pytest
import torch

from ltg_core import devices
from ltg_core.errors import InputError

GPU = torch.cuda.is_available()
without = pytest.mark.skipif(GPU, reason="a GPU is here")


def test_the_cpu_is_the_cpu_and_auto_is_something_that_works() -> None:
    assert devices.chosen("cpu").name == "cpu"
    found = devices.chosen("auto")
    assert found.name in ("cpu", "cuda") and found.words
    assert torch.ones(2, device=found.name).sum().item() == 2


@without
def test_auto_says_why_it_is_the_cpu() -> None:
    assert devices.chosen("auto") == ("cpu", "torch finds no GPU here")


@without
@pytest.mark.parametrize("name", ("cuda", "cuda:1"))
def test_a_gpu_that_is_not_there_is_refused_in_words(name: str) -> None:
    for ask in (devices.needed, devices.chosen):
        with pytest.raises(InputError, match=rf"'{name}' cannot be used: torch .*; choose cpu, or auto"):
            ask(name)


@pytest.mark.parametrize("name", ("", "gpu", "cuda:", "cuda:x", "mps", "cuda:1000"))
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="there is no device"):
        devices.needed(name)


def test_no_gpu_is_looked_for_where_none_was_asked_for_by_name() -> None:
    devices.needed("cpu")
    devices.needed("auto")
