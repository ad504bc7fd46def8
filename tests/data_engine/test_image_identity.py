"""When two pictures are one picture."""

from __future__ import annotations

import io

import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

from data_engine.duplicates.image_identity import (
    ImagePrint,
    image_print,
    print_batch,
    relation,
    same_picture,
)


def chart(*, heights=(30, 70, 50), size=(240, 180), form="PNG", **options):
    picture = Image.new("RGB", (240, 180), "white")
    pen = ImageDraw.Draw(picture)
    for place, height in enumerate(heights):
        pen.rectangle((20 + 70 * place, 170 - height * 2, 60 + 70 * place, 170), fill=("navy", "teal", "maroon")[place])
    out = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(out, form, **options)
    return image_print(f"{hash((heights, size, form))}", out.getvalue())


@pytest.mark.parametrize(
    "copy", [chart(form="BMP"), chart(form="JPEG", quality=50), chart(size=(120, 90)), chart(size=(360, 270))]
)
def test_reencoded_and_resized_copies_are_the_same_picture(copy):
    assert same_picture(chart(), copy)
    assert relation([chart()], [copy])[0] == "same"


def test_a_chart_with_one_bar_changed_is_another_picture():
    assert not same_picture(chart(), chart(heights=(30, 60, 50)))
    assert not same_picture(chart(), chart(heights=(30, 70, 60)))


def test_undecodable_pictures_are_the_same_by_bytes_only():
    one, two = image_print("a", b"no picture"), image_print("b", None)
    assert one == ImagePrint("a")
    assert not same_picture(one, two)
    assert same_picture(one, image_print("a", b"no picture"))
    assert relation([one], [two]) == ("unknown", None)


def test_relation_says_what_is_known(step_world):
    far = [image_print(str(seed), step_world.drawing(seed)) for seed in range(4)]
    assert relation([], []) == ("none", None)
    assert relation([far[0]], []) == ("unknown", None)
    assert relation([far[0]], [far[1]])[0] == "different"
    assert relation([far[0], far[1]], [far[1]]) == ("same", 0)


def test_a_picture_that_cannot_be_read_has_a_print_of_its_hash_alone(step_world):
    pictures = step_world.Pictures()
    known = pictures.add(step_world.drawing(1))
    first, second = print_batch(pa.table({"key": [known, "f" * 64]}), pictures).to_pylist()
    assert first["pixels"]
    assert ImagePrint(*second.values()) == ImagePrint("f" * 64)
