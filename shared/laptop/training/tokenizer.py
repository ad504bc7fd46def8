"""The tokenizer of tiny-vl: byte-level BPE of some 1,300 tokens, digits single, with Qwen's special tokens.

Input: texts of the mini world and the product's prompts. Output: a `Qwen2Tokenizer`. Any text can be encoded, whatever
its language, byte by byte where no merge is known; the words of prompts and of the mini world are single tokens.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from shared.laptop.problems import PICTURE_KINDS, draw
from shared.prompts import prompt, prompt_names

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VOCABULARY = 1280
SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
MARKUP_TOKENS = ("<think>", "</think>", "\\boxed{")

# Qwen2's own splitting rule: words with one character before them, single digits, runs of signs, blanks.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_TEMPLATE = """\
{%- if messages[0].role != 'system' -%}
<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif -%}
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' or part.type == 'image_url' or 'image' in part -%}
<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'video' or 'video' in part -%}
<|vision_start|><|video_pad|><|vision_end|>
{%- else -%}
{{ part.text }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""


def training_texts() -> Iterator[str]:
    """Texts to learn merges from: prompts many times over, problems of every kind with caption and response."""
    for name in prompt_names():
        for _ in range(300):
            yield prompt(name)
    for _ in range(300):
        yield "system\nYou are a helpful assistant.\nuser\nassistant\n"
    for index in range(6000):
        kind = PICTURE_KINDS[index % len(PICTURE_KINDS)].name
        for problem in (draw("train", index, kind=kind), draw("train", index, text_only=True)):
            yield f"{problem.caption}\n{problem.question}\n{problem.response}\n"


def build_tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer, with chat template and special tokens; the same every time."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    # Markup is cut out before learning: its pieces shall not be merged with the words beside it.
    texts = Counter(
        piece
        for text in training_texts()
        for piece in text.replace("<think>", "\n").replace("</think>", "\n").replace("\\boxed{", "\n").split("\n")
    )
    words = sorted({word for text in texts for word in re.findall(r"[A-Za-z]+", text)})
    for word in words:  # every word of the mini world as one token, at the beginning of a text and within
        texts[word] += 25
        texts[f" {word}"] += 25
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = splitter
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL_TOKENS) - len(MARKUP_TOKENS),
        min_frequency=20,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(
        [piece for piece, count in sorted(texts.items()) for _ in range(min(count, 400))], trainer
    )
    learned = json.loads(backend.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        unk_token=None,
        pad_token="<|endoftext|>",  # noqa: S106  # a token of the vocabulary
        eos_token="<|im_end|>",  # noqa: S106  # likewise
        additional_special_tokens=list(SPECIAL_TOKENS),
        model_max_length=8192,
    )
    tokenizer.add_tokens(list(MARKUP_TOKENS))
    tokenizer.chat_template = _TEMPLATE
    return tokenizer
