"""Where everything goes that can be computed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_engine.sources.file_hashes import open_memory
from shared.caches import cache_folder
from trainer.openrlhf_bridge.compiled_operators import operators_cache


def test_every_cache_lies_below_the_folder_that_xdg_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes and operators alike; nothing is written to the home folder."""
    monkeypatch.delenv("INFI_MMR_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    memory = open_memory()
    assert memory is not None
    memory.close()
    assert (tmp_path / "xdg" / "infi-mmr" / "file_hashes.sqlite").is_file()
    assert operators_cache("cpu").is_relative_to(tmp_path / "xdg" / "infi-mmr")
    assert not (tmp_path / "home").exists()


def test_no_other_place_of_the_code_reads_the_variables() -> None:
    """One function decides; a second reading would leave XDG_CACHE_HOME out again."""
    root = Path(__file__).resolve().parent.parent.parent
    readers = {
        str(file.relative_to(root))
        for room in ("shared", "data_engine", "trainer")
        for file in (root / room).rglob("*.py")
        if "XDG_CACHE_HOME" in file.read_text() or '"INFI_MMR_CACHE"' in file.read_text()
    }
    assert readers == {"shared/caches.py"}


def test_the_projects_own_variable_wins_and_a_relative_xdg_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the specification has it."""
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.delenv("INFI_MMR_CACHE", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "infi-mmr"
    monkeypatch.setenv("INFI_MMR_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere")
