from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.sample_versions import publish_sample

ROOT = Path(__file__).resolve().parents[2]


def printed_example() -> str:
    """The Python block of the page about sharing."""
    found = re.search(
        r"^```python\n(.*?)^```",
        (ROOT / "docs" / "pages" / "share.md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert found
    return found[1]


def test_the_ten_line_example_runs_as_it_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shared.dataset_version import set_tag

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    set_tag(publish_sample(tmp_path / "store", tmp_path / "built", name="virl39k-captioned"), "prod")
    example = printed_example()
    assert len(example.strip().splitlines()) <= 11
    names: dict[str, object] = {}
    exec(compile(example, "share.md", "exec"), names)  # noqa: S102  (the documentation itself is what is tested)
    assert names["rows"].num_rows == 20
    assert names["hard"].height == 10
    assert len(list(names["loader"])) == 10
