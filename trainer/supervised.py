r"""Traces of supervised phases (`method = "sft"`): which are fit to be learnt.

A trace is a whole answer to a row's problem. It trains where it earns the reward of a right rollout: the format that
the reasoning prompt asks for (`<think>`, then one final answer) and the gold. A worked solution without `<think>` is
put into that form, `<think>` around it and the gold boxed behind it, where it ends in the gold. Of several traces of a
row the first that is fit is taken. What is left out is counted by reason (rejection sampling's other half).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shared.errors import InfiMmrError, did_you_mean
from shared.vlm.chat_template import opened_thinking

if TYPE_CHECKING:
    from shared.dataset_version import DatasetVersion
    from trainer.phase import Phase


def traces_of(row: Mapping[str, Any], column: str) -> list[str]:
    """Traces of a row; a dot leads into a JSON object or a struct (`extra.trace`)."""
    value: Any = row
    for name in column.split("."):
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                return []
        value = value.get(name) if isinstance(value, Mapping) else None
    found = value if isinstance(value, list) else [value]
    return [trace for trace in found if isinstance(trace, str) and trace.strip()]


def fit_trace(row: Mapping[str, Any], column: str, label: Mapping[str, Any]) -> tuple[str, str]:
    """(Trace in the form that trains, "") or ("", why none of the row's traces does, as one word).

    `label` is what the reward is told of the row.
    """
    from shared.answers import grade_output, options_of
    from shared.code_points import carried_value
    from trainer.rewards import reward

    reasons = ["no_trace"]
    for given in traces_of(row, column):
        trace = str(carried_value(given)).strip()
        if "<think>" not in trace and grade_output(row["answer"], trace, **options_of(label)).correct:
            trace = f"<think>\n{trace}\n</think>\n\n\\boxed{{{row['answer']}}}"
        parts = reward(trace, label)
        if parts.score:
            return trace, ""
        reasons.append("trace_wrong" if parts.format or "<think>" not in trace else "trace_form")
    return "", reasons[-1]


def learnt_response(trace: str, prompt: str) -> str:
    """What a policy learns to write behind `prompt`: the trace, less the `<think>` that the prompt has opened."""
    return re.sub(r"\A<think>\s*", "", trace) if opened_thinking(prompt) else trace


def trace_column(phase: Phase) -> tuple[str, ...]:
    """Column of the file to read for traces, in a tuple; empty where the phase reads none."""
    return (phase.data.trace_column.split(".")[0],) if phase.method == "sft" else ()


def check_traces(version: DatasetVersion, phase: Phase) -> None:
    """Refuse a dataset without any trace.

    Raises:
        InfiMmrError: no such column, or none of its rows has a trace.

    """
    import pyarrow.parquet as pq

    from shared.dataset_version.iterate import rows_of

    (column,) = trace_column(phase)
    for file in version.files():
        known = pq.read_schema(file).names
        if column not in known:
            raise InfiMmrError(
                f"dataset {version.manifest.label} has no column {column}, which data.trace_column of phase "
                f"{phase.name} names",
                did_you_mean(column, known),
            )
        if any(traces_of(row, phase.data.trace_column) for row in rows_of([file], [column])):
            return
    raise InfiMmrError(
        f"dataset {version.manifest.label} has no trace in {phase.data.trace_column}, from which phase {phase.name} "
        "learns",
        "Name a dataset with traces, e.g. --dataset reasoning-traces, or their column with --set data.trace_column=...",
    )
