"""Embeddings of rows: cached by content, equal to a plain computation, checked against reference vectors."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from benchmarks import gme_reference
from data_engine.decontamination.embed import PARITY_COSINE, content_key, embed_rows, parity, read_reference
from shared.errors import InfiMmrError
from shared.images import decode_rgb
from shared.vlm import EngineSpec, open_engine
from shared.vlm.checkpoint import BUNDLED_FOLDER
from shared.vlm.conversation import embedding_prompt

ENGINE = EngineSpec(model="tiny-vl", dtype="float32", runner="pooling", max_model_len=1024)


def rows_of(items):
    schema = {"question": pl.String, "image_hashes": pl.List(pl.String)}
    return pl.DataFrame({"question": [q for q, _ in items], "image_hashes": [h for _, h in items]}, schema=schema)


@pytest.fixture
def world(step_world):
    pictures = step_world.Pictures()
    hashes = [pictures.add(step_world.drawing(seed, (96 + 40 * seed, 64))) for seed in range(4)]
    rows = rows_of([("how many?", [hashes[0]]), ("two", hashes[1:3]), ("words only", []), ("how many?", [hashes[0]])])
    return step_world.context([], pictures=pictures), rows, pictures, hashes


def test_vectors_come_in_the_rows_order_and_equal_content_is_computed_once(world):
    context, rows, pictures, _ = world
    made = embed_rows(context, ENGINE, rows, pictures)
    assert made.vectors.shape[0] == 4
    assert made.vectors.dtype == np.float32
    assert (made.computed, made.reused) == (3, 0)
    np.testing.assert_allclose(np.linalg.norm(made.vectors, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(made.vectors[0], made.vectors[3])
    again = embed_rows(context, ENGINE, rows.reverse(), pictures)
    assert (again.computed, again.reused) == (0, 3)
    np.testing.assert_array_equal(again.vectors, made.vectors[::-1])


def test_a_vector_does_not_depend_on_what_else_is_embedded(world, tmp_path):
    _context, rows, pictures, _ = world
    with open_engine(ENGINE) as engine:
        alone = [engine.embed([([pictures.get(h) for h in hashes], question)])[0] for question, hashes in rows.rows()]
        together = engine.embed([([pictures.get(h) for h in hashes], question) for question, hashes in rows.rows()])
    np.testing.assert_array_equal(np.stack(alone), together)


def test_vectors_equal_a_plain_computation_with_transformers(world):
    import torch
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    context, rows, pictures, _ = world
    made = embed_rows(context, ENGINE, rows, pictures)
    processor = AutoProcessor.from_pretrained(BUNDLED_FOLDER)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(BUNDLED_FOLDER, dtype=torch.float32).eval()
    for row, (question, hashes) in enumerate(rows.rows()):
        images = [decode_rgb(pictures.get(h)) for h in hashes]
        inputs = processor(text=[embedding_prompt(question, len(images))], images=images or None, return_tensors="pt")
        with torch.inference_mode():
            last = model(**inputs, output_hidden_states=True).hidden_states[-1][0, -1]
        plain = (last / last.norm()).numpy()
        assert float(plain @ made.vectors[row]) == pytest.approx(1.0, abs=1e-5)


def test_words_that_do_not_fit_lose_their_end_and_keep_the_pooled_token(world):
    context, _, pictures, hashes = world
    short = ENGINE.model_copy(update={"max_model_len": 128})
    long = rows_of([("word " * 2000, [hashes[0]]), ("word " * 3000, [hashes[0]]), ("word", [hashes[0]])])
    made = embed_rows(context, short, long, pictures)
    assert made.failures == {}
    np.testing.assert_array_equal(made.vectors[0], made.vectors[1])
    assert not np.array_equal(made.vectors[0], made.vectors[2])


def test_a_row_whose_picture_cannot_be_used_fails_alone_with_a_zero_vector(world):
    context, _rows, pictures, hashes = world
    broken = pictures.add(b"no picture at all")
    made = embed_rows(context, ENGINE, rows_of([("a", [broken]), ("b", [hashes[0]])]), pictures)
    assert list(made.failures) == [0]
    assert "not_an_image" in made.failures[0]
    assert not made.vectors[0].any()
    assert made.vectors[1].any()


def test_the_content_key_is_words_and_pictures_in_order():
    assert content_key("a", ["1", "2"]) != content_key("a", ["2", "1"])
    assert content_key("a", ["1"]) == content_key("a", ("1",))


def test_parity_with_its_own_vectors_is_silent(world, tmp_path):
    context, rows, pictures, _hashes = world
    made = embed_rows(context, ENGINE, rows, pictures)
    pairs = [([pictures.get(h) for h in hashes], question) for question, hashes in rows.rows()]
    gme_reference.save(tmp_path / "reference.safetensors", "tiny-vl", pairs, made.vectors)
    checked = parity(context, ENGINE, tmp_path / "reference.safetensors")
    assert checked["warnings"] == []
    assert checked["lowest_cosine"] == pytest.approx(1.0, abs=1e-5)
    assert checked["pairs"] == 4


def test_parity_with_other_positions_warns_loudly(world, tmp_path):
    context, rows, pictures, _ = world
    made = embed_rows(context, ENGINE, rows, pictures)
    pairs = [([pictures.get(h) for h in hashes], question) for question, hashes in rows.rows()]
    turned = np.roll(made.vectors, 1, axis=1)
    gme_reference.save(tmp_path / "reference.safetensors", "gme@1", pairs, turned)
    checked = parity(context, ENGINE, tmp_path / "reference.safetensors")
    assert checked["lowest_cosine"] < PARITY_COSINE
    assert "EMBEDDING PARITY FAILED" in checked["warnings"][0]
    assert "gme@1" in checked["warnings"][0]


def test_without_reference_vectors_a_checkpoint_that_follows_a_reference_warns(world):
    checked = parity(world[0], ENGINE.model_copy(update={"pooling": "gme"}), None)
    assert checked["lowest_cosine"] is None
    assert "not checked" in checked["warnings"][0]
    assert checked["note"] == checked["warnings"][0]


def test_a_checkpoint_that_is_its_own_reference_is_noted_and_warns_nobody(world):
    checked = parity(world[0], ENGINE.model_copy(update={"pooling": "model"}), None)
    assert checked["warnings"] == []
    assert "no other to compare" in checked["note"]


def test_a_reference_file_survives_the_trip_and_a_broken_one_is_named(tmp_path):
    path = tmp_path / "reference.safetensors"
    pairs = [([b"png"], "one <image>"), ([], "two")]
    gme_reference.save(path, "gme@1", pairs, np.eye(2, 8, dtype=np.float32))
    checkpoint, read, vectors = read_reference(path)
    assert (checkpoint, read) == ("gme@1", pairs)
    np.testing.assert_array_equal(vectors, np.eye(2, 8))
    path.write_bytes(b"nothing")
    with pytest.raises(InfiMmrError, match="cannot be read"):
        read_reference(path)


def test_reference_positions_differ_from_the_architectures_own(world):
    context, rows, pictures, _ = world
    own = embed_rows(context, ENGINE, rows, pictures)
    gme = embed_rows(context, ENGINE.model_copy(update={"pooling": "gme"}), rows, pictures)
    cosines = (own.vectors * gme.vectors).sum(axis=1)
    assert cosines[0] < 1 - 1e-6  # pictures have 3-D positions of their own
    assert cosines[2] == pytest.approx(1.0, abs=1e-5)  # words alone have the same positions in both


def test_the_reference_writer_writes_what_the_parity_check_reads(tmp_path):
    pairs = gme_reference.draw_pairs()
    vectors = np.eye(len(pairs), 32, dtype=np.float32)
    gme_reference.save(tmp_path / "gme.safetensors", "gme@1", pairs, vectors)
    checkpoint, read, found = read_reference(tmp_path / "gme.safetensors")
    assert (checkpoint, read) == ("gme@1", pairs)
    np.testing.assert_array_equal(found, vectors)
    assert {decode_rgb(pictures[0]).size for pictures, _ in pairs if pictures} == set(gme_reference.SIZES)
