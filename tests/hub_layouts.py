"""The hub's repositories of profile `full` in their published layouts, with a few rows or with weights of no size.

Names of files and columns, types, nesting and marks are those of the published repositories; rows come from the folder
of real rows where it is given, else they are drawn by the mini world. MathVista's and OlympiadBench's own pictures are
in neither: pictures of other rows stand for them. Checkpoints have the published files, configurations and names of
weights, a tokenizer of few words, and tiny-vl's weights; what Qwen2-VL's tower has and tiny-vl's has not is made up.
"""

from __future__ import annotations

import ast
import functools
import io
import json
import struct
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from shared.laptop import MiniSet, MiniSettings, benchmark_record
from shared.vlm.checkpoint import BUNDLED_FOLDER

Files = dict[str, bytes]
Record = dict[str, Any]

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TEXT, TEXTS = pa.string(), pa.list_(pa.string())
COLUMNS: dict[str, dict[str, Any]] = {
    "virl39k": dict.fromkeys(("question", "answer"), TEXT)
    | dict.fromkeys(("PassRate_32BTrained", "PassRate_7BBase"), pa.float64())
    | dict.fromkeys(("category", "source", "qid"), TEXT)
    | {"image": TEXTS},
    "mathverse": dict.fromkeys(("sample_index", "problem_index", "problem_version", "question"), TEXT)
    | {"image": PICTURE}
    | dict.fromkeys(("answer", "question_type"), TEXT)
    | {"metadata": pa.struct([(name, TEXT) for name in ("split", "source", "subject", "subfield")])}
    | dict.fromkeys(("query_wo", "query_cot", "question_for_eval"), TEXT),
    "mathvision": {"id": TEXT, "question": TEXT, "options": TEXTS, "image": TEXT, "decoded_image": PICTURE}
    | {"answer": TEXT, "solution": TEXT, "level": pa.int64(), "subject": TEXT},
    "mathvista": {"pid": TEXT, "question": TEXT, "image": TEXT, "decoded_image": PICTURE, "choices": TEXTS}
    | {"unit": TEXT, "precision": pa.float64(), "answer": TEXT, "question_type": TEXT, "answer_type": TEXT}
    | {
        "metadata": pa.struct(
            [(name, TEXT) for name in ("category", "context", "grade")]
            + [("img_height", pa.int64()), ("img_width", pa.int64()), ("language", TEXT), ("skills", TEXTS)]
            + [(name, TEXT) for name in ("source", "split", "task")]
        ),
        "query": TEXT,
    },
    "olympiadbench": {"id": pa.int64(), "question": TEXT, "solution": TEXTS, "final_answer": TEXTS, "context": TEXT}
    | {f"image_{number}": PICTURE for number in range(1, 6)}
    | {"modality": TEXT, "difficulty": TEXT, "is_multiple_answer": pa.bool_(), "unit": TEXT, "answer_type": TEXT}
    | dict.fromkeys(("error", "question_type", "subfield", "subject", "language"), TEXT),
}  # fmt: skip
VERSIONS = ("Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only")
ITEMS = 4
"""Items of each benchmark; MathVerse has one problem in its five versions."""
OTHER = b"not of the evaluated split, and not fetched"
CARD = b"---\nlicense: mit\n---\n# A card\n"
TRAINING_ROWS = 12
SMALL = 200_704
"""Most pixels of the real pictures that are taken: GME enlarges smaller ones to this."""


def datasets(real: Path | None) -> dict[str, Files]:
    """Files of each dataset's repository; the training sets hold a copy of a benchmark's item."""
    items = {name: list(_items(name, real)) for name in ("math500", "mathverse", "mathvision", "mathvista")}
    items["olympiadbench"] = list(_items("olympiadbench", real))
    rows = list(_virl(real, items["mathvision"][0]))
    shards = {name: _parquet(name, items[name]) for name in COLUMNS if name in items}
    text = [{"problem": p, "answer": a, "solution": "..."} for p, a in _texts(real)]
    copied = items["math500"][0]
    text.append({"problem": copied["problem"], "answer": copied["answer"], "solution": "..."})
    subset = "OlympiadBench/OE_MM_maths_en_COMP/OE_MM_maths_en_COMP.parquet"
    return {
        "TIGER-Lab/ViRL39K": {
            "39Krelease.parquet": _parquet("virl39k", [row for row, _ in rows]),
            "images.zip": _zipped(pictures for _, pictures in rows),
        },
        "agentica-org/DeepScaleR-Preview-Dataset": {"deepscaler.json": json.dumps(text, indent=2).encode()},
        "HuggingFaceH4/MATH-500": {
            "test.jsonl": b"".join(json.dumps(item).encode() + b"\n" for item in items["math500"])
        },
        "AI4Math/MathVerse": {
            "testmini.parquet": shards["mathverse"],
            **dict.fromkeys(("testmini.json", "testmini_text_only.json", "testmini_text_only.parquet"), OTHER),
            "images.zip": OTHER,
        },
        "MathLLMs/MathVision": {
            "data/test-00000-of-00001-3532b8d3f1b4047a.parquet": shards["mathvision"],
            "data/testmini-00000-of-00001-f8ff70fcb2f29b1d.parquet": OTHER,
            "images.zip": OTHER,
        },
        "AI4Math/MathVista": {
            "data/testmini-00000-of-00001-725687bf7a18d64b.parquet": shards["mathvista"],
            "data/test-00000-of-00002-6b81bd7f7e2065e6.parquet": OTHER,
            **dict.fromkeys(("annot_testmini.json", "images.zip"), OTHER),
        },
        "Hothan/OlympiadBench": {
            subset: shards["olympiadbench"],
            subset.replace("OE_MM", "OE_TO"): OTHER,
            subset.replace("OE_MM", "TP_MM"): OTHER,
        },
    }  # fmt: skip


def with_card(files: Files) -> Files:
    """A repository's files with those that every one has."""
    return {".gitattributes": b"*.parquet filter=lfs\n", "README.md": CARD, **files}


def _parquet(name: str, rows: list[Record]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(list(COLUMNS[name].items()))), out)
    return out.getvalue()


def _zipped(pictures: Iterable[Files]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("images/", b"")
        for name, data in sorted({name: data for some in pictures for name, data in some.items()}.items()):
            archive.writestr(name, data)
    return out.getvalue()


def _virl(real: Path | None, copied: Record) -> Iterator[tuple[Record, Files]]:
    """Rows of ViRL39K with their pictures by name: one or several each, one row without, one out of MathVision."""
    if real is None:
        for row in MiniSet("virl39k", MiniSettings(rows=TRAINING_ROWS, duplicates=2, copies=0, renumbered=0)).records():
            pictures = {image["path"]: image["bytes"] for image in row["image"]}
            yield {**row, "image": list(pictures)}, pictures
    else:
        table = pq.read_table(real / "virl_like" / "virl_like.parquet").to_pylist()
        taken: dict[object, int] = {}
        for row in table:
            kind = (row["source"], len(row["image"]) > 1)
            if taken.get(kind, 0) < 1 and len(row["image"]) <= 2:
                pictures = {name: (real / "virl_like" / name).read_bytes() for name in row["image"]}
                if all(map(_small, pictures.values())):
                    taken[kind] = taken.get(kind, 0) + 1
                    yield {**row, "PassRate_32BTrained": 0.5}, pictures
        problem, answer = next(_texts(real))
        yield _virl_row("deepscaler-0", problem, answer, "deepscaler", []), {}
    picture = {"images/copied-0.png": copied["decoded_image"]["bytes"]}
    question = copied["question"].replace("<image1>", "<image>")
    question = question if "<image>" in question else f"<image>\n{question}"
    yield _virl_row("copied-0", question, copied["answer"], "copied", list(picture)), picture


def _virl_row(key: str, question: str, answer: str, source: str, images: list[str]) -> Record:
    rates = {"PassRate_32BTrained": 1.0, "PassRate_7BBase": -1.0}
    about = {"category": "(GradeSchool) Geometric", "source": source, "qid": key}
    return {"question": question, "answer": f"\\boxed{{{answer}}}", **rates, **about, "image": images}


def _texts(real: Path | None) -> Iterator[tuple[str, str]]:
    """Problems of DeepScaleR with their answers."""
    if real is None:
        drawn = MiniSet("deepscaler", MiniSettings(rows=TRAINING_ROWS, duplicates=0, copies=0, renumbered=0)).records()
        yield from ((row["problem"], row["answer"]) for row in drawn)
    else:
        table = pq.read_table(real / "text" / "deepscaler_partial.parquet").slice(0, TRAINING_ROWS).to_pylist()
        yield from ((row["problem"], row["answer"]) for row in table)


def _items(name: str, real: Path | None) -> Iterator[Record]:
    """Items of a benchmark with the columns of its published file."""
    records = _real_records(name, real) if real else [benchmark_record(name, place) for place in _places(name)]
    for place, record in enumerate(records):
        picture = record.pop("image", None) or {"bytes": _drawing(real, place), "path": f"images/{place + 1}.jpg"}
        if name == "mathverse":
            version = VERSIONS[place]
            asked = {"question": "" if version == "Vision Only" else record["question"]}
            told = {"question_for_eval": record["question"], "problem_version": version, "sample_index": str(place + 1)}
            yield {**record, **asked, **told, "image": picture}
        elif name in {"mathvision", "mathvista"}:
            size = dict(zip(("img_width", "img_height"), Image.open(io.BytesIO(picture["bytes"])).size, strict=True))
            about = {"metadata": {**record["metadata"], **size}} if "metadata" in record else {}
            yield {**record, **about, "image": f"images/{place + 1}.jpg", "decoded_image": picture}
        elif name == "olympiadbench":
            shown = {"question": f"{record['question']} <image_1>", "image_1": picture, "modality": "Multimodal"}
            yield {**record, **shown, "id": 1000 + place, "difficulty": "Competition"}
        else:
            yield record


def _places(name: str) -> list[int]:
    return [0] * len(VERSIONS) if name == "mathverse" else list(range(ITEMS))


def _drawing(real: Path | None, place: int) -> bytes:
    """A picture of another row, for those whose own are not at hand."""
    if real is None:
        drawn: bytes = benchmark_record("mathvision", 20 + place)["image"]["bytes"]
        return drawn
    found: bytes = _mathvision(real)[ITEMS + place]["image"]["bytes"]
    return found


def _small(picture: bytes) -> bool:
    width, height = Image.open(io.BytesIO(picture)).size
    return width * height <= SMALL


@functools.cache
def _mathvision(real: Path) -> list[Record]:
    """The first items with small pictures: the benchmark's own, then those that lend their pictures to others."""
    rows = pq.read_table(real / "bench" / "mathvision_testmini.parquet").to_pylist()
    small = [row for row in rows if _small(row["images"][0]["bytes"])][: ITEMS + len(VERSIONS)]
    return [{**row, "level": int(row["level"]), "image": row["images"][0]} for row in small]


def _real_records(name: str, real: Path) -> list[Record]:
    def table(file: str) -> list[Record]:
        return pq.read_table(real / file).slice(0, ITEMS).to_pylist()

    if name == "math500":
        return table("text/math500.parquet")
    if name == "mathverse":
        return [json.loads((real / "bench" / "mathverse_testmini_text_only.json").read_text("utf-8"))[0]] * len(
            VERSIONS
        )
    if name == "mathvision":
        return [dict(row) for row in _mathvision(real)[:ITEMS]]
    if name == "mathvista":
        found = json.loads((real / "bench" / "mathvista_testmini_text.json").read_text("utf-8"))
        return [{key: value for key, value in found[str(n)].items() if key != "image"} for n in range(1, ITEMS + 1)]
    rows = table("text/olympiadbench_oe_tp_maths_en.parquet")
    parsed = {"question_type": "Open-ended", "subject": "Math", "language": "English"}
    return [
        {**row, **parsed, "final_answer": ast.literal_eval(row["final_answer"]), "solution": ["..."],
         "is_multiple_answer": row["is_multiple_answer"] == "true"}
        for row in rows
    ]  # fmt: skip


# Checkpoints

QWEN_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}"
    "<|im_end|>\n{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}Picture "
    "{{ image_count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}{% if add_vision_id %}Video "
    "{{ video_count.value }}: {% endif %}<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}"
    "{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}"
    "<|im_start|>assistant\n{% endif %}"
)
"""The chat template of the published Qwen2-VL and Qwen2.5-VL checkpoints."""


def qwen25(*, tied: bool) -> Files:
    """Qwen2.5-VL-Instruct as published by transformers 4.41: flat configuration, weights in two files with an index."""
    vision = {"depth": 4, "hidden_act": "silu", "hidden_size": 192, "intermediate_size": 512, "num_heads": 6}
    vision |= {"in_chans": 3, "out_hidden_size": 256, "spatial_patch_size": 14, "window_size": 112}
    vision |= {"fullatt_block_indexes": [1, 3], "tokens_per_second": 2}
    weights = _tensors()
    if not tied:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    generation = {"repetition_penalty": 1.05, "temperature": 0.000001}
    return _checkpoint("Qwen2_5_VL", "qwen2_5_vl", vision, weights, generation, tied=tied)


def qwen2(*, tied: bool, extra: Files | None = None) -> Files:
    """Qwen2-VL-Instruct as published by transformers 4.41, from which OmniCaptioner and GME are trained."""
    vision = {"depth": 4, "embed_dim": 192, "mlp_ratio": 3, "num_heads": 6, "in_chans": 3, "hidden_size": 256}
    weights: dict[str, tuple[str, list[int], bytes]] = {}
    for name, (dtype, shape, data) in _tensors().items():
        if name.startswith("visual."):
            name = name.replace("mlp.up_proj", "mlp.fc1").replace("mlp.down_proj", "mlp.fc2")  # noqa: PLW2901
            if "gate_proj" in name:
                continue
            if (
                "mlp.fc" in name
            ):  # 512 features are no whole multiple of 192, as this configuration has it: 64 of nothing
                shape, data = _widened(name, shape, data)  # noqa: PLW2901
            if "norm" in name or "ln_q" in name:
                weights[name.replace(".weight", ".bias")] = (dtype, shape, bytes(len(data)))
        weights[name] = (dtype, shape, data)
    if not tied:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    generation = {"temperature": 0.01, "top_k": 1, "top_p": 0.001}
    return {**_checkpoint("Qwen2VL", "qwen2_vl", vision, weights, generation, tied=tied), **(extra or {})}


def _widened(name: str, shape: list[int], data: bytes) -> tuple[list[int], bytes]:
    if "fc2.bias" in name:
        return shape, data
    if "fc1" in name:
        return [576, *shape[1:]], data + bytes(len(data) // 512 * 64)
    return [shape[0], 576], b"".join(data[row * 1024 : row * 1024 + 1024] + bytes(128) for row in range(shape[0]))


def _checkpoint(
    family: str, kind: str, vision: Record, weights: dict[str, Any], generation: Record, *, tied: bool
) -> Files:
    names = ("config", "tokenizer", "tokenizer_config")
    own = {name: json.loads((BUNDLED_FOLDER / f"{name}.json").read_text("utf-8")) for name in names}
    text = own["config"]["text_config"]
    marks = {name: value for name, value in own["config"].items() if name.endswith("token_id")}
    kept = ("attention_dropout", "bos_token_id", "eos_token_id", "hidden_act", "hidden_size", "initializer_range")
    kept += ("intermediate_size", "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "rms_norm_eps")
    config = {"architectures": [f"{family}ForConditionalGeneration"], **{name: text[name] for name in kept}, **marks}
    config |= {"vision_token_id": marks["vision_start_token_id"] + 2, "max_position_embeddings": 128_000}
    config |= {"max_window_layers": 5, "model_type": kind, "rope_theta": 10_000.0, "sliding_window": 32_768}
    config |= {"tie_word_embeddings": tied, "torch_dtype": "bfloat16", "transformers_version": "4.41.2"}
    config |= {"use_cache": True, "use_sliding_window": False, "vocab_size": text["vocab_size"]}
    config["vision_config"] = {**vision, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
    config["rope_scaling"] = {"type": "mrope", "mrope_section": text["rope_parameters"]["mrope_section"]}
    model = own["tokenizer"]["model"]
    # Two words change places: the checkpoint is none of tiny-vl's line, and is asked with the prompts for real models.
    one, other = list(model["vocab"])[:2]
    model["vocab"] |= {one: model["vocab"][other], other: model["vocab"][one]}
    picture = {
        "min_pixels": 3136,
        "max_pixels": 12_845_056,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }
    picture |= {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    picture |= {"image_processor_type": "Qwen2VLImageProcessor"}
    picture["processor_class"] = f"{family}Processor"
    told = {"bos_token_id": text["bos_token_id"], "pad_token_id": text["pad_token_id"], "do_sample": True}
    told |= {"eos_token_id": [text["eos_token_id"], text["pad_token_id"]], **generation}
    merges = "\n".join(" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"])
    files = {
        "config.json": config,
        "generation_config.json": {**told, "transformers_version": "4.49.0"},
        "preprocessor_config.json": picture,
        "chat_template.json": {"chat_template": QWEN_TEMPLATE},
        "tokenizer_config.json": {
            **own["tokenizer_config"],
            "chat_template": QWEN_TEMPLATE,
            "processor_class": f"{family}Processor",
        },
        "tokenizer.json": own["tokenizer"],
        "vocab.json": model["vocab"],
    }
    texts = {name: json.dumps(content, indent=2, ensure_ascii=False).encode() for name, content in files.items()}
    return {**texts, "merges.txt": merges.encode(), **_sharded(weights)}


def _tensors() -> dict[str, tuple[str, list[int], bytes]]:
    """Type, shape and bytes of tiny-vl's weights."""
    data = (BUNDLED_FOLDER / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    start = 8 + length
    return {
        name: (
            entry["dtype"],
            entry["shape"],
            data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]],
        )
        for name, entry in header.items()
    }


def _sharded(weights: dict[str, tuple[str, list[int], bytes]]) -> Files:
    names = sorted(weights)
    middle = len(names) // 2
    files: Files = {}
    index = {}
    for number, part in enumerate((names[:middle], names[middle:]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        header: Record = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name in part:
            dtype, shape, data = weights[name]
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
            offset += len(data)
            index[name] = file
        text = json.dumps(header).encode()
        files[file] = struct.pack("<Q", len(text)) + text + b"".join(weights[name][2] for name in part)
    total = sum(len(data) for _, _, data in weights.values())
    about = {"metadata": {"total_size": total}, "weight_map": index}
    return {**files, "model.safetensors.index.json": json.dumps(about, indent=2).encode()}
