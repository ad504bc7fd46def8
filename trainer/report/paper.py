"""Numbers of the paper's Table 1 (arXiv 2505.23091v3, section 5.3) for orientation, and how ours differ."""

from __future__ import annotations

COLUMNS = {
    "math500": "Text-only reasoning",
    "mathverse": "Multimodal reasoning",
    "mathvision": "Multimodal reasoning",
    "olympiadbench": "Multimodal reasoning",
    "mathvista": "Multimodal general",
}
"""Benchmarks in the table's order, with the heading each stands under."""

ROWS: dict[str, tuple[float, float, float, float, float]] = {
    "Qwen2.5-VL-3B": (63.40, 33.20, 21.25, 11.33, 63.40),
    "Infi-MMR FRA": (68.8, 40.8, 23.91, 19.33, 62.9),
    "Infi-MMR CMRA": (65.65, 42.84, 26.34, 19.33, 63.5),
    "Infi-MMR-3B (after MRE)": (65.5, 43.68, 27.04, 21.33, 67.2),
}
"""Accuracy in percent, columns as in `COLUMNS`. The paper gives no standard errors."""
SHORT = {"Qwen2.5-VL-3B": "base", "Infi-MMR FRA": "FRA", "Infi-MMR CMRA": "CMRA", "Infi-MMR-3B (after MRE)": "MRE"}
"""Names of the rows in the terminal, where 80 characters must do."""

GENERAL_NOTE = (
    "The paper scores with the benchmarks' own protocols, some of which ask a language model to extract or judge "
    "answers; here every score comes from rules alone, so compare rows of one kind, not across. Reports of one model "
    "differ by ten points and more from prompt or judge alone: the difference to the base model under the same harness "
    "is the number to read."
)
LOCAL_NOTE = (
    "These runs were evaluated on small tasks that the project draws itself (profile local). They have the shape of "
    "the benchmarks, not their problems: nothing here can be compared with the paper's rows."
)
NO_EVALUATION_NOTE = (
    "None of these runs has been evaluated yet: `trainer evaluate --checkpoint RUN/checkpoint` writes its results "
    "beside the run, and they appear here."
)
