"""Samples of a step in TensorBoard and in wandb: their words, their numbers and their pictures."""

import json

import polars as pl
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer.rollouts import COLUMNS
from trainer.sample_tables import SAMPLES, SampleTables


@pytest.fixture
def run(tmp_path):
    """A run folder with two steps of rollouts of rows with a picture."""
    lines = []
    for n in range(3):
        picture = tmp_path / f"{n}.png"
        Image.new("RGB", (600, 300), (80 * n, 20, 30)).save(picture)
        label = json.dumps({"id": f"row-{n}", "gold": str(n)})
        lines.append(json.dumps({"prompt": "p", "label": label, "images": [str(picture)]}))
    (tmp_path / "prompts.jsonl").write_text("\n".join([*lines, *lines]) + "\n")
    (tmp_path / "rollouts").mkdir()
    schema = {name: pl.List(pl.String) if kind == "List(String)" else getattr(pl, kind) for name, kind, _ in COLUMNS}
    for step in (1, 2):
        rows = [
            {
                "step": step, "prompt_id": f"row-{n % 3}", "question": "<image>How | many <b>?", "gold": str(n % 3),
                "output": f"<think>x</think>\\boxed{{{n}}}", "reward": n / 20, "accuracy": float(n % 2),
                "kind": "integer", "verdict": "correct" if n % 2 else "wrong",
            }
            for n in range(20)
        ]  # fmt: skip
        frame = pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)
        frame.write_parquet(tmp_path / "rollouts" / f"step-{step:06d}.parquet")
    return tmp_path


def test_tensorboard_has_a_table_and_the_pictures_of_each_steps_samples(run):
    said = []
    tables = SampleTables(run, "mre", "", said.append)
    for step in (1, 2, 3):  # the third has no rollouts, as in a supervised phase
        tables.write(step)
    tables.close()
    assert said == []
    events = EventAccumulator(str(run / "tensorboard/samples"), size_guidance={"images": 0, "tensors": 0}).Reload()
    (tag,) = events.Tags()["tensors"]
    assert [event.step for event in events.Tensors(tag)] == [1, 2]
    table = events.Tensors(tag)[0].tensor_proto.string_val[0].decode().splitlines()
    assert len(table) == 2 + SAMPLES
    assert table[0] == "|row|question|gold|output|reward|accuracy|kind|verdict|"
    assert "\\<image\\>How \\| many \\<b\\>?" in table[2]
    assert "|0|0|integer|wrong|" in table[2]
    assert "|0\\.95|1|integer|correct|" in table[-1], "from the lowest reward to the highest"
    images = events.Tags()["images"]
    assert len(images) == SAMPLES
    first = events.Images(images[0])[0]
    assert (first.width, first.height) == (256, 128)
    assert first.encoded_image_string.startswith(b"\x89PNG")


def test_wandb_has_the_same_table_with_pictures_in_its_cells(run, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for place in ("CACHE", "DATA", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{place}_DIR", str(run / place))
    said = []
    tables = SampleTables(run, "mre", "our-project", said.append)
    tables.write(1)
    tables.close()
    assert said == []
    (media,) = run.glob("wandb/offline-run-*/files/media")
    (file,) = media.glob("table/*.table.json")
    table = json.loads(file.read_text())
    assert table["columns"] == [
        "step", "row", "question", "gold", "output", "reward", "accuracy", "kind", "verdict", "picture_1"
    ]  # fmt: skip
    assert len(table["data"]) == SAMPLES
    assert table["data"][0][1:4] == ["row-0", "<image>How | many <b>?", "0"]
    assert all(cells[-1] == "Image" for cells in table["data"])  # which the table's artifact holds
    pictures = list(media.glob("images/*.png"))
    assert len(pictures) == 3, "equal ones once"
    with Image.open(pictures[0]) as picture:
        assert picture.size == (256, 128)


def test_what_cannot_be_logged_is_told_once_and_stops_nothing(run):
    (run / "0.png").write_bytes(b"no picture")
    said = []
    tables = SampleTables(run, "mre", "", said.append)
    tables.write(1)
    tables.write(2)
    tables.close()
    assert len(said) == 1
    assert said[0].startswith("samples are no longer logged (UnidentifiedImageError")


def test_a_table_that_cannot_be_closed_ends_no_training(run):
    said = []
    tables = SampleTables(run, "mre", "", said.append)
    tables.write(1)

    class Gone:
        def finish(self):
            raise ConnectionError("the service is gone")

    tables._run = Gone()
    tables.close()
    assert said == ["samples may lack the last step (ConnectionError: the service is gone)"]
