"""What 39 thousand, 1 million and 100 million rows cost: calls, tokens, GPU-hours, storage, store requests; on paper.

Every number is an input below, with where it comes from, or follows from a formula in this file. GPU rates are
rooflines of published hardware and model sizes times an assumed efficiency, because no machine of ours has such a GPU;
the driver's time per ask and memory per row are measured (results/ray_runner.json where it is there).

    python benchmarks/cost_of_scale.py        writes benchmarks/results/cost_of_scale.json and .md
"""

from __future__ import annotations

import json
import math
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SIZES = {"ViRL39K": 38_870, "1 million": 1_000_000, "100 million": 100_000_000}

# Rows. Measured over the 3,233 pictures of 2,801 ViRL-shaped rows (shared data, not in the repository).
IMAGES_PER_ROW = 3233 / 2801
IMAGE_TOKENS = 200  # mean tokens of 28 x 28 pixels at the recipe's limit of 1,003,520 pixels; median 69
IMAGE_BYTES = 130_000  # ViRL39K: 5 GB over 38,870 rows; the slice at hand has a mean of 22,600

# Asks. Prompt files and templates of this repository; the caption's length is an assumption (its limit is 2,048).
TYPE_PROMPT_TOKENS, TYPE_ANSWER_TOKENS = 45, 3
CAPTION_PROMPT_TOKENS, CAPTION_ANSWER_TOKENS = 40, 300
QUESTION_TOKENS = 90
BENCHMARK_ITEMS = 500 + 3940 + 3040 + 1910 + 1000

# Hardware: NVIDIA H100 SXM data sheet.
FLOPS, BANDWIDTH = 989e12, 3.35e12  # dense bf16 per second; bytes per second
COMPUTE_EFFICIENCY, BANDWIDTH_EFFICIENCY = 0.35, 0.55  # assumed; small pictures leave a GPU less busy than long texts

# Models: parameters from their configurations on the hub.
TEXT_7B, VISION, TEXT_2B = 7.6e9, 0.68e9, 1.54e9
KV_BYTES_7B = 28 * 2 * 4 * 128 * 2  # layers x (key, value) x key-value heads x head size x bf16
CAPTION_BATCH = 128  # recipe virl39k-captioned
VECTOR_BYTES = 1536 * 4

# Store. One annotation segment per batch of asks; shards of 500 MB; a listing answers 1,000 names.
BATCHES = {"type": 256, "caption": 128, "embed": 64}
SHARD_BYTES = 500e6
LIST_PAGE = 1000


def prefill_seconds(text_parameters: float, text_tokens: float, image_tokens: float) -> float:
    """2 FLOP per parameter and token; the vision tower sees four patches per merged token."""
    flop = 2 * text_parameters * (text_tokens + image_tokens) + 2 * VISION * 4 * image_tokens
    return flop / (FLOPS * COMPUTE_EFFICIENCY)


def decode_seconds(tokens: float, context: float) -> float:
    """Per sequence: a step reads all weights once for the batch, and each sequence's keys and values."""
    step = (2 * TEXT_7B + CAPTION_BATCH * KV_BYTES_7B * context) / (BANDWIDTH * BANDWIDTH_EFFICIENCY)
    return tokens * step / CAPTION_BATCH


def cost(rows: int, overhead: float, driver_bytes: float) -> dict[str, float]:
    """Everything for `rows` rows; `overhead` is the driver's seconds per ask, `driver_bytes` its memory per row."""
    images = rows * IMAGES_PER_ROW
    typing = prefill_seconds(TEXT_7B, TYPE_PROMPT_TOKENS, IMAGE_TOKENS) + decode_seconds(TYPE_ANSWER_TOKENS, 300)
    caption = prefill_seconds(TEXT_7B, CAPTION_PROMPT_TOKENS, IMAGE_TOKENS)
    caption += decode_seconds(CAPTION_ANSWER_TOKENS, 240 + CAPTION_ANSWER_TOKENS / 2)
    embed = prefill_seconds(TEXT_2B, QUESTION_TOKENS + 15, IMAGE_TOKENS * IMAGES_PER_ROW)
    asks = {"type": images, "caption": images, "embed": rows + BENCHMARK_ITEMS}
    made = {step: math.ceil(asks[step] / BATCHES[step]) for step in asks}
    segments = sum(made.values())
    image_bytes = rows * IMAGE_BYTES
    shards = math.ceil(image_bytes / SHARD_BYTES)
    return {
        "model_calls": round(sum(asks.values())),
        "prompt_tokens": round(
            images * (TYPE_PROMPT_TOKENS + CAPTION_PROMPT_TOKENS + 2 * IMAGE_TOKENS)
            + asks["embed"] * (QUESTION_TOKENS + 15 + IMAGE_TOKENS * IMAGES_PER_ROW)
        ),
        "answer_tokens": round(images * (TYPE_ANSWER_TOKENS + CAPTION_ANSWER_TOKENS)),
        "gpu_hours_type": round(images * typing / 3600, 2),
        "gpu_hours_caption": round(images * caption / 3600, 2),
        "gpu_hours_embed": round(asks["embed"] * embed / 3600, 2),
        "shard_gb": round(image_bytes / 1e9, 1),
        "annotation_gb": round((images * (80 + 1300) + asks["embed"] * (VECTOR_BYTES + 70)) / 1e9, 2),
        "store_reads": round(asks["type"] + asks["caption"] + images + shards + made["embed"]),
        "store_writes": segments + 2 * shards + 2,
        "segment_listings": math.ceil(segments / LIST_PAGE),
        "driver_hours": round(sum(asks.values()) * overhead / 3600, 2),
        "driver_rows_gb": round(rows * 1200 / 1e9, 2),
        "driver_steps_gb": round(rows * driver_bytes / 1e9, 2),
        "vectors_on_store_gb": round(asks["embed"] * VECTOR_BYTES / 1e9, 2),
        "exact_search_exaflop": round(2 * rows * BENCHMARK_ITEMS * 1536 / 1e18, 4),
    }


BREAKS = {
    "ViRL39K": (
        (
            "Nothing: about one GPU-hour by roofline. What is noticed first is what the roofline leaves out: "
            "three engine starts of one to two minutes, and decoding and resizing pictures on the host (about "
            "15 ms each, ten core-minutes per step): give each GPU several cores."
        ),
    ),
    "1 million": (
        (
            "Nothing of the driver: workers hash, read and check the source's pieces, pictures included, and look up "
            "on scratch where a picture lies (results/intake_at_scale.json); what models are asked goes by buckets of "
            "keys and is stored by those who ask. Driver hours and driver memory in the table are those measured "
            "before that, on one core."
        ),
        (
            "A worker takes some 4 ms for a picture of 130 KB: 1.3 hours of one core, a minute of a hundred. Pictures "
            "in packed shards, Parquet or base64 are written once more, to scratch; those in plain tar are not."
        ),
        (
            "ViRL39K's and DeepScaleR's own readers are read on one machine still, and so is what a recipe limits, a "
            "bucket's or the hub's pictures, and a package's reader. Change: pieces for these."
        ),
    ),
    "100 million": (
        (
            "The driver's bookkeeping: 256 buckets then hold 400 thousand keys each, more than a worker should have in "
            "memory. Change: buckets by two bytes of the key. It also holds 8 bytes a record, to find problems that "
            "occur twice."
        ),
        (
            "Knowing what is missing without a model: a row block still looks at all keys of a table; what models are "
            "asked is looked up by partition. Change: the same buckets for these steps."
        ),
        (
            "Object storage's request rate per prefix (3,500 writes and 5,500 reads per second at S3): "
            "pictures must be read as ranges of large shards, not one object each."
        ),
        "Exact search stays affordable: it is one matrix product of rows with ten thousand items.",
    ),
}


def main() -> None:
    """Write both result files."""
    measured = RESULTS / "ray_runner.json"
    overhead, driver_bytes, source = 0.0005, 3000.0, "assumed"
    if measured.exists():
        found = json.loads(measured.read_text())
        overhead = found.get("driver_overhead_seconds_per_ask", overhead)
        driver_bytes = found.get("driver_bytes_per_row", driver_bytes)
        source = "results/ray_runner.json"
    table = {name: cost(rows, overhead, driver_bytes) for name, rows in SIZES.items()}
    inputs = {
        name: value for name, value in globals().items() if name.isupper() and isinstance(value, int | float | dict)
    }
    inputs = {name: value for name, value in inputs.items() if name not in {"BREAKS", "SIZES"}}
    made = {
        "inputs": inputs
        | {"DRIVER_SECONDS_PER_ASK": overhead, "DRIVER_BYTES_PER_ROW": driver_bytes, "both from": source},
        "costs": table,
        "first_to_break": BREAKS,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "cost_of_scale.json").write_text(json.dumps(made, indent=1) + "\n")
    lines = ["# Cost of scale, on paper (see benchmarks/cost_of_scale.py for every input and formula)", ""]
    lines += ["| | " + " | ".join(SIZES) + " |", "|---|" + "---:|" * len(SIZES)]
    for key in next(iter(table.values())):
        lines.append(f"| {key.replace('_', ' ')} | " + " | ".join(f"{table[name][key]:,}" for name in SIZES) + " |")
    lines += ["", "GPU-hours are those of an H100. What breaks first, and what to change there:", ""]
    for name, sentences in BREAKS.items():
        lines += [f"- {name}: {sentences[0]}", *(f"  - {sentence}" for sentence in sentences[1:])]
    text = "\n".join(lines) + "\n"
    (RESULTS / "cost_of_scale.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
