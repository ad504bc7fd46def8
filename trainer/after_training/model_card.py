"""The card of a checkpoint on the Hub: what it is, how it was trained, what it scores, how it is asked.

Input: the checkpoint's run record and an evaluation of these very weights, each where there is one. Output: the text
of `README.md`; results stand in its metadata (`model-index`), where the Hub reads them. A card that lies beside the
weights keeps its words and gets the results.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.evaluation.tasks import shown_task

Values = Mapping[str, Any]


def card_text(folder: Path, name: str, record: Values, evaluation: Values, base: str) -> str:
    """The card. `record` and `evaluation` may be empty; `base` is the hub id that training began from, or empty."""
    from huggingface_hub import ModelCard, ModelCardData

    own = folder / "README.md"
    results = _results(evaluation)
    if own.is_file():
        card = ModelCard(own.read_text(encoding="utf-8"), ignore_metadata_errors=True)
        if results:
            card.data.model_name, card.data.eval_results = name, results
        return str(card)
    dataset = str(record.get("dataset", {}).get("name", ""))
    data = ModelCardData(
        model_name=name,
        library_name="transformers",
        pipeline_tag="image-text-to-text" if (folder / "preprocessor_config.json").is_file()
        or (folder / "processor_config.json").is_file() else "text-generation",
        base_model=base or None,
        datasets=[dataset] if dataset else None,
        tags=["infi-mmr", "grpo", "reasoning"],
        eval_results=results or None,
    )  # fmt: skip
    parts = [f"# {name}", _about(record), _training(record), _scores(evaluation), _asking(evaluation)]
    return f"---\n{data.to_yaml()}\n---\n" + "\n\n".join(part for part in parts if part) + "\n"


def _results(evaluation: Values) -> list[Any]:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="question-answering",
            dataset_type=name,
            dataset_name=shown_task(name).title,
            dataset_revision=str(result.get("source", {}).get("fingerprint") or "") or None,
            metric_type="accuracy",
            metric_name="accuracy, greedy pass@1, percent",
            metric_value=round(100 * result["accuracy"], 2),
        )
        for name, result in evaluation.get("benchmarks", {}).items()
        if result.get("n")
    ]


def _about(record: Values) -> str:
    phase = record.get("phase", {})
    if not phase:
        return "No run record lies beside this checkpoint: how it was trained is not known."
    how = "supervised fine-tuning on reasoning traces" if phase.get("method") == "sft" else "GRPO"
    return (
        f"Trained by {how} in the phase `{phase['name']}` ({phase['title']}) of the Infi-MMR curriculum "
        "([paper](https://arxiv.org/abs/2505.23091)). `run_record.json` beside the weights tells all about the run."
    )


def _training(record: Values) -> str:
    if not record:
        return ""
    phase, dataset, parent = record["phase"], record["dataset"], record["parent"]
    train, rollout = phase["train"], phase["rollout"]
    facts = {
        "from": f"{parent.get('location', '')} (sha256 {parent.get('sha256', '')[:16]})",
        "dataset": f"{dataset.get('label') or dataset.get('name', '')} (manifest sha256 "
        f"{str(dataset.get('manifest_sha256', ''))[:16]})",
        "rows": dataset.get("rows"),
        "steps": record.get("steps"),
        "learning rate": train.get("learning_rate"),
        "rollouts per prompt": None if phase.get("method") == "sft" else rollout.get("samples_per_prompt"),
        "seed": train.get("seed"),
        "numbers": record.get("dtype"),
        "code": record.get("code_commit"),
        "packages": ", ".join(f"{name} {version}" for name, version in record.get("packages", {}).items()),
        "weights": f"sha256 {record.get('checkpoint_sha256', '')}",
    }
    rows = [f"| {name} | {_cell(value)} |" for name, value in facts.items() if value not in (None, "")]
    return "\n".join(["## Training", "", "| | |", "|---|---|", *rows])


def _scores(evaluation: Values) -> str:
    rows = []
    for name, result in evaluation.get("benchmarks", {}).items():
        low, high = (100 * bound for bound in result.get("interval95", (0, 1)))
        source = result.get("source", {})
        items = source.get("label") or source.get("dataset") or ", ".join(source.get("files", ()))
        rows.append(
            f"| {_cell(shown_task(name).title)} | {result['n']} | {100 * result['accuracy']:.2f} ± "
            f"{100 * result['stderr']:.2f} | {low:.1f} to {high:.1f} | {result['unscored']} | {_cell(items)} |"
        )
    head = [
        "## Results",
        "",
        "Greedy answers, scored by rules; accuracy in percent with its standard error. Unscored items are left out.",
        "",
        "| benchmark | n | accuracy | 95% interval | unscored | items |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows]) if rows else ""


def _asking(evaluation: Values) -> str:
    asking = evaluation.get("asking", {})
    told = f" `{asking['system_prompt']}` of the prompt set `{asking['prompts']}`" if asking else ""
    return (
        "## Asking it\n\nIt thinks inside `<think>` and `</think>` and gives its answer in `\\boxed{}`, as the system "
        f"prompt{told} asks. transformers loads it as it is, and so does `vllm serve`."
    )


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
