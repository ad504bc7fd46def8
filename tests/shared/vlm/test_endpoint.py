"""The client of OpenAI-compatible servers, against a stand-in on loopback."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import numpy as np
import pytest

from shared.vlm import EngineSpec, Sampling, build_conversation
from shared.vlm.endpoint import EndpointEngine
from shared.vlm.failures import EndpointError

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
GREEDY = Sampling(max_tokens=8)


def spec(url: str, **more) -> EngineSpec:
    return EngineSpec(model="standin", endpoint=url, timeout_seconds=5, attempts=3, **more)


@pytest.fixture
def opened() -> Iterator[Callable[[EngineSpec], EndpointEngine]]:
    """Open engines that are closed when the test ends."""
    with ExitStack() as stack:
        yield lambda one: stack.enter_context(closing(EndpointEngine(one)))


def asks(count: int) -> list:
    return [build_conversation("", f"question {number}", [PNG]) for number in range(count)]


def test_answers_come_in_order_with_their_tokens(standin, opened) -> None:
    engine = opened(spec(standin.url))
    answers = engine.chat(asks(20), GREEDY)
    assert [answer.text for answer in answers] == [engine.chat([one], GREEDY)[0].text for one in asks(20)]
    assert answers[0].tokens == 3
    assert answers[0].prompt_tokens > 0


def test_half_a_character_in_an_answer_can_be_stored(standin, opened) -> None:
    standin.answers["question 1"] = "so \ud835 then\0"
    answers = opened(spec(standin.url)).chat(asks(2), GREEDY)
    assert answers[1].text == "so \ufffd then"


def test_no_more_requests_are_in_flight_than_asked_for(new_standin, opened) -> None:
    server = new_standin(seconds=0.02)
    opened(spec(server.url, concurrency=4)).chat(asks(40), GREEDY)
    assert 1 < server.most_at_once <= 4


def test_pictures_travel_as_data_urls_of_their_own_kind(standin, opened) -> None:
    opened(spec(standin.url)).chat([build_conversation("look", "here <image> it is", [PNG])], GREEDY)
    parts = standin.requests[0]["messages"][1]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url", "text"]
    assert parts[1]["image_url"]["url"].startswith("data:image/png;base64,")


def test_only_what_was_asked_for_goes_beyond_the_common_fields(standin, opened) -> None:
    engine = opened(spec(standin.url, max_pixels=1000))
    engine.chat(asks(1), Sampling(max_tokens=8, choice=("chart", "table"), top_k=10, seed=3))
    body = standin.requests[0]
    assert body["structured_outputs"] == {"choice": ["chart", "table"]}
    assert (body["top_k"], body["seed"]) == (10, 3)
    assert body["mm_processor_kwargs"] == {"max_pixels": 1000}
    plain = opened(spec(standin.url))
    plain.chat(asks(1), GREEDY)
    assert set(standin.requests[1]) == {"model", "messages", "max_tokens", "temperature", "top_p"}


def test_an_answer_that_is_not_among_the_choices_is_refused_not_taken(standin, opened) -> None:
    standin.answers["question 0"] = "a nice picture"
    answers = opened(spec(standin.url)).chat(asks(2), Sampling(max_tokens=8, choice=("chart", "table")))
    assert "not one of the allowed" in answers[0].refused
    assert answers[1].text in {"chart", "table"}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_tried_again(standin, status: int, opened) -> None:
    standin.statuses["question 1"] = [status, status]
    answers = opened(spec(standin.url)).chat(asks(3), GREEDY)
    assert all(answer.text for answer in answers)
    assert len(standin.requests) == 5


def test_a_failure_that_stays_names_the_endpoint_and_the_next_step(standin, opened) -> None:
    standin.statuses["question"] = [503] * 50
    with pytest.raises(EndpointError, match=r"failed 3 times \(status 503\).*finished answers are kept"):
        opened(spec(standin.url)).chat(asks(1), GREEDY)


def test_a_row_that_the_server_refuses_is_refused_alone(standin, opened) -> None:
    standin.statuses["question 1"] = [400]
    answers = opened(spec(standin.url)).chat(asks(3), GREEDY)
    assert [bool(answer.refused) for answer in answers] == [False, True, False]
    assert "status 400" in answers[1].refused


def test_a_slow_answer_ends_at_the_time_limit(new_standin, opened) -> None:
    server = new_standin(seconds=1.0)
    slow = EngineSpec(model="standin", endpoint=server.url, timeout_seconds=0.1, attempts=1)
    with pytest.raises(EndpointError, match=r"no answer within 0\.1 s"):
        opened(slow).chat(asks(1), GREEDY)


def test_an_endpoint_that_is_down_is_one_clear_line(opened) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1.*ConnectError.*Start the server"):
        opened(spec(url)).chat(asks(1), GREEDY)


def test_the_key_comes_from_the_environment_and_never_into_an_error(new_standin, monkeypatch, opened) -> None:
    server = new_standin(key="s3cret-key")
    monkeypatch.setenv("INFI_MMR_API_KEY", "s3cret-key")
    assert opened(spec(server.url)).chat(asks(1), GREEDY)[0].text
    monkeypatch.setenv("INFI_MMR_API_KEY", "wrong-key")
    with pytest.raises(EndpointError, match="401.*key in INFI_MMR_API_KEY") as caught:  # noqa: RUF043 - dots are any
        opened(spec(server.url)).chat(asks(1), GREEDY)
    assert "wrong-key" not in str(caught.value)


def test_a_password_inside_the_address_is_not_shown(standin, opened) -> None:
    url = standin.url.replace("http://", "http://me:s3cret@").replace("/v1", "/nowhere/v1")
    standin.statuses["question"] = [404]
    with pytest.raises(EndpointError) as caught:
        opened(spec(url)).chat(asks(1), GREEDY)
    assert "s3cret" not in str(caught.value)


def test_an_address_without_its_v1_is_told_how_most_end(standin, opened) -> None:
    standin.statuses["question"] = [404, 404]
    for url, told in ((standin.url.removesuffix("/v1"), True), (standin.url, False)):
        with pytest.raises(EndpointError) as caught:
            opened(spec(url)).chat(asks(1), GREEDY)
        assert ("most end in /v1" in str(caught.value)) is told


def test_an_unknown_model_concerns_every_ask(standin, opened) -> None:
    wrong = EngineSpec(model="other", endpoint=standin.url, attempts=1)
    with pytest.raises(EndpointError, match="404 for other"):
        opened(wrong).chat(asks(1), GREEDY)


def test_an_address_without_http_is_refused_at_once(opened) -> None:
    with pytest.raises(EndpointError, match="not an http address"):
        opened(EngineSpec(model="m", endpoint="host:8000"))


def test_embeddings_are_normalised_and_pooled_after_the_template_end(standin, opened) -> None:
    vectors = opened(spec(standin.url, runner="pooling")).embed([([PNG], "a <image> b"), ([], "words")])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)
    body = next(body for body in standin.requests if "a b" in str(body))
    assert body["continue_final_message"] is True
    assert body["messages"][-1] == {"role": "assistant", "content": "<|endoftext|>"}
