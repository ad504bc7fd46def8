#!/usr/bin/env bash
# OpenRLHF 0.11.2 names Gemma 4 as one of its two vision models and hands it picture marks as token_type_ids;
# transformers 5.15.0 takes those without a word and without effect: it reads mm_token_type_ids. A Gemma 4 whose picture
# tokens see each other (use_bidirectional_attention "vision") is then trained as if they did not.
# Exit 0: still so, and trainer/families.py refuses Gemma 4 rightly. Exit 1: it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
unset VIRTUAL_ENV PYTHONPATH
python3 -m venv tool && tool/bin/pip install -q uv==0.13.9
tool/bin/uv venv -q run
tool/bin/uv pip install -q -p run/bin/python torch==2.13.0 transformers==5.15.0
tool/bin/uv pip install -q -p run/bin/python --no-deps openrlhf==0.11.2 # its source alone is looked at
cat >look.py <<'PYTHON'
from importlib.metadata import distribution, version

import torch
from transformers import Gemma4Config, Gemma4ForConditionalGeneration, set_seed

text = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "sliding_window": 64, "head_dim": 32, "global_head_dim": 32, "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": 300, "num_kv_shared_layers": 0, "use_bidirectional_attention": "vision",
    "layer_types": ["sliding_attention", "full_attention"],
}
vision = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 4,
    "num_key_value_heads": 2, "head_dim": 16, "pooling_kernel_size": 2, "position_embedding_size": 64,
}
tokens = {"image_token_id": 299, "video_token_id": 298, "audio_token_id": 297, "boi_token_id": 296, "eoi_token_id": 295}
set_seed(0)
model = Gemma4ForConditionalGeneration(Gemma4Config(text_config=text, vision_config=vision, **tokens)).eval()
ids = torch.tensor([[1, 2, 296, 299, 299, 299, 299, 295, 5, 6]])
places = torch.tensor([[(number % 4, number // 4) for number in range(16)]])
asked = {"input_ids": ids, "pixel_values": torch.rand(1, 16, 48), "image_position_ids": places}
marks = (ids == 299).to(torch.int32)
with torch.no_grad():
    plain = model(**asked).logits
    theirs = model(**asked, token_type_ids=marks).logits
    marked = model(**asked, mm_token_type_ids=marks).logits
source = distribution("openrlhf").locate_file("openrlhf/models/actor.py").read_text(encoding="utf-8")
line = next(line.strip() for line in source.splitlines() if '"token_type_ids"' in line)
print(f"openrlhf {version('openrlhf')}: {line}")
print(f"transformers {version('transformers')}: logits with token_type_ids are those without: {torch.equal(theirs, plain)}")
print(f"with mm_token_type_ids they differ by {(marked - plain).abs().max():.3f}")
raise SystemExit(not (torch.equal(theirs, plain) and not torch.equal(marked, plain)))
PYTHON
HF_HUB_OFFLINE=1 run/bin/python look.py 2>/dev/null
