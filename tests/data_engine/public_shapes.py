"""Ten shapes of public sets, written to a folder with a few rows each: field names, nesting and marks as published."""

from __future__ import annotations

import base64
import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def png(seed, size=(40, 30)):
    """A small picture that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def parquet(rows, file):
    pq.write_table(pa.Table.from_pylist(rows), file)


def jsonl(rows, file):
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def geoqa(folder):
    """GEOQA_R1V_Train_8K: picture structs, the answer in tags."""
    (folder / "data").mkdir()
    rows = [
        {
            "image": {"bytes": png(i), "path": None},
            "problem": f"As shown, AB is a diameter and angle {i} equals {20 + i}°. Find angle x.",
            "solution": f"<answer> {70 - i}° </answer>",
        }
        for i in range(6)
    ]
    parquet(rows, folder / "data" / "train-00000-of-00001.parquet")
    return folder


def mmk12(folder):
    """MMK12: one picture struct, a bare answer, ids, subjects; two splits."""
    for split, count in (("train", 6), ("test", 3)):
        rows = [
            {
                "id": f"{split}-{i}",
                "question": f"<image>\nThe current through resistor {i} is?",
                "answer": f"\\frac{{{i + 1}}}{{7}}",
                "subject": "physics",
                "image": {"bytes": png(100 + i), "path": f"{i}.png"},
            }
            for i in range(count)
        ]
        parquet(rows, folder / f"{split}-00000-of-00001.parquet")
    return folder


def scienceqa(folder):
    """ScienceQA: options as a list, the answer as a place from 0, a picture or none, a hint."""
    rows = [
        {
            "image": {"bytes": png(200 + i), "path": None} if i % 2 else None,
            "question": f"Which of these is a solid? ({i})",
            "choices": ["milk", "rock", "air"][: 2 + i % 2],
            "answer": [0, 1, 0, 2, 1, 2][i],
            "hint": "Look at the picture." if i % 2 else "",
            "subject": "natural science",
            "lecture": "Solids keep their shape.",
            "solution": "Rock is a solid.",
        }
        for i in range(6)
    ]
    parquet(rows, folder / "train.parquet")
    return folder


def llava(folder):
    """LLaVA: one JSON list, conversations from human and gpt, pictures by name below an own folder."""
    (folder / "train2017").mkdir()
    rows = []
    for i in range(6):
        (folder / "train2017" / f"{i:06d}.png").write_bytes(png(300 + i))
        talk = [
            {"from": "human", "value": f"<image>\nHow many red balls are in picture {i}?"},
            {"from": "gpt", "value": f"The answer is {i + 2}."},
            {"from": "human", "value": "And the blue ones?"},
            {"from": "gpt", "value": "None."},
        ]
        rows.append({"id": f"llava-{i}", "image": f"{i:06d}.png", "conversations": talk[: 4 if i == 5 else 2]})
    (folder / "llava.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


def sharegpt(folder):
    """ShareGPT as LLaMA-Factory reads it: messages with roles, a list of pictures, two of them in one question."""
    (folder / "images").mkdir()
    rows = []
    for i in range(6):
        names = [f"images/{i}-{j}.png" for j in range(2)]
        for j, name in enumerate(names):
            (folder / name).write_bytes(png(400 + 2 * i + j))
        messages = [
            {"role": "system", "content": "You are helpful."},
            {
                "role": "user",
                "content": f"<image><image>Which of both is larger? Case {i}. Options: (A) first (B) second",
            },
            {"role": "assistant", "content": f"<think>look</think><answer>{'AB'[i % 2]}</answer>"},
        ]
        rows.append({"messages": messages, "images": names})
    jsonl(rows, folder / "sharegpt.jsonl")
    return folder


def gsm8k(folder):
    """GSM8K: the answer behind ####."""
    rows = [
        {"question": f"Ann has {i} apples and buys 1{i}.", "answer": f"She has {i} + 1{i}.\n#### 1,{i}00"}
        for i in range(6)
    ]
    jsonl(rows, folder / "train.jsonl")
    return folder


def numinamath(folder):
    """NuminaMath-CoT: a worked solution that boxes its answer, the same again as messages."""
    rows = []
    for i in range(6):
        problem, solution = f"Solve $x - {i} = 1$.", f"We add ${i}$ to both sides.\nSo $x = \\boxed{{{i + 1}}}$."
        messages = [{"content": problem, "role": "user"}, {"content": solution, "role": "assistant"}]
        rows.append({"source": "synthetic_math", "problem": problem, "solution": solution, "messages": messages})
    parquet(rows, folder / "train-00000-of-00001.parquet")
    return folder


def chartqa(folder):
    """ChartQA as its authors publish it: a list with names of pictures that lie in png/, label as text."""
    (folder / "png").mkdir()
    rows = []
    for i in range(6):
        (folder / "png" / f"{i}.png").write_bytes(png(500 + i))
        rows.append({"imgname": f"{i}.png", "query": f"What is the value of bar {i}?", "label": f"{i}.5"})
    (folder / "train_human.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


def mathv360k(folder):
    """MathV360K: instructions, question and options in one turn, a sentence as answer, pictures in a zip archive."""
    import zipfile

    rows = []
    with zipfile.ZipFile(folder / "data_images.zip", "w") as archive:
        for i in range(6):
            archive.writestr(f"Geometry3K/images/{i}.png", png(600 + i))
            text = (
                "<image>\nHint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, "
                f"at the end.\nQuestion: Find side {i}.\nChoices:\n(A) {i}\n(B) {i + 1}\n(C) {i + 2}\n(D) {i + 3}"
            )
            talk = [{"from": "human", "value": text}, {"from": "gpt", "value": f"The answer is {'ABCD'[i % 4]}"}]
            rows.append({"id": f"identity_{i}", "image": f"Geometry3K/images/{i}.png", "conversations": talk})
    (folder / "train_samples_all_tuning.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


def webdataset(folder):
    """WebDataset: two shards, a picture and a JSON object per key; tables as pictures."""
    for shard in range(2):
        with tarfile.open(folder / f"table-{shard:05d}.tar", "w") as tar:
            for i in range(3):
                key = f"{shard:03d}{i:03d}"
                about = {"question": f"Sum of column {key}?", "answer": str(10 * shard + i), "category": "table"}
                for name, data in (
                    (f"{key}.png", png(700 + 10 * shard + i)),
                    (f"{key}.json", json.dumps(about).encode()),
                ):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return folder


def mmbench(folder):
    """MMBench and VLMEvalKit: a TSV with the picture in base64 and one column per option."""
    lines = ["index\timage\tquestion\tA\tB\tC\tD\tanswer\tcategory"]
    for i in range(6):
        picture = base64.b64encode(png(800 + i)).decode()
        lines.append(
            "\t".join([str(i), picture, f"What is {i}?", "red", "blue", "green" if i else "", "", "B", "colour"])
        )
    (folder / "mmbench.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


SHAPES = {
    "geoqa": (geoqa, {"question": "problem", "answer": "solution", "images": "image"}, {"degree": 6}, 6),
    "mmk12": (
        mmk12,
        {"id": "id", "question": "question", "answer": "answer", "images": "image", "category": "subject"},
        {"fraction": 6},
        6,
    ),
    "scienceqa": (
        scienceqa,
        {"question": "question", "answer": "answer", "choices": "choices", "images": "image", "category": "subject"},
        {"choice": 6},
        3,
    ),
    "llava": (
        llava,
        {"id": "id", "question": "conversations", "answer": "conversations", "images": "image"},
        {"integer": 6},
        6,
    ),
    "sharegpt": (sharegpt, {"question": "messages", "answer": "messages", "images": "images"}, {"choice": 6}, 12),
    "gsm8k": (gsm8k, {"question": "question", "answer": "answer"}, {"integer": 6}, 0),
    "numinamath": (numinamath, {"question": "problem", "answer": "solution"}, {"integer": 6}, 0),
    "chartqa": (chartqa, {"question": "query", "answer": "label", "images": "imgname"}, {"decimal": 6}, 6),
    "mathv360k": (
        mathv360k,
        {"id": "id", "question": "conversations", "answer": "conversations", "images": "image"},
        {"choice": 6},
        6,
    ),
    "webdataset": (
        webdataset,
        {"id": "__key__", "question": "question", "answer": "answer", "images": "__images__", "category": "category"},
        {"integer": 6},
        6,
    ),
    "mmbench": (
        mmbench,
        {"id": "index", "question": "question", "answer": "answer", "choices": "A,B,C", "images": "image",
         "category": "category"},
        {"choice": 6},
        6,
    ),
}  # fmt: skip
"""Name: (writer, columns by role, answers by kind, pictures); each has six rows."""
