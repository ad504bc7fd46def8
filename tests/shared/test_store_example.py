from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.sample_versions import publish_sample

EXAMPLE = """
from torch.utils.data import DataLoader, IterableDataset
from shared.dataset_version import open_dataset

version = open_dataset("virl39k-captioned@prod", store="./store")
hard = version.scan().filter(pl.col("difficulty").struct.field("pass_rate_large") < 0.5).collect()
rows = version.to_datasets()                                 # datasets.Dataset, pictures decoded
mine = version.iterate(rank=0, world_size=2, seed=1)         # this rank's half, in the same order every time
class Rows(IterableDataset):
    def __iter__(self): return iter(mine)
loader = DataLoader(Rows(), batch_size=None, num_workers=0)  # dicts; images are {"bytes", "path"}
"""


def test_the_ten_line_example_runs_as_it_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import polars as pl

    from shared.dataset_version import set_tag

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    set_tag(publish_sample(tmp_path / "store", tmp_path / "built", name="virl39k-captioned"), "prod")
    assert len(EXAMPLE.strip().splitlines()) <= 11
    names: dict[str, object] = {"pl": pl}
    exec(compile(EXAMPLE, "README", "exec"), names)  # noqa: S102  (the documentation itself is what is tested)
    assert names["rows"].num_rows == 20
    assert names["hard"].height == 10
    assert len(list(names["loader"])) == 10
