"""Embeddings by the last token of a Qwen2-VL or Qwen2.5-VL, computed by transformers in this process.

Why not vLLM's pooling runner: GME's reference code passes sequential positions and resizes pictures twice, which
vLLM does not offer (it computes 3-D positions), and a second vLLM engine costs a second start. `pooling = "gme"`
follows the reference; `pooling = "model"` is the architecture's own way.

Each pair is computed alone on a CPU, so that a vector never depends on what else was asked; on a GPU, pairs of similar
length share a padded batch and vectors agree within the number type's rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.errors import InfiMmrError
from shared.images import ImageRefused, decode_rgb
from shared.vlm.checkpoint import checkpoint_folder
from shared.vlm.conversation import EMBEDDING_TAIL, embedding_prompt
from shared.vlm.failures import AskRefusedError, EngineOutOfMemoryError, is_out_of_memory
from shared.vlm.spec import pixel_limits
from shared.vlm.surroundings import cuda_seen, number_type, prepare_environment, quiet

if TYPE_CHECKING:
    from PIL.Image import Image

    from shared.vlm.conversation import Conversation
    from shared.vlm.spec import Answer, EngineSpec, Sampling

GME_FIRST_PIXELS = (4 * 28 * 28, 16_384 * 28 * 28)
"""GME's code resizes to 4..16,384 tokens of 28 x 28 pixels before its processor resizes again (facts: models)."""


class PoolingEngine:
    """A checkpoint that embeds.

    Raises:
        InfiMmrError: missing checkpoint, or not of the Qwen2-VL family.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        folder = checkpoint_folder(spec)
        prepare_environment()
        with quiet():
            import torch
            from transformers import AutoModelForImageTextToText, AutoProcessor

            options = {"trust_remote_code": spec.trust_remote_code}
            processor = AutoProcessor.from_pretrained(folder, **options)
            named = number_type(spec.dtype)
            dtype = "auto" if named == "auto" else getattr(torch, named)
            try:
                whole = AutoModelForImageTextToText.from_pretrained(
                    folder, dtype=dtype, use_safetensors=True, attn_implementation="sdpa", **options
                )
            except ValueError as error:
                message = f"{spec.model} cannot embed: {error}"
                raise InfiMmrError(message, "Name a checkpoint of the Qwen2-VL family.") from error
        self._device = "cuda" if cuda_seen() else "cpu"
        if self._device == "cpu":
            # Sums then have one order, whatever the machine or the worker's settings. By torch's own function: a CPU
            # worker of vLLM in this process replaces the public one by one that warns on stderr and does nothing.
            torch._C.set_num_threads(1)  # noqa: SLF001
        self._model: Any = whole.model.to(self._device).eval()
        self._processor: Any = processor
        self._tail = len(processor.tokenizer(EMBEDDING_TAIL)["input_ids"])
        self._torch: Any = torch

    def embed(self, pairs: Sequence[tuple[Sequence[bytes], str]]) -> np.ndarray:
        """Embed (images, text) pairs: float32 [n, dim], L2-normalised.

        Raises:
            AskRefusedError: a picture is refused or the pictures alone exceed `max_model_len`.
            EngineOutOfMemoryError: start it again with a smaller batch.
        """
        inputs = [self._inputs(images, text) for images, text in pairs]
        size = self.spec.batch_size if self._device == "cuda" else 1
        order = sorted(range(len(inputs)), key=lambda index: len(inputs[index]["input_ids"]))
        vectors: dict[int, np.ndarray] = {}
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            vectors |= zip(batch, self._forward([inputs[i] for i in batch]), strict=True)
        return np.stack([vectors[i] for i in range(len(inputs))]) if inputs else np.zeros((0, 0), np.float32)

    def chat(self, conversations: Sequence[Conversation], sampling: Sampling | Sequence[Sampling]) -> list[Answer]:
        """Refuse: this engine only embeds."""
        del conversations, sampling
        raise InfiMmrError(f"{self.spec.model} was started to embed", 'Ask with runner = "generate".')

    def close(self) -> None:
        """Free the model's memory."""
        import gc

        self._model = None
        gc.collect()
        if self._device == "cuda":
            self._torch.cuda.empty_cache()

    def _inputs(self, images: Sequence[bytes], text: str) -> dict[str, Any]:
        """Token ids [tokens] and, with pictures, pixel_values [patches, features] and image_grid_thw [images, 3]."""
        try:
            pictures = [self._resized(decode_rgb(image)) for image in images]
        except ImageRefused as error:
            raise AskRefusedError(str(error)) from error
        made = self._processed(pictures, text, pixel_limits(self.spec))
        ids = made["input_ids"][0]
        if len(ids) > self.spec.max_model_len and len(pictures) > 1 and self._pictures_cut(ids):
            made = self._processed(pictures, text, self._shared_limits(len(pictures)))
            ids = made["input_ids"][0]
        if len(ids) > self.spec.max_model_len:  # cut the words' end, never the last token: it is the one that is pooled
            if self._pictures_cut(ids):
                message = f"the pictures alone exceed {self.spec.max_model_len} tokens"
                raise AskRefusedError(message, "Lower max_pixels or raise max_model_len.")
            ids = self._torch.cat([ids[: self.spec.max_model_len - self._tail], ids[-self._tail :]])
        inputs: dict[str, Any] = {"input_ids": ids}
        if pictures:
            inputs |= {"pixel_values": made["pixel_values"], "image_grid_thw": made["image_grid_thw"]}
        return inputs

    def _processed(self, pictures: Sequence[Image], text: str, limits: dict[str, int]) -> Any:
        """What the checkpoint's processor makes of a pair, its pictures within `limits`."""
        options = {"images_kwargs": _size(self._processor.image_processor, limits)} if pictures and limits else {}
        prompt = embedding_prompt(text, len(pictures))
        return self._processor(text=[prompt], images=list(pictures) or None, return_tensors="pt", **options)

    def _pictures_cut(self, ids: Any) -> bool:
        """Whether cutting a prompt to `max_model_len` would cut into its pictures."""
        return bool((ids[self.spec.max_model_len - self._tail :] == self._model.config.image_token_id).any())

    def _shared_limits(self, pictures: int) -> dict[str, int]:
        """Pixel limits by which several pictures share what one prompt holds, each as much as any other.

        The reference has no answer: it cuts the prompt at 1,800 tokens, in the midst of pictures, and its model then
        refuses the pair. A quarter of the prompt is left to the words.
        """
        processor = self._processor.image_processor
        side = processor.patch_size * processor.merge_size
        frame = len(self._processor.tokenizer(embedding_prompt("", pictures))["input_ids"])
        tokens = max(1, (self.spec.max_model_len * 3 // 4 - frame) // pictures)
        most = tokens * side * side
        limits = pixel_limits(self.spec)
        least = limits.get("min_pixels") or processor.size["shortest_edge"]
        return {"min_pixels": min(least, most), "max_pixels": min(limits.get("max_pixels") or most, most)}

    def _resized(self, picture: Image) -> Image:
        """GME's first resize; nothing for other checkpoints."""
        if self.spec.pooling != "gme":
            return picture
        from qwen_vl_utils.vision_process import smart_resize

        low, high = GME_FIRST_PIXELS
        height, width = smart_resize(picture.height, picture.width, factor=28, min_pixels=low, max_pixels=high)
        return picture.resize((width, height))

    def _forward(self, batch: list[dict[str, Any]]) -> np.ndarray:
        """Hidden state of each row's last token after the final norm: float32 [n, dim], L2-normalised."""
        torch = self._torch
        longest = max(len(one["input_ids"]) for one in batch)
        ids = torch.zeros((len(batch), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, one in enumerate(batch):
            ids[row, : len(one["input_ids"])] = one["input_ids"]
            mask[row, : len(one["input_ids"])] = 1
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        pictured = [one for one in batch if "pixel_values" in one]
        if pictured:
            inputs["pixel_values"] = torch.cat([one["pixel_values"] for one in pictured]).to(self._model.dtype)
            inputs["image_grid_thw"] = torch.cat([one["image_grid_thw"] for one in pictured])
        if self.spec.pooling == "gme":
            inputs["position_ids"] = torch.arange(longest).expand(3, len(batch), longest)
        else:
            # Token types tell the architecture where pictures stand, for its 3-D positions.
            inputs["mm_token_type_ids"] = (ids == self._model.config.image_token_id).long()
        inputs = {name: value.to(self._device) for name, value in inputs.items()}
        try:
            with torch.inference_mode():
                hidden = self._model(**inputs, use_cache=False).last_hidden_state
        except Exception as error:
            if is_out_of_memory(error):
                message = f"{self.spec.model} ran out of memory with {len(batch)} pairs"
                raise EngineOutOfMemoryError(message, "A smaller batch_size may help.") from error
            raise
        last = hidden[torch.arange(len(batch)), (mask.sum(dim=1) - 1).to(hidden.device)].float()
        return np.asarray(torch.nn.functional.normalize(last, dim=-1).cpu().numpy(), dtype=np.float32)


def _size(image_processor: Any, limits: dict[str, int]) -> dict[str, Any]:
    """Pixel limits in the words of transformers 5: `size` with shortest and longest edge, in pixels of area."""
    size = dict(image_processor.size)
    names = {"min_pixels": "shortest_edge", "max_pixels": "longest_edge"}
    return {"size": size | {names[name]: value for name, value in limits.items()}}
