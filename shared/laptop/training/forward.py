"""The training forward of tiny-vl: transformers' weights, plain matrix products, packed trees.

transformers' own forward loops over pictures and calls the CPU's fused attention, whose backward takes a third of a
step. This one computes the same numbers (a test compares them) from the same modules, many pictures at once, and lets
several questions share one picture and prompt: a row holds trees, a tree has a prefix (branch 0) and branches that see
the prefix and themselves only.

Shapes: B rows of L tokens; N pictures of P patches each; D hidden; H heads of size d.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812  # the field's usual name

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import Qwen2_5_VLForConditionalGeneration

_IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
_IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
_PATCH = 14


def patches_of(pixels: Tensor) -> Tensor:
    """uint8 pictures [N, height, width, 3] to normalised patches [N, P, 588] in the order of Qwen's processor.

    The order is by groups of 2 x 2 patches, which the merger joins to one token. The two equal frames that the
    processor makes of a picture are left out: their weights are added instead.
    """
    count, height, width, _ = pixels.shape
    mean, std = torch.tensor(_IMAGE_MEAN), torch.tensor(_IMAGE_STD)
    values = (pixels.float() / 255.0 - mean) / std
    rows, columns = height // _PATCH, width // _PATCH
    grid = values.view(count, rows // 2, 2, _PATCH, columns // 2, 2, _PATCH, 3)
    return grid.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(count, rows * columns, 3 * _PATCH * _PATCH)


def _norm(x: Tensor, module: nn.Module) -> Tensor:
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + module.variance_epsilon)
    return (wide * module.weight).to(x.dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def _vision_angles(rows: int, columns: int, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Cos and sin [P, d] of patch positions, in the merger's order."""
    y = torch.arange(rows).view(rows // 2, 2, 1, 1).expand(rows // 2, 2, columns // 2, 2).permute(0, 2, 1, 3)
    x = torch.arange(columns).view(1, 1, columns // 2, 2).expand(rows // 2, 2, columns // 2, 2).permute(0, 2, 1, 3)
    angles = torch.cat((y.reshape(-1, 1) * inverse, x.reshape(-1, 1) * inverse), dim=-1)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def image_tokens(model: Qwen2_5_VLForConditionalGeneration, pixels: Tensor) -> Tensor:
    """Merged image tokens [N, P/4, D] of equally large uint8 pictures [N, height, width, 3]."""
    tower = model.model.visual
    weight = tower.patch_embed.proj.weight.sum(dim=2).flatten(1)
    dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else weight.dtype
    x = F.linear(patches_of(pixels).to(dtype), weight)
    cos, sin = _vision_angles(pixels.shape[1] // _PATCH, pixels.shape[2] // _PATCH, tower.rotary_pos_emb.inv_freq)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    count, patches, _ = x.shape
    for block in tower.blocks:
        attention = block.attn
        qkv = attention.qkv(_norm(x, block.norm1)).view(count, patches, 3, attention.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        weights = torch.softmax((q @ k.transpose(-1, -2)) * attention.scaling, dim=-1)
        mixed = (weights.to(v.dtype) @ v).transpose(1, 2).reshape(count, patches, -1)
        x = x + attention.proj(mixed)
        x = x + block.mlp(_norm(x, block.norm2))
    merger = tower.merger
    return merger.mlp(_norm(x, merger.ln_q).reshape(count, patches // 4, -1))


def tree_mask(tree: Tensor, branch: Tensor) -> Tensor:
    """Additive mask [B, 1, L, L]: earlier tokens of the same tree that are prefix or of the same branch."""
    length = tree.shape[1]
    same_tree = tree[:, :, None] == tree[:, None, :]
    seen = (branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :])
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    blocked = ~(same_tree & seen & causal)
    return torch.zeros(blocked.shape).masked_fill_(blocked, -1e4)[:, None]


def _text_angles(model: Qwen2_5_VLForConditionalGeneration, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cos and sin [B, 1, L, d] of 3-D positions [3, B, L] (time, row, column share the frequencies by sections)."""
    rotary = model.model.language_model.rotary_emb
    sections = model.config.text_config.rope_parameters["mrope_section"]
    chosen = torch.cat(
        [positions[axis, :, :, None].float().expand(-1, -1, size) for axis, size in enumerate(sections)], dim=-1
    )
    angles = chosen * rotary.inv_freq
    angles = torch.cat((angles, angles), dim=-1)[:, None]
    return angles.cos(), angles.sin()


def hidden_states(  # the inputs of a packed batch
    model: Qwen2_5_VLForConditionalGeneration,
    tokens: Tensor,
    positions: Tensor,
    mask: Tensor,
    *,
    features: Tensor | None,
    slots: Tensor,
) -> Tensor:
    """Final normalised hidden states [B, L, D].

    Args:
        model: the network whose weights are used.
        tokens: ids [B, L].
        positions: 3-D positions [3, B, L].
        mask: additive attention mask [B, 1, L, L].
        features: image tokens of all pictures, [M, D]; None without pictures.
        slots: [B, L], index into `features` or -1.
    """
    text = model.model.language_model
    x = F.embedding(tokens, text.embed_tokens.weight)
    dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else x.dtype
    x = x.to(dtype)
    if features is not None:
        where = slots >= 0
        x = x.masked_scatter(where[..., None], features.to(dtype)[slots[where]])
    cos, sin = (value.to(dtype) for value in _text_angles(model, positions))
    mask = mask.to(dtype)
    batch, length, _ = x.shape
    for layer in text.layers:
        attention = layer.self_attn
        size = attention.head_dim
        normed = _norm(x, layer.input_layernorm)
        q = _rotate(attention.q_proj(normed).view(batch, length, -1, size).transpose(1, 2), cos, sin)
        k = _rotate(attention.k_proj(normed).view(batch, length, -1, size).transpose(1, 2), cos, sin)
        v = attention.v_proj(normed).view(batch, length, -1, size).transpose(1, 2)
        groups = q.shape[1] // k.shape[1]
        # Query heads that share a key head are stacked along the length: one product instead of copied keys.
        q = q.reshape(batch, k.shape[1], groups * length, size)
        scores = (q @ k.transpose(-1, -2)) * size**-0.5
        scores = scores.view(batch, -1, groups, length, length) + mask[:, :, None]
        weights = torch.softmax(scores, dim=-1).view(batch, -1, groups * length, length)
        mixed = (weights.to(v.dtype) @ v).view(batch, -1, length, size).transpose(1, 2).reshape(batch, length, -1)
        x = x + attention.o_proj(mixed)
        x = x + layer.mlp(_norm(x, layer.post_attention_layernorm))
    return _norm(x, text.norm)
