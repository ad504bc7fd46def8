"""The trainer's small datasets, for whole commands."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "trainer_conftest", Path(__file__).parents[1] / "trainer" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

mini_store = _module.mini_store
publish = _module.publish
row = _module.row
