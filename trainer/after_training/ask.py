"""One question to a checkpoint, in the words in which `trainer evaluate` would put it.

Input: checkpoint, question, picture files, `Settings`. Output: `Reply` per answer, its pieces heard while they are
written. Greedy unless samples are drawn; sample k has seed + k, as in evaluation. Nothing is stored.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.answers import final_answer, split_thinking
from shared.benchmark import Item
from shared.command import Document
from shared.errors import InfiMmrError, UsageError
from shared.image_tags import IMAGE_TAG
from shared.placeholders import harmless_question
from shared.progress import open_progress
from trainer.after_training.places import meant_checkpoint
from trainer.evaluation.asking import Settings, engine_spec, samplings

if TYPE_CHECKING:
    from shared.vlm.spec import Answer, EngineSpec

Heard = Callable[[int, str], None]
_OPEN, _CLOSE = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `answer` is what grading reads in `text` (None: it states none), `thinking` what <think> holds."""

    thinking: str
    answer: str | None
    text: str
    tokens: int


def ask(
    checkpoint: str,
    question: str,
    pictures: Sequence[Path] = (),
    *,
    settings: Settings | None = None,
    samples: int | None = None,
    heard: Heard | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Reply]:
    """Replies of `checkpoint` to one question: one greedy, or `samples` drawn ones.

    Raises:
        UsageError: an empty question, or one with more `<image>` tags than pictures.
        InfiMmrError: a picture is missing or none, the checkpoint is incomplete or reads no pictures, or the engine
            does not start or answer.

    """
    settings = settings or Settings.model_validate({})
    if not question.strip():
        raise UsageError("the question is empty", 'For example trainer ask tiny-vl "What is 2 + 3?"')
    if question.count(IMAGE_TAG) > len(pictures):
        message = f"the question has {question.count(IMAGE_TAG)} {IMAGE_TAG} tags, but {len(pictures)} images came"
        raise UsageError(message, "Name each with --image FILE; without a tag images stand before the question")
    checkpoint = meant_checkpoint(checkpoint)
    item = Item("ask", "", question, "", "text", images=tuple(read_picture(path) for path in pictures))
    spec, reads_images = engine_spec(checkpoint, [item], settings)
    if item.images and not reads_images:
        raise InfiMmrError(f"checkpoint {Path(checkpoint).name} reads no images", "Ask without --image")
    answers = _answers(spec, item, settings, samples, heard or (lambda _number, _piece: None), tell)
    for answer in answers:
        if answer.refused:
            raise InfiMmrError(f"{spec.model} did not answer: {answer.refused}", "A shorter question may help")
    return [Reply(split_thinking(a.text)[0].strip(), final_answer(a.text).answer, a.text, a.tokens) for a in answers]


def read_picture(path: Path) -> bytes:
    """Bytes of a picture file.

    Raises:
        InfiMmrError: no such file, or its bytes are no usable picture.

    """
    from shared.images import ImageRefused, inspect_image

    if path.exists() and not path.is_file():  # a device or a pipe may never end
        raise InfiMmrError(f"image {path} is no file", "Name a PNG, JPEG or WebP")
    if re.match(r"[a-z]+:/", str(path)):
        raise InfiMmrError(f"image {path} is an address, and nothing is fetched here", "Save it, and name the file")
    try:
        data = path.read_bytes()
        inspect_image(data)
    except OSError as error:
        raise InfiMmrError(f"image {path} cannot be read: {error.strerror or error}", "Name a file") from error
    except ImageRefused as error:
        raise InfiMmrError(f"image {path} cannot be used: {error.message}", "Name a PNG, JPEG or WebP") from error
    return data


def _answers(  # noqa: PLR0917 - what `ask` resolved, once
    spec: EngineSpec,
    item: Item,
    settings: Settings,
    samples: int | None,
    heard: Heard,
    tell: Callable[[str], None],
) -> list[Answer]:
    from shared.prompts import load_prompt, render
    from shared.vlm import build_conversation, open_engine
    from shared.vlm.checkpoint import prompt_set_for
    from shared.vlm.engine import VllmEngine

    prompts = settings.prompts or prompt_set_for(spec.model)
    system = load_prompt(settings.system_prompt, prompts).text
    text = render("question", prompts, question=harmless_question(item.question))
    conversation = build_conversation(system, text, item.images)
    greedy, *drawn = samplings(settings, spec, samples or 0)
    sampled = [greedy] if samples is None else drawn
    tell(f"asking {spec.endpoint}" if spec.endpoint else f"starting {Path(spec.model).name}")
    with open_engine(spec) as engine:
        if isinstance(engine, VllmEngine):
            return engine.stream(conversation, sampled, heard)
        answers = engine.chat([conversation] * len(sampled), sampled)
    for number, answer in enumerate(answers):
        heard(number, answer.text)
    return answers


class Screen:
    """Writes answers as they come: thinking on stderr (dim on a terminal), the answer on stdout, samples in order."""

    def __init__(self, samples: int) -> None:
        self._texts = [""] * samples
        self._written = [(0, 0)] * samples
        self._turn = 0
        self._dim = ("\x1b[2m", "\x1b[0m") if sys.stderr.isatty() else ("", "")

    def heard(self, number: int, piece: str) -> None:
        """Take a piece of sample `number`; it is written at once where the samples before it are finished."""
        self._texts[number] += piece
        if number == self._turn:
            self._write(number, whole=False)

    def finish(self, replies: Sequence[Reply]) -> None:
        """Write what is left, sample by sample, and what grading reads as the answer."""
        for number, reply in enumerate(replies):
            self._turn = number
            self._write(number, whole=True)
            sys.stdout.write("\n")
            sys.stdout.flush()
            told = "no answer found" if reply.answer is None else f"answer: {reply.answer}"
            sys.stderr.write(f"{self._dim[0]}{told} ({reply.tokens} tokens){self._dim[1]}\n")

    def _write(self, number: int, *, whole: bool) -> None:
        text = self._texts[number] if whole else _settled(self._texts[number])
        thought, said = self._written[number]
        thinking, rest = ("", text) if said and not thought else split_thinking(text)
        rest = rest.lstrip()
        if new := thinking[thought:]:
            sys.stderr.write(f"{self._dim[0]}{_plain(new)}{self._dim[1]}")
            sys.stderr.flush()
        if new := rest[said:]:
            if thinking and not said:
                sys.stderr.write("\n")
                sys.stderr.flush()
            sys.stdout.write(_plain(new))
            sys.stdout.flush()
        self._written[number] = len(thinking), len(rest)


def _settled(text: str) -> str:
    """`text` without an end that may yet become a tag."""
    longest = max((n for tag in (_OPEN, _CLOSE) for n in range(1, len(tag)) if text.endswith(tag[:n])), default=0)
    return text[: len(text) - longest]


def _plain(text: str) -> str:
    """Without control characters: a model's words move no cursor."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "�" for sign in text)


def ask_command(
    checkpoint: str,
    question: str,
    pictures: Sequence[Path],
    options: dict[str, Any],
    samples: int | None,
    *,
    as_json: bool,
) -> Document:
    """`trainer ask`: the JSON of one reply, or a list of them where samples were asked for."""
    from shared.config import build_model

    settings = build_model(options, Settings, what="ask", file="options")
    if as_json:
        replies = ask(checkpoint, question, pictures, settings=settings, samples=samples)
    else:
        screen = Screen(samples or 1)
        with ExitStack() as waiting:  # its clock ends before the first word is written
            progress = waiting.enter_context(open_progress())

            def heard(number: int, piece: str) -> None:
                waiting.close()
                screen.heard(number, piece)

            say = progress.stage
            replies = ask(checkpoint, question, pictures, settings=settings, samples=samples, heard=heard, tell=say)
        screen.finish(replies)
    documents = [asdict(reply) for reply in replies]
    return documents[0] if samples is None else documents
