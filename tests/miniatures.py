"""Random-weight checkpoints of each family of vision-language models, small enough for two cores, written offline.

Each folder has the files that the family publishes: its configuration class, its processor files and pixel limits, a
chat template of its form, its weights' names, tied or not. Vocabulary and token ids are tiny-vl's, so that no number of
a published checkpoint fits by chance.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.vlm.checkpoint import BUNDLED_FOLDER

HIDDEN = 128
SPREAD = 0.1
"""Of the random weights: wide enough that a picture or a pushed weight shows in what is sampled."""
TOKENS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
QWEN2_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content or 'image_url' in "
    "content %}{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}Picture {{ image_count.value }}"
    ": {% endif %}<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}"
    "{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen2-VL and Qwen2.5-VL publish it, less videos: a default system prompt."""
QWEN3_TEMPLATE = (
    "{%- macro render(content) -%}{%- if content is string -%}{{- content -}}{%- else -%}"
    "{%- for item in content -%}{%- if item.type == 'image' or 'image' in item or 'image_url' in item -%}"
    "<|vision_start|><|image_pad|><|vision_end|>{%- elif 'text' in item -%}{{- item.text -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}{%- endmacro -%}"
    "{%- if not messages -%}{{- raise_exception('No messages provided.') -}}{%- endif -%}"
    "{%- for message in messages -%}{{- '<|im_start|>' + message.role + '\\n' + render(message.content) | trim + "
    "'<|im_end|>\\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}%THINK%{%- endif -%}"
)
"""As Qwen3-VL and Qwen3.5 publish it, less tools and videos: no system prompt of its own."""
OPENED = (
    "{%- if enable_thinking is defined and enable_thinking is false -%}{{- '<think>\\n\\n</think>\\n\\n' -}}"
    "{%- else -%}{{- '<think>\\n' -}}{%- endif -%}"
)
"""Qwen3.5 and the thinking Qwen3-VL open the answer's reasoning in the prompt."""


@dataclass(frozen=True)
class Family:
    """What a miniature is made of."""

    model_type: str
    text: dict[str, Any]
    vision: dict[str, Any]
    tied: bool
    side: int
    """Pixels of a picture token: patch times merge."""
    limits: tuple[int, int]
    """Least and most pixels of a picture."""
    processor: str
    published: Callable[[tuple[int, int], int], dict[str, Any]]
    """preprocessor_config.json as the family has it."""
    template: str
    template_file: str


def _qwen2_processor(limits: tuple[int, int], side: int) -> dict[str, Any]:
    return {
        "min_pixels": limits[0], "max_pixels": limits[1], "patch_size": side // 2, "temporal_patch_size": 2,
        "merge_size": 2, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "image_processor_type": "Qwen2VLImageProcessor",
    }  # fmt: skip


def _qwen3_processor(limits: tuple[int, int], side: int) -> dict[str, Any]:
    return {
        "size": {"longest_edge": limits[1], "shortest_edge": limits[0]}, "patch_size": side // 2,
        "temporal_patch_size": 2, "merge_size": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "image_processor_type": "Qwen2VLImageProcessorFast",
    }  # fmt: skip


_HEADS = {"hidden_size": HIDDEN, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]}
_QWEN2_TEXT = {**_HEADS, "intermediate_size": 256, "num_hidden_layers": 2, "rope_parameters": _ROPE}
_QWEN3_ROPE = {**_ROPE, "mrope_interleaved": True}
_QWEN3_TEXT = {**_QWEN2_TEXT, "head_dim": 32, "rope_parameters": _QWEN3_ROPE}
_QWEN35_TEXT = {
    **_QWEN3_TEXT,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 1,
    "linear_num_value_heads": 2,
    "rope_parameters": {**_QWEN3_ROPE, "mrope_section": [2, 3, 3], "partial_rotary_factor": 0.25},
}
_QWEN3_VISION = {
    "depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "patch_size": 16,
    "out_hidden_size": HIDDEN, "num_position_embeddings": 64,
}  # fmt: skip

FAMILIES = {
    "qwen2_vl": Family(
        "qwen2_vl",
        _QWEN2_TEXT,
        {"depth": 2, "embed_dim": 64, "hidden_size": HIDDEN, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14},
        True, 28, (4 * 28 * 28, 16 * 28 * 28), "Qwen2VLProcessor", _qwen2_processor, QWEN2_TEMPLATE,
        "chat_template.json",
    ),
    "qwen2_5_vl": Family(
        "qwen2_5_vl",
        _QWEN2_TEXT,
        {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "out_hidden_size": HIDDEN,
         "fullatt_block_indexes": [1], "window_size": 56, "patch_size": 14},
        False, 28, (4 * 28 * 28, 16 * 28 * 28), "Qwen2_5_VLProcessor", _qwen2_processor, QWEN2_TEMPLATE,
        "chat_template.json",
    ),
    "qwen3_vl": Family(
        "qwen3_vl", _QWEN3_TEXT, {**_QWEN3_VISION, "deepstack_visual_indexes": [0]}, True, 32,
        (4 * 32 * 32, 12 * 32 * 32), "Qwen3VLProcessor", _qwen3_processor, QWEN3_TEMPLATE.replace("%THINK%", ""),
        "chat_template.json",
    ),
    "qwen3_5": Family(
        "qwen3_5", _QWEN35_TEXT, _QWEN3_VISION, False, 32, (4 * 32 * 32, 12 * 32 * 32), "Qwen3VLProcessor",
        _qwen3_processor, QWEN3_TEMPLATE.replace("%THINK%", OPENED), "chat_template.jinja",
    ),
}  # fmt: skip


def write_miniature(name: str, folder: Path) -> Path:
    """A checkpoint folder of family `name`."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer, set_seed

    family = FAMILIES[name]
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED_FOLDER)
    ids = {key: tokenizer.convert_tokens_to_ids(token) for key, token in TOKENS.items()}
    end, pad = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    text = {**family.text, "vocab_size": len(tokenizer), "eos_token_id": end, "pad_token_id": pad, "bos_token_id": pad}
    config = AutoConfig.for_model(
        family.model_type,
        text_config={**text, "initializer_range": SPREAD, "tie_word_embeddings": family.tied},
        vision_config={**family.vision, "initializer_range": SPREAD},
        initializer_range=SPREAD,
        tie_word_embeddings=family.tied,
        **ids,
    )
    set_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    if name.startswith("qwen2"):
        _flatten(folder / "config.json")
    if name == "qwen3_5":
        _add_unloaded(folder / "model.safetensors")
    for file in ("tokenizer.json", "generation_config.json"):
        shutil.copyfile(BUNDLED_FOLDER / file, folder / file)
    words = json.loads((BUNDLED_FOLDER / "tokenizer_config.json").read_text())
    _write(folder / "tokenizer_config.json", {**words, "processor_class": family.processor})
    published = {**family.published(family.limits, family.side), "processor_class": family.processor}
    _write(folder / "preprocessor_config.json", published)
    if family.template_file.endswith(".json"):
        _write(folder / family.template_file, {"chat_template": family.template})
    else:
        (folder / family.template_file).write_text(family.template, encoding="utf-8")
    return folder


def _flatten(path: Path) -> None:
    """Text values at the top, as Qwen2-VL and Qwen2.5-VL were published."""
    config = json.loads(path.read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    del text["model_type"]
    scaling = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    _write(path, {**text, **config, "rope_theta": rope["rope_theta"], "rope_scaling": scaling})


def _add_unloaded(path: Path) -> None:
    """Weights of multi-token prediction, which Qwen3.5 publishes and transformers does not load."""
    import torch
    from safetensors.torch import load_file, save_file

    more = {"mtp.fc.weight": torch.zeros(HIDDEN, 2 * HIDDEN, dtype=torch.bfloat16)}
    save_file(load_file(path) | more, path, metadata={"format": "pt"})


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")
