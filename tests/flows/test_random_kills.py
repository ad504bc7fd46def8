"""Builds that lose their driver, a worker or a node at random moments end in the bytes of a build left alone.

A few kills of each kind, at other moments each night; KILLS=40 strikes as often as the committed measurement.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(7200)]


def kills_module():
    """`benchmarks/kills.py`, which is no package's module."""
    file = Path(__file__).resolve().parents[2] / "benchmarks" / "kills.py"
    spec = importlib.util.spec_from_file_location("kills", file)
    module = sys.modules["kills"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["driver", "ray-driver", "worker", "reader", "node", "own-node"])
def test_whatever_is_lost_at_a_random_moment_the_bytes_are_the_same(kind, tmp_path):
    module = kills_module()
    seed = int(os.environ.get("KILLS_SEED") or time.time())
    with module.opened_world(tmp_path, seed, kind) as world:
        struck = module.struck(world, kind, int(os.environ.get("KILLS") or 3))
    assert [one for one in struck if one["differs"]] == [], f"KILLS_SEED={seed} draws these moments again"
