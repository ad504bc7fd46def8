"""Fixtures and order for the whole suite: quick tests first, flows that start an engine last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from shared.installation import mend_wheel_tag
from tests.hub_stand_in import hub  # noqa: F401 - a fixture

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = ROOT.parent / "shared" / "data"


# Hypothesis would fail an example that takes more than 200 ms by the clock: on a busy machine, that is any.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")


def pytest_configure() -> None:
    """Let a `uv run` beside the suite leave vLLM where it is."""
    mend_wheel_tag()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the quick tests before the slow ones, so that a broken basic shows within a minute."""
    items.sort(key=lambda item: any(item.get_closest_marker(mark) for mark in ("slow", "nightly", "gpu")))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real rows and pictures that lies beside a checkout; never part of one."""
    if not REAL_DATA.is_dir():
        pytest.skip("needs the real rows in ../shared/data, which are not part of the repository")
    return REAL_DATA


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a family's random-weight checkpoint by its model type, written at the first call (miniatures.py)."""
    from tests.miniatures import write_miniature

    @cache
    def folder(name: str) -> Path:
        return Path(write_miniature(name, tmp_path_factory.mktemp("miniatures") / name))

    return folder


@pytest.fixture
def new_standin() -> Iterator[Callable[..., Any]]:
    """Start OpenAI-compatible servers on loopback that answer by rule (standin.py)."""
    from tests.standin import StandIn

    servers: list[StandIn] = []

    def start(**options: Any) -> StandIn:
        servers.append(StandIn(**options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def standin(new_standin: Callable[..., Any]) -> Any:
    """One such server."""
    return new_standin()
