"""Program of `test_problem.py`: our agent and OpenRLHF's own executor on one real engine, in float32 unless told.

Runs OpenRLHF's rollout actor without Ray, because both executors then stand in one process. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from trainer.openrlhf_bridge.problem import Request
from trainer.openrlhf_bridge.step_profile import StepProfile

PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
LABEL = json.dumps({"id": "row", "gold": "5", "kind": "integer"})


def draw(folder: Path) -> dict[str, str]:
    """Three pictures, one of them cut short."""
    places = {}
    for number, (name, size) in enumerate({"wide": (224, 112), "tall": (84, 168), "torn": (112, 112)}.items()):
        picture = Image.new("RGB", size, (250, 250 - 20 * number, 240))
        ImageDraw.Draw(picture).ellipse((10, 10, 60, 60), fill=(20 * number, 90, 200))
        places[name] = str(folder / f"{name}.png")
        picture.save(places[name])
    whole = Path(places["torn"]).read_bytes()
    Path(places["torn"]).write_bytes(whole[: len(whole) // 2])
    return places


def problems(places: dict[str, str]) -> dict[str, tuple[str, list[str] | None]]:
    """Prompt and pictures by name."""
    return {
        "one picture": (f"user\n{PICTURE}How many? assistant\n", [places["wide"]]),
        "several pictures": (f"user\n{PICTURE} and {PICTURE}Compare. assistant\n", [places["wide"], places["tall"]]),
        "the same picture again": (f"user\n{PICTURE}What colour? assistant\n", [places["wide"]]),
        "no picture": ("user\nWhat is 2 + 3? assistant\n", None),
    }


def same(ours: Any, theirs: Any) -> bool:
    """Whether two values are equal to the last bit, tensors included."""
    import torch

    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, torch.Tensor):
        return ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    return bool(ours == theirs)


def parameters(processor: Any, **values: Any) -> Any:
    """What OpenRLHF's generator asks for, with the ban that the former agent put into it."""
    from vllm import SamplingParams

    banned = {processor.image_token_id: -100.0, processor.video_token_id: -100.0}
    return SamplingParams(
        max_tokens=24, min_tokens=1, logprobs=1, skip_special_tokens=False, logit_bias=banned, **values
    )


async def start(checkpoint: str, processor: Any, dtype: str) -> Any:
    """OpenRLHF's rollout actor with our agent."""
    from openrlhf.trainer.ray.vllm_engine import RolloutRayActor

    from trainer.openrlhf_bridge.arguments import AGENT

    kind = RolloutRayActor.__ray_metadata__.modified_class
    actor = kind.__new__(kind)
    await actor.__init__(
        model=checkpoint, dtype=dtype, max_model_len=512, enforce_eager=True, seed=42, num_gpus=0,
        distributed_executor_backend="uni", limit_mm_per_prompt={"image": 2}, logprobs_mode="processed_logprobs",
        max_logprobs=1, enable_prefix_caching=False, agent_func_path=str(AGENT),
        worker_extension_cls="openrlhf.trainer.ray.vllm_worker_wrap.WorkerWrap",
        mm_pad_token_ids={processor.image_token_id, processor.video_token_id},
    )  # fmt: skip
    return actor


async def beside_openrlhf(actor: Any, processor: Any, places: dict[str, str]) -> dict[str, Any]:
    """Each problem through both executors, greedy and with a seed; then what cannot be read."""
    from openrlhf.utils.agent import SingleTurnAgentExecutor

    agent, theirs_execute = actor.executor, SingleTurnAgentExecutor.execute
    differing: list[str] = []
    for name, (prompt, pictures) in problems(places).items():
        for how in ({"temperature": 0.0}, {"temperature": 1.0, "seed": 7}):
            asked = (prompt, LABEL, parameters(processor, **how), 512, processor, actor, pictures)
            theirs = await theirs_execute(agent, *asked)
            ours = await agent.execute(*asked)
            keys = theirs.keys() - {"reward", "scores", "extra_logs"}
            differing += [f"{name}, {how}: {key}" for key in keys if not same(ours[key], theirs[key])]
    failures: dict[str, list[str]] = {}
    greedy = parameters(processor, temperature=0.0)
    for name, place in {"torn": places["torn"], "missing": "no-such-file.png"}.items():
        asked = (f"user\n{PICTURE}? assistant\n", LABEL, greedy, 512, processor, actor, [place])
        for execute in (partial(theirs_execute, agent), agent.execute):
            try:
                await execute(*asked)
            except (OSError, ValueError) as error:
                failures.setdefault(name, []).append(f"{type(error).__name__}: {error}")
    long = f"user\n{PICTURE}{'word ' * 600}assistant\n"
    try:
        await agent.execute(long, LABEL, greedy, 512, processor, actor, [places["wide"]])
    except ValueError as error:
        failures["too long"] = [str(error)]
    return {"differing": differing, "failures": failures}


async def together(actor: Any, processor: Any, places: dict[str, str]) -> dict[str, Any]:
    """Several samples of one problem, then two problems with the same pictures, at once."""
    calls = 0
    original = type(processor.image_processor).preprocess

    def counted(*arguments: Any, **values: Any) -> Any:
        nonlocal calls
        calls += 1
        return original(*arguments, **values)

    type(processor.image_processor).preprocess = counted
    prompt, pictures = problems(places)["several pictures"]
    asked = {"prompt": prompt, "label": LABEL, "max_length": 512, "hf_tokenizer": processor, "images": pictures}
    warm, greedy = parameters(processor, temperature=1.0), parameters(processor, temperature=0.0)
    results = await actor.generate_responses(**asked, num_samples=8, sampling_params=warm)
    found = {
        "processed": calls,
        "tensors": len({id(result["mm_train_inputs"]) for result in results}),
        "texts": len({tuple(result["observation_tokens"]) for result in results}),
        "left behind": len(actor.executor._problems),
    }
    pairs = [
        actor.generate_responses(**asked, num_samples=2, sampling_params=parameters(processor, temperature=0.0))
        for _ in range(2)
    ]
    both = [one for pair in await asyncio.gather(*pairs) for one in pair]
    await actor.llm.reset_mm_cache()  # what a push of weights does
    both += await actor.generate_responses(**asked, num_samples=1, sampling_params=greedy)
    type(processor.image_processor).preprocess = original
    found["greedy texts"] = len({tuple(one["observation_tokens"]) for one in both})
    return found | await after_a_miss(actor, Request(prompt, pictures, processor, greedy, 512))


async def after_a_miss(actor: Any, request: Any) -> dict[str, Any]:
    """One problem asked twice; in between the engine loses its pictures, as where its cache is too small for all."""
    profile = StepProfile()
    async with actor.executor._problems.sample(request, actor.llm.renderer, profile) as problem:
        first = await problem.ask(actor.llm, profile)
        await actor.llm.reset_mm_cache()
        second = await problem.ask(actor.llm, profile)
    return {"after a miss": [list(first.token_ids) == list(second.token_ids), second.finish_reason]}


def engines_own_input(actor: Any, processor: Any, places: dict[str, str]) -> dict[str, bool]:
    """Whether vLLM's own renderer makes the same of a problem as we hand it."""
    import torch
    from openrlhf.utils.vlm_utils import dedup_media_tokens, process_prompt_with_images

    from trainer.openrlhf_bridge.problem import engine_inputs

    prompt, pictures = problems(places)["several pictures"]
    ids, tensors, opened = process_prompt_with_images(processor, prompt, pictures)
    raw = dict(processor(text=[prompt], images=opened, return_tensors="pt", do_rescale=False, do_normalize=False))
    asked = {
        "prompt_token_ids": dedup_media_tokens(ids, {processor.image_token_id}),
        "multi_modal_data": {"image": opened},
    }
    (theirs,) = actor.llm.renderer.render_cmpl([asked], skip_mm_cache=True)
    ours, _ = engine_inputs(actor.llm.renderer, processor, ids, raw, tensors)
    pairs = list(zip(ours["mm_kwargs"]["image"], theirs["mm_kwargs"]["image"], strict=True))
    return {
        "tokens": ours["prompt_token_ids"] == theirs["prompt_token_ids"],
        "places": ours["mm_placeholders"] == theirs["mm_placeholders"],
        "fields": all(mine.keys() == other.keys() for mine, other in pairs),
        "tensors": all(torch.equal(mine[key].data, other[key].data) for mine, other in pairs for key in other),
    }


async def main(checkpoint: str, folder: Path, dtype: str = "float32") -> dict[str, Any]:
    """Everything the test looks at."""
    from transformers import AutoProcessor

    processor, places = AutoProcessor.from_pretrained(checkpoint), draw(folder)
    actor = await start(checkpoint, processor, dtype)
    found = {
        **await beside_openrlhf(actor, processor, places),
        **await together(actor, processor, places),
        "engine": engines_own_input(actor, processor, places),
    }
    actor.llm.shutdown()
    return found


if __name__ == "__main__":
    os.environ["RAY_ADDRESS"] = "none"  # OpenRLHF's actor would look Ray up, also for its GPU
    os.environ.pop("RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", None)
    sys.stdout.write(
        "RESULT" + json.dumps(asyncio.run(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:] or ["float32"]))) + "\n"
    )
