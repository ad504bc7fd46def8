"""What the bundled checkpoint can do, on problems it has never seen, through vLLM as the product drives it.

Every line that the project holds itself to is measured with its standard error: typing by the engine's own prompt and
structured output, captions, embeddings of copies and of different problems, answers by grade, pass@8 against pass@1,
the rate of generation, and typing of real pictures where `../shared/data/virl_like` is there.

    python benchmarks/tiny_vl.py [--checkpoint DIR] [--scale 1.0]

writes `benchmarks/results/tiny_vl.json`. A line that is missed says so; nothing is hidden by a threshold here.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import random
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from machine import machine
from PIL import Image

from shared.laptop import IMAGE_TYPES, PICTURE_KINDS, Problem, draw, draw_family
from shared.laptop.training.evaluate import SPLIT, Ask, asks, by_kind, facts_right, score, share
from shared.prompts import prompt
from shared.vlm import EngineSpec, Sampling, build_conversation, open_engine
from shared.vlm.checkpoint import BUNDLED_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.vlm import VisionLanguageEngine

RESULTS = Path(__file__).parent / "results" / "tiny_vl.json"
REAL = Path(__file__).parents[1] / ".." / "shared" / "data" / "virl_like"
# Sources of the real pictures whose type is beyond doubt. What else is there (puzzles, scenes) is left out.
REAL_TYPES = {"chartqa": "chart", "tabmwp": "table", "geometry3k": "mathgeo", "solidgeo": "mathgeo", "mmvp": "natural"}
ANSWER_TOKENS = 112
EMBEDDINGS = "embeddings"
FIRST = 50_000  # the trainer's own evaluation uses the problems below


def _conversation(ask: Ask) -> list[dict[str, Any]]:
    images = [ask.problem.image_png] if ask.problem.image_png else []
    return build_conversation(ask.system or "", "<image>" * len(images) + ask.text, images)


def _chat(engine: VisionLanguageEngine, asked: list[Ask], sampling: Sampling | list[Sampling]) -> list[str]:
    return [answer.text for answer in engine.chat([_conversation(ask) for ask in asked], sampling)]


def typing(engine: VisionLanguageEngine, count: int) -> dict[str, Any]:
    """Types by the engine's own prompt, restricted to the eight words."""
    asked = asks("type", count, FIRST)
    outputs = _chat(engine, asked, Sampling(max_tokens=8, choice=IMAGE_TYPES))
    scores = [score(ask, output) for ask, output in zip(asked, outputs, strict=True)]
    return {**share(scores), "must": ">= 0.99", "holds": sum(scores) / count >= 0.99, "by_kind": by_kind(asked, scores)}


def captions(engine: VisionLanguageEngine, count: int) -> dict[str, Any]:
    """Exact captions and facts right."""
    asked = asks("caption", count, FIRST)
    outputs = _chat(engine, asked, Sampling(max_tokens=ANSWER_TOKENS))
    scores = [score(ask, output) for ask, output in zip(asked, outputs, strict=True)]
    counts = [facts_right(ask, output) for ask, output in zip(asked, outputs, strict=True)]
    facts = share([1.0] * sum(right for right, _ in counts) + [0.0] * sum(total - right for right, total in counts))
    kinds = by_kind(asked, scores)
    holds = facts["mean"] >= 0.95 and sum(scores) / count >= 0.85 and min(kinds.values()) >= 0.7
    must = "facts >= 0.95, exact >= 0.85, no kind below 0.7"
    return {"exact": share(scores), "facts": facts, "must": must, "holds": holds, "by_kind": kinds}


def answers(engine: VisionLanguageEngine, task: str, count: int, low: float, high: float) -> dict[str, Any]:
    """Greedy accuracy of a task, and the range it shall lie in."""
    asked = asks(task, count, FIRST)
    outputs = _chat(engine, asked, Sampling(max_tokens=ANSWER_TOKENS))
    scores = [score(ask, output) for ask, output in zip(asked, outputs, strict=True)]
    mean = sum(scores) / count
    formed = sum("</think>" in output and "\\boxed{" in output for output in outputs) / count
    row = {**share(scores), "must": f"{low} to {high}", "holds": low <= mean <= high, "format": round(formed, 4)}
    return {**row, "by_kind": by_kind(asked, scores), "guessing": guessing(asked)}


def guessing(asked: list[Ask]) -> dict[str, float]:
    """Accuracy by kind of always giving the kind's commonest answer to the same form."""
    groups: dict[str, dict[str, Counter[str]]] = {}
    for ask in asked:
        groups.setdefault(ask.problem.kind, {}).setdefault(ask.problem.form, Counter())[ask.problem.answer] += 1
    # The commonest answer of each form among other problems, so that a single problem does not guess itself.
    chance = {}
    for kind, forms in sorted(groups.items()):
        hits = sum(max(0, counter.most_common(1)[0][1] - 1) for counter in forms.values())
        chance[kind] = round(hits / max(1, sum(sum(counter.values()) - 1 for counter in forms.values())), 3)
    return chance


def pass_at_8(engine: VisionLanguageEngine, task: str, count: int) -> dict[str, Any]:
    """pass@1 and pass@8 at temperature 1, the room that reinforcement has."""
    asked = asks(task, count, FIRST)
    eight = [ask for ask in asked for _ in range(8)]
    samplings = [Sampling(max_tokens=ANSWER_TOKENS, temperature=1.0, seed=number) for number in range(len(eight))]
    outputs = _chat(engine, eight, samplings)
    right = [score(ask, output) for ask, output in zip(eight, outputs, strict=True)]
    groups = [right[start : start + 8] for start in range(0, len(right), 8)]
    one, best = share([sum(group) / 8 for group in groups]), share([max(group) for group in groups])
    gain = best["mean"] - one["mean"]
    mixed = sum(0 < sum(group) < 8 for group in groups) / len(groups)
    return {
        "pass@1": one,
        "pass@8": best,
        "gain": round(gain, 4),
        "groups with both": round(mixed, 4),
        "must": "gain >= 0.15",
        "holds": gain >= 0.15,
    }


def copies(png: bytes, rng: random.Random) -> dict[str, bytes]:
    """Near copies of a picture as they occur in data sets."""
    with Image.open(io.BytesIO(png)) as opened:
        image = opened.convert("RGB")
    made: dict[str, bytes] = {}

    def keep(name: str, picture: Image.Image, kind: str, **options: int) -> None:
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        made[name] = buffer.getvalue()

    keep("png again", image, "PNG")
    keep("jpeg 75", image, "JPEG", quality=75)
    scale = rng.choice((0.8, 1.5, 2.5))
    keep("resized", image.resize((round(112 * scale), round(112 * scale)), Image.Resampling.BICUBIC), "PNG")
    edge = rng.randint(1, 3)
    keep("cropped", image.crop((edge, edge, 112 - edge, 112 - edge)), "PNG")
    return made


def embeddings(folder: Path, count: int) -> dict[str, Any]:
    """Copies above cosine 0.95, different problems below it: any two, and those made to be confused."""
    rng = random.Random(5)
    kinds = [kind.name for kind in PICTURE_KINDS]
    first = [draw(SPLIT, FIRST + number, kind=kinds[number % len(kinds)]) for number in range(count)]
    texts = [draw(SPLIT, FIRST + number, text_only=True) for number in range(count // 4)]
    asked: list[tuple[list[bytes], str]] = [(_pictures(problem), problem.question) for problem in (*first, *texts)]
    copied: list[tuple[int, str]] = []
    for number, problem in enumerate(first):
        for name, data in copies(problem.image_png or b"", rng).items():
            copied.append((number, name))
            asked.append(([data], problem.question))
    hard = [number for number in range(count) if number % 2 == 0]
    for number in hard:  # the same words about another picture of the same kind
        other = draw(SPLIT, FIRST + 10_000 + number, kind=first[number].kind)
        asked.append((_pictures(other), first[number].question))
    for number in hard:  # another question about the same picture
        family = draw_family(SPLIT, FIRST + number, 6, kind=first[number].kind)
        asked.append((_pictures(family[0]), _other_question(family)))
    with open_engine(EngineSpec(model=str(folder), runner="pooling", max_model_len=1024)) as engine:
        vectors = engine.embed(asked)
    base = count + len(texts)
    near = np.array([vectors[number] @ vectors[base + place] for place, (number, _) in enumerate(copied)])
    by_edit = {
        name: round(
            float(np.mean([value > 0.95 for value, (_, edit) in zip(near, copied, strict=True) if edit == name])), 4
        )
        for name in sorted({edit for _, edit in copied})
    }
    keys = [f"{problem.caption}|{problem.question}" for problem in (*first, *texts)]
    cosines = vectors[:base] @ vectors[:base].T
    pairs = [(a, b) for a in range(base) for b in range(a) if keys[a] != keys[b]]
    apart = np.array([cosines[a, b] for a, b in pairs])
    start = base + len(copied)
    words = np.array([vectors[number] @ vectors[start + place] for place, number in enumerate(hard)])
    start += len(hard)
    picture = np.array(
        [
            vectors[number] @ vectors[start + place]
            for place, number in enumerate(hard)
            if asked[start + place][1] != first[number].question
        ]
    )
    copies_right, apart_right = share((near > 0.95).tolist()), share((apart < 0.95).tolist())
    return {
        "copies above 0.95": {**copies_right, "lowest": round(float(near.min()), 4), "by edit": by_edit},
        "different problems below 0.95": {**apart_right, "highest": round(float(apart.max()), 4)},
        "same words, other picture, below 0.95": share((words < 0.95).tolist()),
        "same picture, other words, below 0.95": share((picture < 0.95).tolist()),
        "must": "copies >= 0.98, different >= 0.99",
        "holds": copies_right["mean"] >= 0.98 and apart_right["mean"] >= 0.99,
    }


def _pictures(problem: Problem) -> list[bytes]:
    return [problem.image_png] if problem.image_png else []


def _other_question(family: list[Problem]) -> str:
    return next((problem.question for problem in family if problem.question != family[0].question), family[0].question)


def rate(engine: VisionLanguageEngine) -> dict[str, Any]:
    """Generated tokens a second at 64 conversations with a picture, after a warm-up round."""
    asked = asks("picture", 64, FIRST + 30_000)
    conversations = [_conversation(ask) for ask in asked]
    sampling = Sampling(max_tokens=64, temperature=1.0, seed=1)
    engine.chat(conversations, sampling)
    begin, tokens = time.perf_counter(), 0
    for _ in range(4):
        tokens += sum(answer.tokens for answer in engine.chat(conversations, sampling))
    speed = tokens / (time.perf_counter() - begin)
    return {"tokens_per_second": round(speed), "batch": 64, "must": ">= 1000", "holds": speed >= 1000}


def real_pictures(engine: VisionLanguageEngine, count: int) -> dict[str, Any]:
    """Typing of real pictures whose source says what they are, against the commonest guess and against chance."""
    import polars as pl

    if not (REAL / "virl_like.parquet").is_file():
        return {"skipped": "the folder ../shared/data/virl_like is not there"}
    rows = pl.read_parquet(REAL / "virl_like.parquet", columns=["source", "image"]).filter(
        pl.col("source").str.to_lowercase().is_in(list(REAL_TYPES)) & (pl.col("image").list.len() == 1)
    )
    found: list[tuple[str, str, bytes]] = []
    for (source,), group in rows.group_by("source", maintain_order=True):
        for name in group["image"].list.first().unique(maintain_order=True).to_list()[:count]:
            data = _small(REAL / name)
            if data:
                found.append((str(source), REAL_TYPES[str(source).lower()], data))
    conversations = [build_conversation("", "<image>" + prompt("type_images"), [data]) for _, _, data in found]
    outputs = [answer.text for answer in engine.chat(conversations, Sampling(max_tokens=8, choice=IMAGE_TYPES))]
    table: dict[str, Any] = {}
    for source in sorted({name for name, _, _ in found}):
        pairs = [(gold, said) for (name, gold, _), said in zip(found, outputs, strict=True) if name == source]
        said = Counter(word for _, word in pairs).most_common(4)
        table[source] = {
            **share([float(gold == word) for gold, word in pairs]),
            "gold": pairs[0][0],
            "said": dict(said),
        }
    wanted = [row for row in table.values() if row["gold"] in {"chart", "table", "mathgeo"}]
    balanced = sum(row["mean"] for row in wanted) / max(1, len(wanted))
    return {"chance": 0.125, "mean of charts, tables, diagrams": round(balanced, 4), "by_source": table}


def _small(path: Path) -> bytes | None:
    """A real picture as PNG, None where it cannot be read."""
    try:
        with Image.open(path) as image:
            picture = image.convert("RGB")
    except OSError:
        return None
    picture.thumbnail((1024, 1024))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def main() -> None:
    """Measure all lines and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=BUNDLED_FOLDER)
    parser.add_argument("--scale", type=float, default=1.0, help="factor of all sample sizes")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--only", default="", help="lines to measure again, separated by semicolons; the others stay")
    options = parser.parse_args()

    def size(count: int) -> int:
        return max(12, math.ceil(count * options.scale / 12) * 12)

    lines: dict[str, Callable[[VisionLanguageEngine], dict[str, Any]]] = {
        "typing": lambda engine: typing(engine, size(480)),
        "captions": lambda engine: captions(engine, size(480)),
        "text arithmetic, easy": lambda engine: answers(engine, "text-easy", size(240), 0.9, 1.0),
        "text arithmetic, medium": lambda engine: answers(engine, "text-medium", size(240), 0.0, 1.0),
        "text arithmetic, hard": lambda engine: answers(engine, "text-hard", size(240), 0.2, 0.6),
        "questions with picture and caption": lambda engine: answers(engine, "picture+caption", size(360), 0.4, 0.7),
        "questions from the picture": lambda engine: answers(engine, "picture", size(480), 0.3, 0.6),
        "pass@8 from the picture": lambda engine: pass_at_8(engine, "picture", size(144)),
        "pass@8 with caption": lambda engine: pass_at_8(engine, "picture+caption", size(72)),
        "pass@8 hard text": lambda engine: pass_at_8(engine, "text-hard", size(72)),
        "real pictures": lambda engine: real_pictures(engine, size(96)),
        "generation": rate,
    }
    names = [*lines, EMBEDDINGS]
    wanted = options.only.split(";") if options.only else names
    if set(wanted) - set(names):
        parser.error(f"--only knows: {', '.join(names)}")
    known = json.loads(options.output.read_text()) if options.only and options.output.is_file() else {}
    table: dict[str, Any] = {**known, "machine": machine()}

    def note(name: str, row: dict[str, Any]) -> None:
        table[name] = row
        print(name, json.dumps(row), flush=True)

    if set(wanted) & set(lines):
        with open_engine(EngineSpec(model=str(options.checkpoint), max_model_len=2048)) as engine:
            for name, measure in lines.items():
                if name in wanted:
                    note(name, measure(engine))
    if EMBEDDINGS in wanted:
        note(EMBEDDINGS, embeddings(options.checkpoint, size(240)))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
