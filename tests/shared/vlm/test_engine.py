"""vLLM in process with the bundled checkpoint on this machine: repeatable, restricted, refusing row by row."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image

from shared.schema import IMAGE_TYPES
from shared.vlm import EngineSpec, Sampling, build_conversation, open_engine
from shared.vlm.failures import EngineDiedError
from shared.vlm.room import engine_starts
from shared.vlm.surroundings import log_path

pytestmark = pytest.mark.slow

SPEC = EngineSpec(model="tiny-vl", dtype="float32", max_model_len=1024, batch_size=32)
GREEDY = Sampling(max_tokens=40)


def picture(seed: int, size: tuple[int, int] = (112, 112)) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 255, (7, 7, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def engine():
    with open_engine(SPEC) as opened:
        yield opened


@pytest.fixture(scope="module")
def asks():
    sizes = [(112, 112), (300, 200), (60, 500), (20, 20)]
    pictures = [picture(seed, sizes[seed % 4]) for seed in range(48)]
    return [
        build_conversation("Describe this chart." * (n % 3), "<image>", [image]) for n, image in enumerate(pictures)
    ]


def test_greedy_answers_do_not_depend_on_the_batch_or_the_order(engine, asks) -> None:
    together = engine.chat(asks, GREEDY)
    assert engine.chat(asks, GREEDY) == together
    assert engine.chat(asks[::-1], GREEDY)[::-1] == together
    assert [engine.chat([one], GREEDY)[0] for one in asks] == together
    order = list(range(len(asks)))
    random.Random(0).shuffle(order)
    parts = [order[:5], order[5:30], order[30:]]
    mixed = {
        n: answer
        for part in parts
        for n, answer in zip(part, engine.chat([asks[n] for n in part], GREEDY), strict=True)
    }
    assert [mixed[n] for n in range(len(asks))] == together


def test_typing_answers_with_one_of_the_types_in_any_batch(engine, asks) -> None:
    choice = Sampling(max_tokens=8, choice=IMAGE_TYPES)
    together = engine.chat(asks, choice)
    assert {answer.text for answer in together} <= set(IMAGE_TYPES)
    assert [engine.chat([one], choice)[0].text for one in asks[:12]] == [answer.text for answer in together[:12]]


def test_a_broken_picture_and_an_overlong_prompt_are_refused_alone(engine, asks) -> None:
    broken = build_conversation("", "<image>", [b"no picture"])
    overlong = build_conversation("", "word " * 2000)
    answers = engine.chat([asks[0], broken, asks[1], overlong], GREEDY)
    assert "not_an_image" in answers[1].refused
    assert "1024" in answers[3].refused
    assert [answers[0], answers[2]] == engine.chat(asks[:2], GREEDY)


def test_text_alone_and_several_asks_with_their_own_sampling(engine) -> None:
    conversation = build_conversation("", "What is 2 + 3?")
    short, long = engine.chat([conversation] * 2, [Sampling(max_tokens=2), Sampling(max_tokens=6)])
    assert long.text.startswith(short.text)
    assert short.tokens <= 2
    assert long.tokens <= 6


def test_a_seed_makes_a_drawn_answer_repeatable(engine, asks) -> None:
    drawn = Sampling(max_tokens=20, temperature=1.0, seed=7)
    assert engine.chat(asks[:4], drawn) == engine.chat(asks[:4], drawn)
    other = engine.chat(asks[:4], Sampling(max_tokens=20, temperature=1.0, seed=8))
    assert other != engine.chat(asks[:4], drawn)


def test_drawn_answers_about_pictures_arrive_when_prompts_exceed_one_step(engine, asks) -> None:
    # 60 prompts of about 300 tokens: vLLM takes 4,096 a step and would cut one in two, which seeds do not survive
    long = [
        [*ask[:-1], {**ask[-1], "content": [*ask[-1]["content"], {"type": "text", "text": " 7" * 240}]}] for ask in asks
    ]
    drawn = [Sampling(temperature=1.0, seed=n % 8, max_tokens=12) for n in range(len(long))]
    answers = engine.chat(long, drawn)
    assert all(answer.tokens for answer in answers), [answer.refused for answer in answers]
    assert engine.chat(long, drawn) == answers


def test_a_step_that_fails_in_the_middle_asks_for_a_new_engine(engine, asks, monkeypatch) -> None:
    def step(*_: object, **__: object) -> None:
        raise RuntimeError("the kernel is gone")

    with monkeypatch.context() as patch:
        patch.setattr(engine._llm.llm_engine, "step", step)
        with pytest.raises(EngineDiedError, match="the kernel is gone"):
            engine.chat(asks[:4], GREEDY)
    left = engine._llm.llm_engine
    left.abort_request(list(left.output_processor.request_states), internal=True)
    assert len(engine.chat(asks[:4], GREEDY)) == 4


def test_a_banned_token_is_never_drawn(engine) -> None:
    banned = Sampling(max_tokens=64, temperature=2.0, seed=1, banned_tokens=("<|endoftext|>", "<|im_end|>"))
    answers = engine.chat([build_conversation("", f"say {n}") for n in range(16)], banned)
    assert [(answer.finish_reason, answer.tokens, answer.refused) for answer in answers] == [("length", 64, "")] * 16


def test_the_engine_keeps_to_its_log(engine, asks, capfd) -> None:
    engine.chat(asks[:4], GREEDY)
    assert capfd.readouterr() == ("", "")


def test_embedding_beside_the_writer_is_quiet_and_counts_on_one_thread(engine, capfd) -> None:
    import torch

    with open_engine(SPEC.model_copy(update={"runner": "pooling"})) as beside:
        assert beside.embed([([], "one and one")]).shape[0] == 1
    assert "set_num_threads" not in capfd.readouterr().err
    assert torch.get_num_threads() == 1


def test_the_same_checkpoint_is_started_once(engine) -> None:
    before = engine_starts()
    with open_engine(SPEC.model_copy(update={"batch_size": 4, "max_pixels": 12544})) as again:
        assert again is engine
    assert engine_starts() == before


def test_an_engine_does_not_repeat_one_warning_with_every_answer(engine, asks) -> None:
    engine.chat(asks, GREEDY)
    assert "torch.set_num_threads" not in log_path().read_text()
