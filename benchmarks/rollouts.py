"""What OpenRLHF's rollout actor and the process that collects do beside the engine: this build against an earlier one.

    python benchmarks/rollouts.py --pictures ../shared/data/virl_like/images --before 4ba8961

A step of the paper's size, 256 problems with pictures x 16 rollouts, with real picture sizes and an engine that answers
at once (`engine_stand_in.py`). Real are OpenRLHF's rollout actor, sample generator, experience maker, actor groups and
replay buffer, our agent, Ray, and vLLM's front end, scheduler and process; the model is not, nor are the forward passes
of policy and reference. The build before is taken from git as it was. It held 16 copies of every picture: of the whole
step it would need 31 GB, so it is measured with fewer problems, and this build with as many, beside the whole step.
The processor has Qwen2.5-VL's bounds of picture sizes, and a tokenizer of 151,000 tokens.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import machine

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results" / "rollouts.json"
MAX_PIXELS, MIN_PIXELS = 1_003_520, 3_136
SAMPLES = 16
AT_ONCE = 256
"""Rollouts that the engine works on at once."""
TEXT_ROLLOUTS, TEXT_TOKENS = 512, 128
PICTURE_TOKENS = 64


def make_checkpoint(folder: Path) -> Path:
    """tiny-vl's configuration with the real bounds of picture sizes and a tokenizer of the real size; no weights."""
    from shared.vlm.checkpoint import BUNDLED_FOLDER

    shutil.copytree(BUNDLED_FOLDER, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    processor = json.loads((folder / "processor_config.json").read_text())
    for part in ("image_processor", "video_processor"):
        if part in processor:
            processor[part]["size"] = {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}
    (folder / "processor_config.json").write_text(json.dumps(processor))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary, merges = tokenizer["model"]["vocab"], tokenizer["model"]["merges"]
    number = 1 + max(*vocabulary.values(), *(token["id"] for token in tokenizer["added_tokens"]))
    first = list(vocabulary)[:700]
    for left, right in itertools.product(first, first):
        if len(vocabulary) >= 151_000:
            break
        if left + right not in vocabulary:
            vocabulary[left + right] = number
            merges.append([left, right])
            number += 1
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["vocab_size"] = number
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def pick_pictures(folder: Path, count: int) -> list[str]:
    """Pictures that decode, drawn with a fixed seed."""
    from PIL import Image

    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".png", ".jpg", ".jpeg"})
    random.Random(19).shuffle(files)
    chosen: list[str] = []
    for path in files:
        if len(chosen) == count:
            break
        try:
            with Image.open(path) as picture:
                picture.convert("RGB")
                if max(picture.size) / min(picture.size) < 100:
                    chosen.append(str(path))
        except OSError:
            continue
    return chosen


def build_of(revision: str, folder: Path) -> Path:
    """The packages of a revision, or of this checkout where it is empty."""
    if not revision:
        return ROOT
    folder.mkdir()
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", revision, "trainer", "shared"], stdout=subprocess.PIPE, check=True
    )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    return folder


def run_side(build: Path, side: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Some jobs with the packages of one build."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "CUDA_"))}
    environment |= json.loads(
        subprocess.run(
            [sys.executable, "-c", ENVIRONMENT, str(scratch / "parts")], env={**environment, "PYTHONPATH": str(build)},
            stdout=subprocess.PIPE, text=True, check=True, cwd=scratch,
        ).stdout
    )  # fmt: skip
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], str(build), str(Path(__file__).parent)])
    file = scratch / "jobs.json"
    file.write_text(json.dumps({"scratch": str(scratch / "ray"), **side}))
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("rollouts_side.py")), str(file)],
        env=environment, stdout=subprocess.PIPE, text=True, check=True, cwd=scratch,
    )  # fmt: skip
    return dict(json.loads(ran.stdout.split("RESULT")[1].splitlines()[0]))


ENVIRONMENT = """
import json, sys
from trainer.openrlhf_bridge import cpu_compat
from trainer.openrlhf_bridge.agent_settings import SETTINGS, AgentSettings
from trainer.openrlhf_bridge.private_ray import LOOPBACK
told = {"rollouts": sys.argv[1]} if "rollouts" in AgentSettings.__dataclass_fields__ else {}  # of an earlier build
print(json.dumps({**cpu_compat.environment(), **LOOPBACK, SETTINGS: AgentSettings(**told).to_json(),
    "INFI_MMR_RECORDS": sys.argv[1],
    "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1",
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0",
    "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "RAY_ADDRESS": ""}))
"""


def jobs(arguments: argparse.Namespace, scratch: Path) -> dict[str, dict[str, Any]]:
    """What each side does."""
    pictures = pick_pictures(arguments.pictures, arguments.problems)
    question = "<|vision_start|><|image_pad|><|vision_end|>What is the size of the angle that is marked? "
    shown = [(f"{question}({number})", [path]) for number, path in enumerate(pictures)]
    texts = [(f"What is {number} + {number}? " * 10, None) for number in range(TEXT_ROLLOUTS // SAMPLES)]
    common = {"checkpoint": str(make_checkpoint(scratch / "checkpoint")), "samples": SAMPLES, "at_once": AT_ONCE}

    def job(rows: list[Any], tokens: int) -> dict[str, Any]:
        return {**common, "rows": rows, "problems": len(rows), "tokens": tokens, "max_length": 2048}

    return {
        "text": job(texts, TEXT_TOKENS),
        "pictures": job(shown[: arguments.problems_before], PICTURE_TOKENS),
        "whole step": job(shown, PICTURE_TOKENS),
    }


SIDES = (
    # build, jobs of one start of the engine
    ("before", ("text", "pictures")),
    ("now", ("text", "pictures", "whole step")),
)


def ratios(before: dict[str, Any], now: dict[str, Any]) -> dict[str, float]:
    """This build over the one before."""

    def of(job: str, key: str) -> float:
        return round(float(now[job][key]) / float(before[job][key]), 3)

    grown = [
        side["pictures"]["collector_peak_bytes"] - side["pictures"]["collector_idle_bytes"] for side in (now, before)
    ]
    # every picture of the step before lay in 16 copies, so its memory grows with the problems
    more = now["whole step"]["rollouts"] / before["pictures"]["rollouts"]
    whole_before = before["pictures"]["collector_idle_bytes"] + more * grown[1]
    return {
        "actor_seconds_per_token_text": of("text", "actor_microseconds_per_token"),
        "actor_seconds_per_token_pictures": of("pictures", "actor_microseconds_per_token"),
        "bytes_that_leave_the_actor": of("pictures", "result_bytes"),
        "collector_peak_memory": of("pictures", "collector_peak_bytes"),
        "collector_memory_grown": round(grown[0] / grown[1], 3),
        "collector_peak_memory_whole_step_estimated": round(
            now["whole step"]["collector_peak_bytes"] / whole_before, 3
        ),
        "collector_seconds": of("pictures", "collector_seconds"),
        "generation_seconds_pictures": of("pictures", "generation_seconds"),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help="Folder of pictures, as ViRL39K's.")
    parser.add_argument("--before", default="4ba8961", help="Revision of the build before.")
    parser.add_argument("--problems", type=int, default=256)
    parser.add_argument("--problems-before", type=int, default=24, help="Problems that the build before can hold.")
    parser.add_argument("--store-gib", type=float, default=8.0, help="Ray's shared memory.")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="roll-"))
    found: dict[str, dict[str, Any]] = {"before": {}, "now": {}}
    try:
        todo = jobs(arguments, scratch)
        builds = {"before": build_of(arguments.before, scratch / "before"), "now": build_of("", scratch)}
        for build, names in SIDES:
            side = {"jobs": {name: todo[name] for name in names}, "verbose": arguments.verbose,
                    "store_bytes": int(arguments.store_gib * 2**30)}  # fmt: skip
            found[build] |= run_side(builds[build], side, scratch)
            print(build, json.dumps(found[build]), file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    result = {
        "question": "what rollout actor and collecting process cost beside the engine, against the build before",
        "machine": machine(),
        "before": arguments.before,
        "sizes": {
            "text": {"rollouts": TEXT_ROLLOUTS, "answer_tokens": TEXT_TOKENS, "at_once": AT_ONCE},
            "pictures": {"problems": arguments.problems_before, "samples": SAMPLES, "answer_tokens": PICTURE_TOKENS},
            "whole step": {"problems": arguments.problems, "samples": SAMPLES, "answer_tokens": PICTURE_TOKENS},
        },
        "ratios": ratios(found["before"], found["now"]),
        "measured": found,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
