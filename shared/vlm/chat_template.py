"""A checkpoint's own chat template, and how many tokens a prompt has, without loading the checkpoint.

Input: chat messages. Output: the prompt text that vLLM and the trained model get, pictures as the template's
placeholder. Templates are rendered with Jinja and tokens are counted with `tokenizers`, from the checkpoint's files:
importing transformers (and torch with it) takes ten seconds and brings nothing here.
Not covered: what is asked (`shared/prompts`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from shared.errors import InfiMmrError
from shared.hub_download import spoken_name


def image_tokens(height: int, width: int, processor: Mapping[str, Any]) -> int:
    """Tokens that Qwen's image processors make of a picture: the arithmetic of transformers' `smart_resize`.

    Both sides are rounded to multiples of patch x merge pixels (a side below half of one to 0); the area is brought
    between the processor's bounds.
    """
    factor = int(processor.get("patch_size", 14)) * int(processor.get("merge_size", 2))
    size = processor.get("size") or {}
    least = processor.get("min_pixels") or size.get("shortest_edge") or 56 * 56
    most = processor.get("max_pixels") or size.get("longest_edge") or 28 * 28 * 1280
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    if rows * columns > most:
        shrink = math.sqrt(height * width / most)
        rows, columns = (max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))
    elif rows * columns < least:
        grow = math.sqrt(least / (height * width))
        rows, columns = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return (rows // factor) * (columns // factor)


def token_numbers(processor: Mapping[str, Any]) -> int:
    """Numbers in a picture token: merge x merge patches of three colours, some frames and patch x patch pixels."""
    side = int(processor.get("patch_size", 14)) * int(processor.get("merge_size", 2))
    return 3 * int(processor.get("temporal_patch_size", 2)) * side * side


@dataclass(frozen=True)
class Sent:
    """One prompt as it is sent, for people and `--json`: pictures are sizes.

    Attributes:
        step: Judging step or phase that asks.
        model: Hub id, folder name or `tiny-vl`.
        system: System message; empty for none.
        user: The user's words; `<image>` where a picture stands.
        images: `sha256`, `width`, `height` of each picture, and its `tokens` where the processor is at hand.
        text: With the chat template applied; None where the template is not at hand.
        tokens: Tokens of the whole prompt, pictures included; None likewise.
        note: Why there is no text, or another sentence for people.
        details: Values that only this step has, such as `image_type`.
    """

    step: str
    model: str
    system: str
    user: str
    images: list[dict[str, Any]]
    text: str | None = None
    tokens: int | None = None
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """JSON values of `data-engine prompts` and `trainer prompts`."""
        own = {"step": self.step, "model": self.model, "system": self.system, "user": self.user, "images": self.images}
        return {**own, "text": self.text, "tokens": self.tokens, "note": self.note, **self.details}


def with_template(sent: Sent, text: Callable[[PromptRenderer], str], renderer: PromptRenderer | None) -> Sent:
    """`sent` with what `text` makes of it, its tokens, and each picture's."""
    if renderer is None:
        return sent
    sizes = [(image["height"], image["width"]) for image in sent.images]
    if sizes and not renderer.counts_pictures:
        note = " ".join([sent.note, f"How many tokens {sent.model} makes of an image is not known here."]).strip()
        return replace(sent, text=text(renderer), note=note)
    images = [
        {**image, "tokens": renderer.picture_tokens(size)} for image, size in zip(sent.images, sizes, strict=True)
    ]
    made = text(renderer)
    return replace(sent, images=images, text=made, tokens=renderer.tokens(made, sizes))


def say_prompts(prompts: Sequence[Mapping[str, Any]], say: Callable[[str], None]) -> None:
    """Show prompts to people; `say` takes a line."""
    for prompt in prompts:
        kind = "".join(f", {prompt[name]}" for name in ("prompt", "image_type") if prompt.get(name))
        count = f", {prompt['tokens']} tokens" if prompt["tokens"] is not None else ""
        say(f"--- {prompt['step']}: {prompt['model']}{kind}{count}")
        for number, image in enumerate(prompt["images"], start=1):
            tokens = f", {image['tokens']} tokens" if "tokens" in image else ""
            say(f"[image {number}: {image['width']} x {image['height']} pixels{tokens}]")
        if prompt["text"] is not None:
            say(prompt["text"])
        else:
            say(f"[system]\n{prompt['system']}\n[user]\n{prompt['user']}")
        if prompt["note"]:
            say(f"note: {prompt['note']}")


_THINKS = re.compile(r"<think>\s*\Z")


def opened_thinking(prompt: str) -> str:
    """`<think>` with the blank behind it where a prompt's end opens it, as Qwen3.5's template does; else empty.

    A model then goes on inside: what it writes is whole with this before it.
    """
    found = _THINKS.search(prompt[-32:])
    return found[0] if found else ""


class PromptRenderer:
    """Chat template, tokenizer and picture sizes of one checkpoint folder."""

    def __init__(self, checkpoint: Path, limits: Mapping[str, int] | None = None) -> None:
        """Read the checkpoint's small files; `limits` override the processor's `min_pixels` and `max_pixels`.

        Raises:
            InfiMmrError: it has no tokenizer.json or no chat template, or one of its files cannot be read.
        """
        self._folder = checkpoint
        self._name = f"checkpoint {spoken_name(checkpoint)}"
        self._config = self._json("tokenizer_config.json")
        own = self._json("preprocessor_config.json") or self._json("processor_config.json").get("image_processor", {})
        self.processor = {**own, **(limits or {})}
        """Values of the image processor."""
        if not (checkpoint / "tokenizer.json").is_file():
            raise InfiMmrError(f"{self._name} has no tokenizer.json", "Name a complete checkpoint")
        text = self._template_text()
        if not text:
            raise InfiMmrError(f"{self._name} has no chat template", "Name an instruct checkpoint")
        import jinja2

        try:
            self._template = _environment().from_string(text)
        except jinja2.exceptions.TemplateError as error:
            message = f"the chat template of {self._name} cannot be read: {error}"
            raise InfiMmrError(message, "Fetch its files again") from error

    def _json(self, name: str) -> dict[str, Any]:
        path = self._folder / name
        try:
            content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except (OSError, ValueError) as error:
            message = f"{name} of {self._name} cannot be read ({type(error).__name__})"
            raise InfiMmrError(message, "Fetch its files again") from error
        return content if isinstance(content, dict) else {}

    def _template_text(self) -> str:
        file = self._folder / "chat_template.jinja"
        if file.is_file():
            return file.read_text(encoding="utf-8")
        found = self._json("chat_template.json").get("chat_template") or self._config.get("chat_template") or ""
        if isinstance(found, list):  # several named templates
            found = next((entry["template"] for entry in found if entry.get("name") == "default"), "")
        return str(found)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self._folder / "tokenizer.json"))

    @cached_property
    def _special_tokens(self) -> tuple[str, ...]:
        added = self._json("tokenizer.json").get("added_tokens") or []
        return tuple(token["content"] for token in added if token.get("special"))

    @cached_property
    def _named_tokens(self) -> dict[str, Any]:
        """The tokenizer's special tokens that have a role, such as `eos_token`."""
        named = {name: token for name, token in self._config.items() if name.endswith("_token") and token}
        return {name: token["content"] if isinstance(token, dict) else token for name, token in named.items()}

    @property
    def end_of_turn(self) -> str:
        """The token that ends an answer: the tokenizer's `eos_token`; empty where it names none."""
        return str(self._named_tokens.get("eos_token", ""))

    def special_token(self, conversation: list[dict[str, Any]]) -> str:
        """First of the tokenizer's special tokens that the user's words spell; empty where there is none.

        The tokenizer reads such a token wherever it stands. Qwen's spellings are made harmless in `messages`; here are
        those of any other checkpoint (`</s>`, `<start_of_turn>`).
        """
        parts = conversation[-1]["content"]
        words = [parts] if isinstance(parts, str) else [part["text"] for part in parts if part["type"] == "text"]
        return next((token for token in self._special_tokens if any(token in text for text in words)), "")

    def text(self, conversation: list[dict[str, Any]]) -> str:
        """Prompt text, ending where the answer begins."""
        values = {"messages": conversation, "add_generation_prompt": True, **self._named_tokens}
        return str(self._template.render(values))

    def tokens(self, text: str, sizes: Sequence[tuple[int, int]] = ()) -> int:
        """Tokens of a prompt whose pictures have these (height, width); each placeholder counts as its picture."""
        count = len(self._tokenizer.encode(text, add_special_tokens=False).ids)
        return count - len(sizes) + sum(self.picture_tokens(size) for size in sizes)

    @property
    def counts_pictures(self) -> bool:
        """Whether pictures become tokens by Qwen's arithmetic, as the processor's own words tell."""
        return not self.processor or "merge_size" in self.processor

    def picture_tokens(self, size: tuple[int, int]) -> int:
        """Tokens of a picture of this (height, width)."""
        return image_tokens(*size, self.processor)


def _environment() -> Any:
    """Jinja environment with the settings and names that transformers gives to chat templates."""
    import jinja2
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    environment.globals["raise_exception"] = refuse
    return environment
