r"""How accurate and how fast is the grader, beside math-verify alone, OpenRLHF's `grade_answer` and mathruler?

Accuracy: every verifier judges the same pairs (the public pairs, where they are beside the checkout, and every sixth
pair of the tests' golden table): accuracy, false accepts, false rejects.
Speed: rollouts of 3,000 characters of reasoning that end in a box, with the golds of MATH500, DeepScaleR and MathVision
(or the golden table's), half of them right: pairs per CPU-second, extraction and children's CPU time included.
Cold: the same with 4,096 rollouts of which no gold, no answer and no reasoning occurs twice, from empty caches, so that
nothing is remembered: wall time, pairs per CPU-second, and which layer settled them.
Layers: which layer settles every gold of the ViRL-shaped rows against itself and against its wrong neighbours.
Writes benchmarks/results/grader.json. Run: `python benchmarks/grader.py` (dependency group `bench` brings mathruler).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / ".." / "shared" / "data"
GOLDEN = ROOT / "tests" / "shared" / "answers" / "golden"
sys.path.insert(0, str(ROOT))

Verifier = Callable[[str, str], bool]
SAMPLE = 6
"""Every sixth golden pair: the slowest verifier takes minutes for them."""


def ours() -> tuple[Verifier, Verifier]:
    """This project's grader on answers and on whole outputs."""
    from shared.answers import grade, grade_output

    return lambda pred, gold: grade(gold, pred).correct, lambda output, gold: grade_output(gold, output).correct


def math_verify_alone() -> tuple[Verifier, Verifier]:
    """math-verify as its README shows: answers between dollar signs (its best mode in facts), outputs as they are."""
    from math_verify import parse, verify

    def judge(pred: str, gold: str) -> bool:
        return bool(verify(parse(f"${gold}$"), parse(f"${pred}$")))

    return judge, lambda output, gold: bool(verify(parse(f"${gold}$"), parse(output)))


def openrlhf() -> tuple[Verifier, Verifier]:
    """OpenRLHF's own grade_answer behind its extract_boxed_answer."""
    import importlib.util

    spec = importlib.util.find_spec("openrlhf")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("openrlhf is not installed")
    path = (
        Path(next(iter(spec.submodule_search_locations))) / "utils" / "math_utils.py"
    )  # the package's __init__ would load torch
    module_spec = importlib.util.spec_from_file_location("openrlhf_math_utils", path)
    if module_spec is None or module_spec.loader is None:
        raise ImportError("openrlhf.utils.math_utils is gone")
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    extract = getattr(module, "extract_boxed_answer", None) or _last_box
    return module.grade_answer, lambda output, gold: module.grade_answer(extract(output), gold)


def mathruler() -> tuple[Verifier, Verifier]:
    """Mathruler's grade_answer behind its extract_boxed_content (EasyR1's way)."""
    from mathruler.grader import extract_boxed_content, grade_answer

    return grade_answer, lambda output, gold: grade_answer(extract_boxed_content(output), gold)


def _last_box(output: str) -> str:
    start = output.rfind(r"\boxed{") + len(r"\boxed{")
    return output[start : output.rfind("}")]


VERIFIERS: dict[str, Callable[[], tuple[Verifier, Verifier]]] = {
    "infi-mmr": ours,
    "math-verify 0.9.0": math_verify_alone,
    "OpenRLHF grade_answer": openrlhf,
    "mathruler": mathruler,
}


def pairs() -> dict[str, list[dict]]:
    """Graded pairs by the name of their set."""
    sets = {f"golden {n}": _rows(GOLDEN / f"{n}.jsonl")[::SAMPLE] for n in ("frozen", "open", "hand")}
    public = DATA / "answer_pairs_public.jsonl"
    if public.exists():
        sets["public, undisputed"] = [r for r in _rows(public) if not r["contested"]]
    return sets


def _rows(path: Path) -> list[dict]:
    """Rows of a pairs file, without the power tower, on which verifiers without a deadline hang."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [r for r in rows if "9^{9^{9" not in r["gold"] + r["pred"]]


def golds(every: int = 12) -> list[str]:
    """Real golds, or the golden table's where the data is absent; `every` thins out DeepScaleR (and MathVision)."""
    if not DATA.exists():
        return [r["gold"] for r in _rows(GOLDEN / "open.jsonl")]
    import polars as pl

    found = list(pl.read_parquet(DATA / "text/math500.parquet")["answer"])
    found += [a for a in pl.read_parquet(DATA / "text/deepscaler_partial.parquet")["answer"] if a][::every]
    found += [
        json.loads(line)["answer"] for line in (DATA / "bench/mathvision_test_text.jsonl").read_text().splitlines()
    ][:: max(1, every // 3)]
    return found


def rollouts(count: int) -> list[tuple[str, str]]:
    """`(output, gold)`: 3,000 characters of reasoning with formulas, then a box; half hold another row's gold."""
    draw = random.Random(7)
    pool = golds()
    filler = (
        r"Let us set $x = \frac{a}{b}$ and note that $\sqrt{x^2 + 1} > x$ for all real $x$, so the sum is $< 2n$. "
        r"By the law of cosines, $c^2 = a^2 + b^2 - 2ab\cos\gamma$; substituting gives $12.5 + 3 = 15.5$ and so on. "
    )
    made = []
    for k in range(count):
        gold = draw.choice(pool)
        answer = gold if k % 2 else draw.choice(pool)
        thinking = (filler * 20)[draw.randint(0, 150) :][:2950]
        made.append((f"<think>{thinking}</think>\nThe answer is $\\boxed{{{answer}}}$.", gold))
    return made


def cpu_seconds() -> float:
    """CPU time of this process and its ended children."""
    return sum(
        resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


def judge_all(judge: Verifier, rows: list[dict]) -> dict[str, float]:
    """Accuracy and both kinds of error on graded pairs; an exception counts as not accepted."""
    accepted = [_safely(judge, r["pred"], r["gold"]) for r in rows]
    expected = [r["expected"] for r in rows]
    return {
        "pairs": len(rows),
        "accuracy": round(sum(a == e for a, e in zip(accepted, expected, strict=True)) / len(rows), 4),
        "false_accepts": sum(a and not e for a, e in zip(accepted, expected, strict=True)),
        "false_rejects": sum(e and not a for a, e in zip(accepted, expected, strict=True)),
    }


def _safely(judge: Verifier, pred: str, gold: str) -> bool:
    try:
        return bool(judge(pred, gold))
    except Exception:  # noqa: BLE001  a verifier that raises has not accepted
        return False


def speed(judge: Verifier, work: list[tuple[str, str]]) -> float:
    """Pairs per CPU-second after a short warm-up."""
    for output, gold in work[:20]:
        _safely(judge, output, gold)
    started = cpu_seconds()
    for output, gold in work[20:]:
        _safely(judge, output, gold)
    return round((len(work) - 20) / max(1e-9, cpu_seconds() - started), 1)


def layer_shares(work: list[tuple[str, str]]) -> dict[str, float]:
    """Which layer of this grader settles the rollouts."""
    from shared.answers import grade_output

    counts = Counter(grade_output(gold, output).layer for output, gold in work)
    return {layer: round(n / len(work), 4) for layer, n in counts.most_common()}


def distinct_rollouts(count: int) -> list[tuple[str, str]]:
    """`(output, gold)` of 3,000 characters: golds, answers and reasoning all different; every second answer is wrong.

    Right answers are spelled otherwise than the gold where a usual other spelling exists; wrong ones are neighbours.
    """
    from shared.answers import answer_kind, neighbours

    draw = random.Random(11)
    table = list(dict.fromkeys(golds(every=1) + [answer for answer, _ in virl_golds()]))
    draw.shuffle(table)
    made: list[tuple[str, str]] = []
    answers: set[str] = set()
    for gold in table:
        wrong = list(neighbours(gold, answer_kind(gold)).values())
        answer = wrong[0] if len(made) % 2 else _respelled(gold)
        if answer in answers:
            continue
        answers.add(answer)
        made.append((f"<think>{_reasoning(draw)}</think>\nThe answer is $\\boxed{{{answer}}}$.", gold))
        if len(made) == count:
            break
    return made


def _respelled(gold: str) -> str:
    """The same answer as another writer would put it."""
    if len(gold) > 60 or "\\!" in gold or "{,}" in gold:
        return gold
    if "\\frac" in gold:
        return gold.replace("\\frac", "\\dfrac")
    if gold.isdigit() and len(gold) > 3:
        return f"{int(gold):,}"
    return gold.replace("+", " + ").replace(",", ", ").replace("=", " = ")


def _reasoning(draw: random.Random) -> str:
    """3,000 characters of formulas and prose with numbers of their own."""
    lines: list[str] = []
    while sum(map(len, lines)) < 2_950:
        a, b, c = (draw.randint(2, 999) for _ in range(3))
        lines.append(
            f"Let $x = \\frac{{{a}}}{{{b}}}$; then $\\sqrt{{x^2 + {c}}} > x$, so ${a} + {b} = {a + b}$ and $\\{{{c}\\}}$ is left. "  # noqa: E501
        )
    return "".join(lines)[:2_950]


def forget() -> None:
    """Empty every cache of the grader."""
    for name, module in list(sys.modules.items()):
        if name.startswith("shared.answers"):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def cold(count: int) -> dict[str, Any]:
    """Wall time, rate and layers of distinct rollouts from empty caches. The workers are loaded before."""
    from shared.answers import default_pool, extract_answer, grade_many

    work = distinct_rollouts(count)
    default_pool().warm_up()
    forget()
    before, started = cpu_seconds(), time.perf_counter()
    grades = grade_many((gold, extract_answer(output).answer or "") for output, gold in work)
    wall, here = time.perf_counter() - started, cpu_seconds() - before
    layers = Counter(g.layer for g in grades)
    return {
        "rollouts": len(work),
        "wall_seconds": round(wall, 3),
        "rollouts_per_cpu_second_of_this_process": round(len(work) / here, 1),
        "accepted": sum(g.correct for g in grades),
        "layers": {layer: round(n / len(work), 4) for layer, n in layers.most_common()},
        "load_average": round(os.getloadavg()[0], 1),
    }


def virl_golds() -> list[tuple[str, list[str] | None]]:
    """Golds of the ViRL-shaped rows, out of their boxes; none where the data is absent."""
    path = DATA / "virl_like" / "virl_like.parquet"
    if not path.exists():
        return []
    import polars as pl

    from shared.answers import extract_answer

    return [(extract_answer(answer).answer or answer, None) for answer in pl.read_parquet(path)["answer"] if answer]


def virl_layers() -> dict[str, Any]:
    """Which layer settles each gold of the ViRL-shaped rows against itself and against its wrong neighbours."""
    from shared.answers import answer_kind, grade_many, neighbours

    table = virl_golds()
    itself = grade_many((gold, gold) for gold, _ in table)
    pairs = [(gold, wrong) for gold, _ in table for wrong in neighbours(gold, answer_kind(gold)).values()]
    other = grade_many(pairs)
    counts = Counter(g.layer for g in other)
    return {
        "golds": len(table),
        "kinds": dict(Counter(g.kind for g in itself).most_common()),
        "accepted_against_itself": sum(g.correct for g in itself),
        "wrong_neighbours": len(pairs),
        "wrong_neighbours_accepted": sum(g.correct for g in other),
        "layers_of_wrong_neighbours": {layer: round(n / max(1, len(pairs)), 4) for layer, n in counts.most_common()},
        "symbolic_share_of_all": round(
            sum(g.layer == "symbolic" for g in itself + other) / max(1, len(itself) + len(other)), 4
        ),
    }


def machine() -> str:
    """CPU model and number of cores."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "unknown",
    )
    return f"{model}, {os.cpu_count()} cores"


def main() -> None:
    """Measure, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rollouts", type=int, default=4096, help="rollouts for this grader; a tenth of them for the slower ones"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "grader.json")
    parser.add_argument(
        "--cold-only", action="store_true", help="measure `cold` and the layers of ViRL-shaped golds only"
    )
    arguments = parser.parse_args()
    if arguments.cold_only:
        result = json.loads(arguments.output.read_text(encoding="utf-8"))
        result["cold"], result["virl_shaped_golds"] = cold(arguments.rollouts), virl_layers()
        arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(json.dumps({name: result[name] for name in ("cold", "virl_shaped_golds")}))
        return
    work = rollouts(arguments.rollouts)
    result: dict = {"machine": machine(), "rollout_characters": 3000, "verifiers": {}}
    for name, build in VERIFIERS.items():
        try:
            judge, judge_output = build()
        except ImportError as error:
            result["verifiers"][name] = {"absent": str(error)}
            print(f"{name}: not installed ({error})")
            continue
        entry: dict = {"sets": {set_name: judge_all(judge, rows) for set_name, rows in pairs().items()}}
        entry["rollouts_per_cpu_second"] = speed(
            judge_output, work if name == "infi-mmr" else work[: max(100, len(work) // 12)]
        )
        result["verifiers"][name] = entry
        print(name, json.dumps(entry))
    result["layers"] = layer_shares(work)
    result["cold"], result["virl_shaped_golds"] = cold(arguments.rollouts), virl_layers()
    started = time.perf_counter()
    judge_output = ours()[1]
    for output, gold in work[:4096]:
        judge_output(output, gold)
    result["seconds_for_4096_rollouts_wall"] = round((time.perf_counter() - started) * 4096 / len(work[:4096]), 3)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
