"""MathVerse testmini (AI4Math/MathVerse): 788 problems in five versions, from most text to picture alone.

Choice items by letter or option text, free items by value with units. The headline is the mean of the versions; the
versions of a problem are one cluster of its standard error. Vision Only has its own question: the problem stands in
the picture, so the text only says where to look, and `question_for_eval` (what the picture asks) serves the grader.
"""

from shared.benchmark import Benchmark, Item, Published, plain_question

VERSIONS = ("Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only")
"""The five versions of the testmini set (arXiv 2403.14624, section 2.2)."""
VISION_ONLY_QUESTION = "Answer the question shown in the image."


def version(item: Item) -> str:
    """Which of the versions an item is; `unknown` where its file does not say."""
    return str(item.extra.get("problem_version") or "unknown")


def _question(item: Item) -> str:
    words = item.question.replace("<image>", "").strip()
    if words:
        return plain_question(item)
    return f"{item.question.strip()}\n{VISION_ONLY_QUESTION}".strip()


BENCHMARK = Benchmark(
    task={
        "title": "MathVerse",
        "version": 2,
        "protocol": "Rules instead of the official language-model judge; mean of the versions.",
    },
    parts={
        "question": _question,
        "groups": {
            "by_version": version,
            "by_subject": lambda item: item.category,
            "by_type": lambda item: item.extra.get("question_type"),
        },
        "stratum": version,
        "cluster": lambda item: str(item.extra.get("problem_index") or item.key),
    },
    published=Published(
        description="MathVerse testmini: problems in versions from text-dominant to vision-only",
        location="AI4Math/MathVerse",
        # as Hiforever-h/AdaptiveVision-RL, scripts/prepare_benchmarks.py, has it
        revision="3bc86196678bad115a923d2851c6821dbe235939",
        files=("testmini.parquet",),
        licence="MIT",
        splits=("testmini",),
    ),
)
