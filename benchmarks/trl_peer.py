"""TRL's GRPOTrainer on a prompt file of ours; run by `trainer_step.py` with the Python of TRL's environment.

Prints one JSON object. Imports nothing of this project: TRL has its own environment. Text prompts only (phase fra): TRL
would render pictures through its own chat formatting, which would not be the same prompts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path


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
    from datasets import Dataset
    from transformers import AutoModelForImageTextToText, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    lines = [json.loads(text) for text in Path(arguments.prompts).read_text(encoding="utf-8").splitlines()]
    wanted = arguments.steps * arguments.batch_prompts
    data = Dataset.from_list(
        [{"prompt": line["prompt"], "gold": json.loads(line["label"])["gold"]} for line in lines[:wanted]]
    )
    tokens: list[int] = []
    tokenizer = AutoTokenizer.from_pretrained(arguments.checkpoint, padding_side="left")

    def reward(completions: list[str], gold: list[str], **_: object) -> list[float]:
        """Format and exact answer: as cheap as a reward can be, so that training is what is measured."""
        tokens.append(sum(len(tokenizer(text)["input_ids"]) for text in completions))
        return [float(f"\\boxed{{{right}}}" in text) for text, right in zip(completions, gold, strict=True)]

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
            processing_class=tokenizer,
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
