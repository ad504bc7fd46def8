"""MATH500 (HuggingFaceH4/MATH-500): 500 text problems, free answers; the output's answer against the gold."""

from shared.benchmark import Benchmark, Published

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
)
