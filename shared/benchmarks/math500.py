"""MATH500 (HuggingFaceH4/MATH-500): 500 text problems, free answers; the output's answer against the gold."""

from typing import Any

from shared.benchmark import MINI_LEVELS, Benchmark, Drawings, Mini, Published


def _record(problem: Any, _number: int, _drawings: Drawings) -> dict[str, Any]:
    return {
        "problem": problem.question, "answer": problem.answer, "options": list(problem.choices),
        "subject": problem.kind, "level": MINI_LEVELS[problem.grade], "unique_id": problem.key,
    }  # fmt: skip


BENCHMARK = Benchmark(
    task={
        "title": "MATH500",
        "version": 3,
        "protocol": "The stated answer, graded by rules; the paper names math-verify.",
    },
    published=Published(
        description="MATH-500: 500 problems of MATH, text only",
        location="HuggingFaceH4/MATH-500",
        # as marin-community/marin, taskcompendium/pipeline/datasets/math500.py, has it
        revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        files=("test.jsonl", "README.md"),
        licence="MIT",
        splits=("test",),
    ),
    mini=Mini(first_bucket=200, buckets=11, record=_record, text_only=True),
)
