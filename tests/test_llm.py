"""A language model's endpoint: what it may answer, and what it must not make us say or do."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
import time
from typing import Any

import pytest
from PIL import Image

from ltg_core.errors import Cancelled, EndpointError, InputError
from ltg_core.jobs import CancelToken
from ltg_core.llm import Endpoint
from tests.speaker import speaking

KEY = "sk-very-secret-1234"
WORDS = {
    "type": "object",
    "properties": {"words": {"type": "array", "items": {"type": "string", "maxLength": 40}, "maxItems": 20}},
    "required": ["words"],
}


def endpoint(url: str, **changes: Any) -> Endpoint:
    return Endpoint(url, "some-model", **({"pause": 0.01, "retries": 1, "timeout": 5.0} | changes))


def test_the_answer_is_json_of_the_schema_and_pictures_travel_small() -> None:
    with speaking(lambda asked, n: '{"words": ["fog", "night"], "else": 1}', KEY) as server:
        found = endpoint(server.url, key=KEY).ask_json(
            "What is seen?", WORDS, [Image.new("RGB", (900, 300), "red")]
        )
    assert found == {"words": ["fog", "night"]}
    asked = server.asked[0]
    assert asked["model"] == "some-model" and asked["response_format"]["json_schema"]["schema"] == WORDS
    text, picture = asked["messages"][0]["content"]
    assert text["text"].startswith("What is seen?")
    data = base64.b64decode(picture["image_url"]["url"].partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (512, 171)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("I see a road sign in the fog.", "not JSON"),
        ('{"terms": []}', "lacks 'words'"),
        (json.dumps({"words": ["fog"] * 10_000}), "10,000 entries"),
        (json.dumps({"words": ["x" * 5_000]}), "5,000 letters"),
        ('{"words": [1]}', "type string"),
        ("[" * 5_000, "not JSON"),
    ],
)
def test_what_does_not_fit_is_asked_for_once_more_and_then_refused(said: str, why: str) -> None:
    with speaking(lambda asked, n: said) as server, pytest.raises(EndpointError, match=why):
        endpoint(server.url).ask_json("What is seen?", WORDS)
    assert len(server.asked) == 2 and "cannot be used" in server.asked[1]["messages"][-1]["content"]


def test_a_second_better_answer_and_one_in_a_fence_are_taken() -> None:
    answers = ["Sure! Here it is.", '```json\n{"words": ["rain"]}\n```']
    with speaking(lambda asked, n: answers[n - 1]) as server:
        assert endpoint(server.url).ask_json("What is seen?", WORDS) == {"words": ["rain"]}


def test_an_endpoint_without_schemas_is_asked_in_plain_words() -> None:
    def answer(asked: dict[str, Any], n: int) -> Any:
        return (400, b'{"error": "response_format?"}') if "response_format" in asked else '{"words": []}'

    with speaking(answer) as server:
        assert endpoint(server.url).ask_json("What is seen?", WORDS) == {"words": []}


def test_a_wrong_key_is_told_without_telling_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        speaking(lambda asked, n: "{}", "another") as server,
        pytest.raises(EndpointError, match="refuses the key") as told,
    ):
        asked = endpoint(server.url, key=KEY)
        asked.ask_json("What is seen?", WORDS)
    assert len(server.asked) == 1, "a wrong key does not get better by asking again"
    assert KEY not in str(told.value) + repr(asked) + caplog.text


def test_a_key_that_an_error_repeats_is_taken_out() -> None:
    answer = (404, json.dumps({"error": {"message": f"no model for {KEY}"}}).encode())
    with (
        speaking(lambda asked, n: answer) as server,
        pytest.raises(EndpointError, match="no model for") as told,
    ):
        endpoint(server.url, key=KEY).ask_json("What is seen?", WORDS)
    assert KEY not in str(told.value)


def test_a_key_in_an_answer_that_cannot_be_used_is_taken_out() -> None:
    with (
        speaking(lambda asked, n: f"{KEY} is the key that I was given", KEY) as server,
        pytest.raises(EndpointError, match="not JSON and begins with") as told,
    ):
        endpoint(server.url, key=KEY).ask_json("What is seen?", WORDS)
    assert KEY not in str(told.value)
    assert KEY not in server.asked[1]["messages"][-1]["content"]


def test_silence_ends_and_a_busy_endpoint_is_asked_again() -> None:
    with speaking(lambda asked, n: None) as server:
        with pytest.raises(EndpointError, match="did not answer within"):
            endpoint(server.url, timeout=0.2).ask_json("What is seen?", WORDS)
        end = time.monotonic() + 60
        while len(server.asked) < 2 and time.monotonic() < end:  # what was sent is read, if later
            time.sleep(0.01)
        assert len(server.asked) == 2
    with speaking(lambda asked, n: (503, b"") if n == 1 else '{"words": []}') as server:
        assert endpoint(server.url).ask_json("What is seen?", WORDS) == {"words": []}
    with pytest.raises(EndpointError, match="cannot be reached"):
        endpoint(server.url).ask_json("What is seen?", WORDS)


def test_an_endless_answer_is_cut() -> None:
    with (
        speaking(lambda asked, n: (200, b"x" * 60_000)) as server,
        pytest.raises(EndpointError, match="more than 50,000"),
    ):
        endpoint(server.url, most_bytes=50_000).ask_json("What is seen?", WORDS)


def test_something_else_that_answers_is_no_endpoint() -> None:
    with (
        speaking(lambda asked, n: (200, b"<html>")) as server,
        pytest.raises(EndpointError, match="OpenAI protocol"),
    ):
        endpoint(server.url).ask_json("What is seen?", WORDS)


def test_waiting_ends_on_request() -> None:
    token = CancelToken()
    threading.Timer(0.2, token.cancel).start()
    with speaking(lambda asked, n: (503, b"")) as server, pytest.raises(Cancelled):
        endpoint(server.url, pause=20).ask_json("What is seen?", WORDS, cancel=token)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("ftp://x/v1", ""),
        ("http://[bad/v1", ""),
        ("http://127.0.0.1:abc/v1", ""),
        ("http://127.0.0.1:99999/v1", ""),
        ("", ""),
        ("https://me:pw@x/v1", ""),
        ("https://x/v1?key=a", ""),
        ("http://example.org/v1", KEY),
    ],
)
def test_addresses_that_would_leak_or_cannot_be_are_refused(url: str, key: str) -> None:
    with pytest.raises(InputError) as told:
        Endpoint(url, "m", key)
    assert "pw" not in str(told.value) and KEY not in str(told.value)


def test_the_environment_names_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LTG_LLM_BASE_URL", raising=False)
    assert Endpoint.from_environment() is None
    monkeypatch.setenv("LTG_LLM_BASE_URL", "https://host/v1")
    monkeypatch.setenv("LTG_LLM_API_KEY", KEY)
    monkeypatch.delenv("LTG_LLM_MODEL", raising=False)
    with pytest.raises(InputError, match="LTG_LLM_MODEL"):
        Endpoint.from_environment()
    monkeypatch.setenv("LTG_LLM_MODEL", "m")
    found = Endpoint.from_environment()
    assert found is not None and found.host == "host" and KEY not in repr(found)
