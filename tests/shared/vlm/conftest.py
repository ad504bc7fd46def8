"""A stand-in endpoint per test."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_SPEC = importlib.util.spec_from_file_location("standin", Path(__file__).parent / "standin.py")
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)


@pytest.fixture
def standin() -> Iterator[Any]:
    server = _MODULE.StandIn()
    yield server
    server.close()


@pytest.fixture
def new_standin() -> Iterator[Any]:
    servers = []

    def start(**options):
        servers.append(_MODULE.StandIn(**options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
