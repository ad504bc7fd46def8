"""A dataset row as a prompt: messages, the checkpoint's own chat template, and the number of tokens.

Input: question, captions and number of pictures of a row. Output: the prompt text that vLLM and the trained model get,
pictures as the template's placeholder. Templates are rendered with Jinja and tokens are counted with `tokenizers`, from
the checkpoint's files: importing transformers (and torch with it) takes ten seconds and brings nothing here.
Not covered: reading pictures (`training_data.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from shared.errors import InfiMmrError
from shared.placeholders import harmless, harmless_question
from shared.prompts import prompt, render
from shared.vlm.conversation import build_conversation
from trainer.phase import PromptSettings

_PICTURE = b""


def messages(
    settings: PromptSettings, question: str, pictures: int, captions: Sequence[str] = (), *, prompts: str
) -> list[dict[str, Any]]:
    """Chat messages of one row; the same builder as evaluation uses, so that both ask in the same words.

    Args:
        settings: Names of the prompt files.
        question: The question with its `<image>` tags.
        pictures: Number of pictures; those without a tag come first.
        captions: One caption per picture for the caption form; several are numbered. A row without any is asked in
            the plain form.
        prompts: The prompt set that the names belong to.

    """
    fields = {"question": harmless_question(question)}
    if captions:
        said = [harmless(caption) for caption in captions]  # a tag in a caption is no place for a picture
        numbered = [f"({number}) {caption}" for number, caption in enumerate(said, start=1)]
        fields["caption"] = said[0] if len(said) == 1 else " ".join(numbered)
    form = settings.question if captions else settings.question.removesuffix("_with_caption")
    user = render(form, prompts, **fields)
    conversation = build_conversation(prompt(settings.system, prompts), user, [_PICTURE] * pictures)
    for message in conversation:
        if not isinstance(message["content"], list):
            continue
        if pictures:
            message["content"] = [{"type": "image"} if part["type"] == "image" else part for part in message["content"]]
        else:  # templates of text models join strings and refuse parts
            message["content"] = "".join(part["text"] for part in message["content"])
    return conversation


def image_tokens(height: int, width: int, processor: Mapping[str, Any]) -> int:
    """Tokens that Qwen2-VL's image processor makes of a picture: the arithmetic of transformers' `smart_resize`.

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


class PromptRenderer:
    """Chat template, tokenizer and picture sizes of one checkpoint folder."""

    def __init__(self, checkpoint: Path) -> None:
        """Read the checkpoint's small files.

        Raises:
            InfiMmrError: it has no tokenizer.json or no chat template.

        """
        self._folder = checkpoint
        self._config = self._json("tokenizer_config.json")
        self._processor = self._json("preprocessor_config.json") or self._json("processor_config.json").get(
            "image_processor", {}
        )
        if not (checkpoint / "tokenizer.json").is_file():
            raise InfiMmrError(f"checkpoint {checkpoint.name} has no tokenizer.json", "name a complete checkpoint")
        text = self._template_text()
        if not text:
            raise InfiMmrError(f"checkpoint {checkpoint.name} has no chat template", "name an instruct checkpoint")
        self._template = _environment().from_string(text)

    def _json(self, name: str) -> dict[str, Any]:
        path = self._folder / name
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
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
        special = {
            name: token["content"] if isinstance(token, dict) else token
            for name, token in self._config.items()
            if name.endswith("_token") and token
        }
        return str(self._template.render(messages=conversation, add_generation_prompt=True, **special))

    def tokens(self, text: str, sizes: Sequence[tuple[int, int]] = ()) -> int:
        """Tokens of a prompt whose pictures have these (height, width); each placeholder counts as its picture."""
        count = len(self._tokenizer.encode(text, add_special_tokens=False).ids)
        return count - len(sizes) + sum(image_tokens(height, width, self._processor) for height, width in sizes)


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
