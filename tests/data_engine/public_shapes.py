"""Shapes of public sets, written to a folder with a few rows each: field names, nesting and marks as published."""

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


def files(folder, *names):
    """Pictures of these names below a folder."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(900 + seed))


def as_json(value, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def struct(seed):
    return {"bytes": png(seed), "path": f"{seed}.png"}


def mmmu(folder):
    """MMMU: options as Python writes a list, seven columns of pictures, most of them empty; open golds as lists."""
    rows = [
        {
            "id": f"validation_Math_{i}",
            "question": f"<image 1> In the graph, what is {i}?",
            "options": "['$6$', \"Euler's\", '$8$', '$9$']" if i < 4 else "[]",
            "explanation": "",
            **{f"image_{n}": struct(i) if n == 1 else None for n in range(1, 8)},
            "img_type": "['Plots and Charts']",
            "answer": "B" if i < 4 else "['1/2', '0.5']",
            "topic_difficulty": "Easy",
            "question_type": "multiple-choice" if i < 4 else "open",
            "subfield": "Calculus",
        }
        for i in range(6)
    ]
    parquet(rows, folder / "validation-00000-of-00001.parquet")
    return folder


def tabmwp(folder):
    """TabMWP: a dict by id, options or none, the table as a picture that bears the id."""
    rows = {
        str(i + 1): {
            "question": f"How many people have {i} pets?",
            "choices": ["yes", "no"] if i % 2 else None,
            "answer": "no" if i % 2 else f"1,{i}00",
            "unit": None,
            "table_title": "Pets",
            "table": "Pets | People\n1 | 2",
            "table_for_pd": {"Pets": ["1"], "People": ["2"]},
            "row_num": 2,
            "column_num": 2,
            "solution": "Look at the table.",
            "ques_type": "multi_choice" if i % 2 else "free_text",
            "ans_type": "boolean_text" if i % 2 else "integer_number",
            "grade": i % 8 + 1,
            "split": "train",
        }
        for i in range(6)
    }
    as_json(rows, folder / "problems_train.json")
    files(folder, *(f"tables/{i + 1}.png" for i in range(6)))
    return folder


def figureqa(folder):
    """FigureQA: questions under one key, the picture by its number, drawings' data in a file beside them."""
    pairs = [
        {
            "color1_id": 59,
            "color1_name": "Gold",
            "color1_rgb": [255, 215, 0],
            "color2_name": "Red",
            "image_index": i // 2,
            "question_string": f"Is Gold {i} the minimum?",
            "question_id": i % 2,
            "answer": i % 2,
        }
        for i in range(6)
    ]
    as_json({"qa_pairs": pairs, "total_distinct_colors": 2}, folder / "train1/qa_pairs.json")
    drawn = [{"type": "vbar_categorical", "image_index": i, "models": [{"name": "Gold", "y": [1]}]} for i in range(3)]
    as_json(drawn, folder / "train1/annotations.json")
    files(folder, *(f"train1/png/{i}.png" for i in range(3)))
    return folder


def olympiadbench(folder):
    """OlympiadBench: golds as lists, numbered columns of pictures, a shared premise or none."""
    rows = [
        {
            "id": 1600 + i,
            "question": f"As shown in <image_1>, find $x_{i}$.",
            "solution": ["By symmetry."],
            "final_answer": [f"${i}$"],
            "context": None,
            **{f"image_{n}": struct(i) if n == 1 else None for n in range(1, 6)},
            "modality": "Multimodal",
            "difficulty": "Competition",
            "is_multiple_answer": False,
            "unit": None,
            "answer_type": "Numerical",
            "error": None,
            "question_type": "Open-ended",
            "subfield": "Geometry",
            "subject": "Math",
            "language": "English",
        }
        for i in range(6)
    ]
    parquet(rows, folder / "OE_MM_maths_en_COMP.parquet")
    return folder


def mathverse(folder):
    """MathVerse: a list, options inside the question, pictures by name below images/."""
    rows = [
        {
            "sample_index": str(i + 1),
            "problem_index": str(i + 1),
            "problem_version": "Text Dominant",
            "question": f"Find the length {i}.\nChoices:\nA:1\nB:2\nC:3\nD:4",
            "image": f"images_version_1-4/image_{i}.png",
            "answer": "ABCD"[i % 4],
            "question_type": "multi-choice",
            "metadata": {"split": "testmini", "source": "GeoQA", "subject": "Plane Geometry", "subfield": "Length"},
            "query_wo": "Please directly answer the question.",
            "query_cot": "Please first conduct reasoning.",
        }
        for i in range(6)
    ]
    as_json(rows, folder / "testmini.json")
    files(folder, *(f"images/images_version_1-4/image_{i}.png" for i in range(6)))
    return folder


def mathvision(folder):
    """MathVision: numbered tags in the question, options or none, a level that is no pass rate."""
    rows = [
        {
            "id": str(i + 1),
            "question": f"How many squares are in {i}?\n<image1>",
            "options": ["2", "3", "4", "5", "6"] if i % 2 else [],
            "answer": "E" if i % 2 else "14",
            "image": f"images/{i + 1}.jpg",
            "solution": None,
            "level": 2,
            "subject": "counting",
        }
        for i in range(6)
    ]
    jsonl(rows, folder / "test.jsonl")
    files(folder, *(f"images/{i + 1}.jpg" for i in range(6)))
    return folder


def ai2d(folder):
    """AI2D: options, some of them numbers, and the place of the right one as digits in a text."""
    rows = [
        {
            "question": f"Which part is {i}?",
            "options": ["1", "2", "3", "4"] if i == 5 else ["face", "crust", "core", "mantle"],
            "answer": str(i % 4),
            "image": struct(i),
        }
        for i in range(6)
    ]
    parquet(rows, folder / "test-00000-of-00001.parquet")
    return folder


def arc(folder):
    """ARC: options as two lists in one object, labelled by letters or by numbers from 1."""
    rows = [
        {
            "id": f"Mercury_{i}",
            "question": f"Which of these is a metal? ({i})",
            "choices": {"text": ["tin", "wood", "glass"], "label": ["1", "2", "3"] if i % 2 else ["A", "B", "C"]},
            "answerKey": str(i % 3 + 1) if i % 2 else "ABC"[i % 3],
        }
        for i in range(6)
    ]
    parquet(rows, folder / "train-00000-of-00001.parquet")
    return folder


def mathqa(folder):
    """MathQA: options in one text, the right one as a small letter."""
    rows = [
        {
            "Problem": f"the banker ' s gain of a sum due {i} years is",
            "Rationale": "explanation : answer : option a",
            "options": "a ) rs . 400 , b ) rs . 300 , c ) rs . 500 , d ) rs . 350 , e ) none of these",
            "correct": "abcde"[i % 5],
            "annotated_formula": "divide(multiply(const_100, 36), 12)",
            "linear_formula": "multiply(n2,const_100)|",
            "category": "gain",
        }
        for i in range(6)
    ]
    as_json(rows, folder / "train.json")
    return folder


def clevr(folder):
    """CLEVR: a head and the list of questions, pictures two folders away."""
    rows = [
        {
            "image_index": i,
            "program": [{"inputs": [], "function": "scene", "value_inputs": []}],
            "question_index": i,
            "image_filename": f"CLEVR_train_{i:06d}.png",
            "question_family_index": 2,
            "split": "train",
            "answer": "3",
            "question": f"Are there more than {i} cubes?",
        }
        for i in range(6)
    ]
    as_json({"info": {"split": "train", "version": "1.0"}, "questions": rows}, folder / "CLEVR_train_questions.json")
    files(folder, *(f"images/train/CLEVR_train_{i:06d}.png" for i in range(6)))
    return folder


def m3cot(folder):
    """M3CoT: options as a list, a context beside the question, an id of the picture that is no file."""
    rows = [
        {
            "id": f"physical-commonsense-{i}",
            "category": "commonsense",
            "image_id": f"physical-commonsense-{i}",
            "question": f"What is the {i}th ball made of?",
            "choices": ["tin", "wood", "glass"],
            "context": "A picture of balls." if i % 2 else "",
            "answer": "ABC"[i % 3],
            "rationale": "It shines.",
            "split": "train",
            "image": struct(i),
            "domain": "commonsense",
            "topic": "physical-commonsense",
        }
        for i in range(6)
    ]
    parquet(rows, folder / "train-00000-of-00001.parquet")
    return folder


def textvqa(folder):
    """TextVQA: ten answers of people, the picture by its id, a URL beside it."""
    rows = [
        {
            "image_id": f"00{i}f",
            "question": f"what is the brand of this {i} camera?",
            "answers": ["nous les gosses"] * 9 + ["dakota"],
            "question_id": i,
            "set_name": "train",
            "flickr_300k_url": f"https://example.com/{i}_o.jpg",
        }
        for i in range(6)
    ]
    as_json({"dataset_type": "train", "data": rows}, folder / "TextVQA_0.5.1_train.json")
    files(folder, *(f"train_images/00{i}f.jpg" for i in range(6)))
    return folder


def iconqa(folder):
    """IconQA: a folder per problem, the picture beside data.json, the answer as a place or as a text."""
    for i in range(6):
        chosen = {"choices": ["3", "5"], "answer": i % 2, "ques_type": "choose_txt"}
        about = {"question": f"How many shapes are {i}?", **(chosen if i < 4 else {"answer": "7"}), "grade": "PreK"}
        as_json(about, folder / f"train/{'choose_txt' if i < 4 else 'fill_in_blank'}/{i}/data.json")
        files(folder, f"train/{'choose_txt' if i < 4 else 'fill_in_blank'}/{i}/image.png")
    return folder


def math(folder):
    """MATH as its authors publish it: a file per problem, the answer in the solution's box."""
    for i in range(6):
        about = {"problem": f"What is {i} + 1?", "level": "Level 3", "type": "Algebra"}
        as_json({**about, "solution": f"It is $\\boxed{{{i + 1}}}$."}, folder / f"train/algebra/{i}.json")
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
        {"id": "index", "question": "question", "answer": "answer", "choices": "A,B,C,D", "images": "image",
         "category": "category"},
        {"choice": 6},
        6,
    ),
}  # fmt: skip
"""Name: (writer, columns by role, answers by kind, pictures); each has six rows."""

MORE = {
    "mmmu": (
        mmmu,
        {"id": "id", "question": "question", "answer": "answer", "choices": "options",
         "images": "image_1,image_2,image_3,image_4,image_5,image_6,image_7", "category": "subfield"},
        {"choice": 4, "fraction": 2},
        6,
    ),
    "tabmwp": (
        tabmwp,
        {"id": "__key__", "question": "question", "answer": "answer", "choices": "choices",
         "images": "tables/{__key__}.png"},
        {"choice": 3, "integer": 3},
        6,
    ),
    "figureqa": (
        figureqa,
        {"question": "question_string", "answer": "answer", "images": "train1/png/{image_index}.png"},
        {"integer": 6},
        6,
    ),
    "olympiadbench": (
        olympiadbench,
        {"id": "id", "question": "question", "answer": "final_answer", "difficulty": "difficulty",
         "images": "image_1,image_2,image_3,image_4,image_5", "category": "subject"},
        {"integer": 6},
        6,
    ),
    "mathverse": (
        mathverse,
        {"id": "sample_index", "question": "question", "answer": "answer", "images": "image"},
        {"choice": 6},
        6,
    ),
    "mathvision": (
        mathvision,
        {"id": "id", "question": "question", "answer": "answer", "choices": "options", "images": "image",
         "category": "subject", "difficulty": "level"},
        {"choice": 3, "integer": 3},
        6,
    ),
    "ai2d": (
        ai2d,
        {"question": "question", "answer": "answer", "choices": "options", "images": "image"},
        {"choice": 6},
        6,
    ),
    "arc": (
        arc,
        {"id": "id", "question": "question", "answer": "answerKey", "choices": "choices"},
        {"choice": 6},
        0,
    ),
    "mathqa": (
        mathqa,
        {"question": "Problem", "answer": "correct", "choices": "options", "category": "category"},
        {"choice": 6},
        0,
    ),
    "clevr": (clevr, {"question": "question", "answer": "answer", "images": "image_filename"}, {"integer": 6}, 6),
    "m3cot": (
        m3cot,
        {"id": "id", "question": "question", "answer": "answer", "choices": "choices", "images": "image",
         "category": "category"},
        {"choice": 6},
        6,
    ),
    "textvqa": (
        textvqa,
        {"id": "question_id", "question": "question", "answer": "answers", "images": "train_images/{image_id}.jpg"},
        {"text": 6},
        6,
    ),
    "iconqa": (
        iconqa,
        {"id": "__key__", "question": "question", "answer": "answer", "choices": "choices", "images": "image.png"},
        {"choice": 4, "integer": 2},
        6,
    ),
    "math": (
        math,
        {"id": "__key__", "question": "problem", "answer": "solution", "category": "type", "difficulty": "level"},
        {"integer": 6},
        0,
    ),
}  # fmt: skip
"""Likewise; these are read, the ones above built as well."""
