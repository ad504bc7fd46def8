r"""Writes reference vectors of GME's own code, which the embedder's parity check compares with.

Runs in an environment of its own, because GME's remote code needs transformers < 4.52 (model card), on a machine that
can hold the 2B model:

    uv run --no-project --python 3.11 --with 'transformers==4.51.3' --with torch --with torchvision --with pillow \
        --with safetensors --with numpy --with accelerate benchmarks/gme_reference.py COMMIT gme.safetensors

then name the file in the recipe: `steps.decontaminate_embeddings.reference = "gme.safetensors"`. COMMIT is the hub
commit of Alibaba-NLP/gme-Qwen2-VL-2B-Instruct whose code you have read: it is executed.

Not run by this project's tests: the weights are 4 GB and not at hand here. Tested is that the file it writes is read.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

MODEL = "Alibaba-NLP/gme-Qwen2-VL-2B-Instruct"

TEXTS = (
    "What is the area of the shaded region?",
    "In the figure, AB is parallel to CD and the angle at E is 40 degrees. Find the angle at F.",
    "How many bars are taller than 30?",
    "If $x^2 + 3x - 10 = 0$ and $x > 0$, what is $x$?",
    "如图，三角形ABC的面积是多少？",
    "Choose the correct answer. (A) 12 (B) 15 (C) 18 (D) 21",
)
SIZES = ((224, 224), (640, 360), (100, 900), (1400, 1100), (48, 48))


def draw_pairs() -> list[tuple[list[bytes], str]]:
    """Return words alone, and words with one drawn picture in each of five sizes (small, wide, tall, large, tiny)."""
    from PIL import Image, ImageDraw

    pairs: list[tuple[list[bytes], str]] = [([], text) for text in TEXTS]
    for number, size in enumerate(SIZES):
        picture = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(picture)
        for step in range(6):
            box = [size[0] * step // 8, size[1] * (5 - step) // 8, size[0] * (step + 2) // 8, size[1] * 7 // 8]
            draw.rectangle(box, outline=(40 * step, 200 - 30 * step, 90), width=3)
        draw.text((5, 5), f"{number}: 3.5 cm", fill="black")
        out = io.BytesIO()
        picture.save(out, "PNG")
        pairs += [([out.getvalue()], TEXTS[number % len(TEXTS)]), ([out.getvalue()], TEXTS[(number + 2) % len(TEXTS)])]
    return pairs


def save(path: Path, checkpoint: str, pairs: list[tuple[list[bytes], str]], vectors: Any) -> None:
    """Write the format of `data_engine.decontamination.embed.read_reference` with safetensors and numpy only."""
    import numpy as np
    from safetensors.numpy import save_file

    tensors = {"vectors": np.ascontiguousarray(vectors, dtype=np.float32)}
    for number, (pictures, _) in enumerate(pairs):
        for place, picture in enumerate(pictures):
            tensors[f"image.{number}.{place}"] = np.frombuffer(picture, dtype=np.uint8)
    told = json.dumps([{"text": text, "images": len(pictures)} for pictures, text in pairs])
    save_file(tensors, path, metadata={"checkpoint": checkpoint, "pairs": told})


def reference_vectors(commit: str, pairs: list[tuple[list[bytes], str]]) -> Any:
    """Vectors [pairs, 1536] by the checkpoint's own `get_text_embeddings` and `get_fused_embeddings`."""
    import numpy as np
    import torch
    from PIL import Image
    from transformers import AutoModel

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float16 if device == "cuda" else torch.float32
    model = AutoModel.from_pretrained(
        MODEL, revision=commit, torch_dtype=dtype, device_map=device, trust_remote_code=True
    )
    rows = []
    for pictures, text in pairs:
        if pictures:
            image = Image.open(io.BytesIO(pictures[0])).convert("RGB")
            vector = model.get_fused_embeddings(texts=[text], images=[image])
        else:
            vector = model.get_text_embeddings(texts=[text])
        row = np.asarray(vector[0].float().cpu(), dtype=np.float32)
        rows.append(row / np.linalg.norm(row))
    return np.stack(rows)


def main() -> None:
    """Write the file named on the command line."""
    if len(sys.argv) != 3:
        sys.exit("usage: gme_reference.py COMMIT FILE.safetensors")
    commit, path = sys.argv[1], Path(sys.argv[2])
    pairs = draw_pairs()
    save(path, f"{MODEL}@{commit}", pairs, reference_vectors(commit, pairs))
    print(f"{len(pairs)} reference vectors in {path.name}")


if __name__ == "__main__":
    main()
