"""TRL's GRPOTrainer on a prompt file of ours; run by `trainer_step.py` with the Python of TRL's environment.

Prints one JSON object. Imports nothing of this project: TRL has its own environment. Prompts with pictures (phase mre)
are given as chat messages, because TRL takes pictures in no other form; the processor's template must make the very
text of our prompt of them, or the run ends. TRL 1.16.0 ends at a batch of which some rows have no picture; where some
have one, the rows without are replaced by later ones, and their number is told.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHAT = re.compile(
    r"<\|im_start\|>system\n(?P<system>.*?)<\|im_end\|>\n<\|im_start\|>user\n"
    r"(?P<pictures>(?:<\|vision_start\|><\|image_pad\|><\|vision_end\|>)*)(?P<question>.*?)<\|im_end\|>\n"
    r"<\|im_start\|>assistant\n",
    re.DOTALL,
)


def row(line: dict[str, Any], processor: Any, shown: bool) -> dict[str, Any]:
    """One row for TRL of one line of our prompt file; `shown` says whether the file has pictures."""
    gold = json.loads(line["label"])["gold"]
    if not shown:
        return {"prompt": line["prompt"], "gold": gold}
    parts = CHAT.fullmatch(line["prompt"])
    if parts is None:
        sys.exit(f"no chat of one system and one user turn: {line['prompt'][:200]}")
    roles = [("system", parts["system"]), ("user", parts["question"])]
    pictures = line.get("images") or []
    turns = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in roles]
    turns[1]["content"] = [*({"type": "image"} for _ in pictures), *turns[1]["content"]]
    if processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) != line["prompt"]:
        sys.exit(f"the processor's template makes another prompt: {line['prompt'][:200]}")
    return {
        "prompt": [{"role": role, "content": text} for role, text in roles],
        "images": pictures,
        "gold": gold,
    }


def main() -> None:
    """Train and tell the times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--rollouts", type=int, required=True)
    parser.add_argument("--new-tokens", type=int, required=True)
    parser.add_argument("--batch-prompts", type=int, required=True, help="Prompts in a step.")
    arguments = parser.parse_args()
    started = time.monotonic()
    import torch
    import trl
    from datasets import Dataset, Image, Sequence
    from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    lines = [json.loads(text) for text in Path(arguments.prompts).read_text(encoding="utf-8").splitlines()]
    wanted = arguments.steps * arguments.batch_prompts
    tokenizer = AutoTokenizer.from_pretrained(arguments.checkpoint, padding_side="left")
    processor = AutoProcessor.from_pretrained(arguments.checkpoint, padding_side="left")
    bare = sum(not line.get("images") for line in lines[:wanted])
    shown = bare < wanted
    taken = [line for line in lines if line.get("images") or not shown][:wanted]
    data = Dataset.from_list([row(line, processor, shown) for line in taken])
    if shown:
        data = data.cast_column("images", Sequence(Image()))
    tokens: list[int] = []

    def reward(completions: list[Any], gold: list[str], **_: object) -> list[float]:
        """Format and exact answer: as cheap as a reward can be, so that training is what is measured."""
        texts = [one if isinstance(one, str) else one[-1]["content"] for one in completions]
        tokens.append(sum(len(tokenizer(text)["input_ids"]) for text in texts))
        return [float(f"\\boxed{{{right}}}" in text) for text, right in zip(texts, gold, strict=True)]

    class Clock(TrainerCallback):
        """Times each step."""

        def __init__(self) -> None:
            self.marks: list[float] = []

        def on_step_begin(self, *_: object, **__: object) -> None:
            """Note when a step begins."""
            self.marks.append(time.monotonic())

        def on_train_end(self, *_: object, **__: object) -> None:
            """Note the end of the last step."""
            self.marks.append(time.monotonic())

    clock = Clock()
    rollouts = arguments.batch_prompts * arguments.rollouts
    with tempfile.TemporaryDirectory() as folder:
        settings = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=32,
            gradient_accumulation_steps=rollouts // 32,
            num_generations=arguments.rollouts,
            max_completion_length=arguments.new_tokens,
            max_steps=arguments.steps,
            learning_rate=4e-5,
            beta=0.001,
            epsilon=0.2,
            loss_type="grpo",
            temperature=1.0,
            bf16=True,
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            logging_steps=1000,
            gradient_checkpointing=False,
        )
        model = AutoModelForImageTextToText.from_pretrained(arguments.checkpoint, dtype=torch.bfloat16)
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=reward,
            args=settings,
            train_dataset=data,
            processing_class=processor if shown else tokenizer,
            callbacks=[clock],
        )
        begun = time.monotonic()
        trainer.train()
    durations = [after - before for before, after in zip(clock.marks, clock.marks[1:], strict=False)]
    later, later_tokens = durations[1:] or durations, tokens[1:] or tokens
    seconds = statistics.median(later)
    print(
        json.dumps(
            {
                "trl": trl.__version__,
                "total_seconds": round(time.monotonic() - started, 1),
                "start_seconds": round(begun - started, 1),
                "rows_without_picture_replaced": bare if shown else 0,
                "steps": len(durations),
                "first_step_seconds": round(durations[0], 2),
                "step_seconds": round(seconds, 2),
                "answer_tokens_per_step": statistics.median(later_tokens),
                "answer_tokens_per_second": round(statistics.median(later_tokens) / seconds, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
