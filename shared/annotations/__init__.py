"""Answers and findings, stored as soon as they are known and found again by any later build or evaluation of any team.

A table belongs to a step and a *context*: the fingerprint of what was asked (model, revision, dtype, prompt text,
parameters). Its rows are keyed by what was asked about (sha256 of an image, row hash, text hash). One changed prompt is
another context, so it re-asks only what that prompt asks.

On the store: `annotations/<step>/<context>/<sha256 of the file>.parquet`, small immutable segments written with
create-if-absent (so many builders append at once without locks), and `about.json` saying in words what was asked.
Columns of a segment: `key` (string) and the step's own value columns. Large tables lie in 256 partitions, folders named
by the first byte of the key (`<context>/3f/<sha256>.parquet`); who asks for few keys then reads their partitions only.
Builds with many asks write there at once; tables that grew cell by cell, older ones too, are moved over when merged.

A segment that cannot be read, or whose bytes are not those that its name promises, is never believed: it is moved to
`<context>/damaged/`, named (`set_aside`), and its cells are asked again.

The same key in two segments (two builders asked at once and a model answered differently) is settled the same way by
every reader, whatever the order or compaction: the value whose canonical JSON has the smallest sha256 wins.

A segment of a model's cells says in its metadata what made them (`made_by`: library, version, code). Keys do not hold
it, so that an update of vLLM or of a comment asks nothing again; a build tells how many cells others made.

Not covered: failed cells (never stored, so that they are asked again), garbage collection (the catalogue).
"""

from __future__ import annotations

from shared.annotations.merging import partitions_of
from shared.annotations.segments import SegmentSetAsideError, set_aside, tell_aside
from shared.annotations.stored_cells import PartitionedCells, StoredCells, read_cells
from shared.annotations.table import AnnotationTable

__all__ = [
    "AnnotationTable",
    "PartitionedCells",
    "SegmentSetAsideError",
    "StoredCells",
    "partitions_of",
    "read_cells",
    "set_aside",
    "tell_aside",
]
