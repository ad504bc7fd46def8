"""Muon for matrices (Jordan et al. 2024), AdamW for everything else.

Muon replaces a matrix's momentum by its nearest orthogonal matrix (five Newton-Schulz steps) and scales it so that an
update has the root mean square of 0.2 x learning rate, as AdamW's has (Liu et al. 2025, "Muon is scalable").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from shared.processor import has_bfloat16_units

if TYPE_CHECKING:
    from torch import Tensor, nn

_LARGEST = 512
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Approximate U V^T of each matrix of a stack [n, rows, columns]."""
    a, b, c = _COEFFICIENTS
    x = matrices.bfloat16() if has_bfloat16_units() else matrices.float()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.transpose(-1, -2)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.transpose(-1, -2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.transpose(-1, -2) if tall else x).float()


class Muon(torch.optim.Optimizer):  # type: ignore[misc]  # torch is read without types
    """Momentum, orthogonalised; equally shaped matrices are handled in one stack."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.1) -> None:
        """`decay` is decoupled weight decay, multiplied by the learning rate."""
        super().__init__(list(params), {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()  # type: ignore[untyped-decorator]  # likewise
    def step(self, closure: Any = None) -> None:  # torch's own signature
        """One update of all matrices."""
        del closure
        for group in self.param_groups:
            stacks: dict[tuple[int, ...], list[nn.Parameter]] = {}
            for param in group["params"]:
                if param.grad is not None:
                    stacks.setdefault(tuple(param.shape), []).append(param)
            for shape, params in stacks.items():
                updates = []
                for param in params:
                    state = self.state[param]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(param)
                    state["momentum"].lerp_(param.grad, 1 - group["momentum"])
                    updates.append(param.grad.lerp(state["momentum"], group["momentum"]))
                directions = orthogonalise(torch.stack(updates))
                scale = 0.2 * max(shape) ** 0.5 * group["lr"]
                for param, direction in zip(params, directions, strict=True):
                    param.mul_(1 - group["lr"] * group["decay"]).add_(direction, alpha=-scale)


def build_optimisers(
    model: nn.Module, heads: nn.Module, matrix_lr: float, other_lr: float
) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, patch projection, biases, norms and heads."""
    matrices: list[nn.Parameter] = []
    others = list(heads.parameters())
    for name, param in model.named_parameters():
        # The merger's large matrix would cost as much as all others together.
        inside = param.ndim == 2 and "embed_tokens" not in name and min(param.shape) <= _LARGEST
        (matrices if inside else others).append(param)
    return Muon(matrices, matrix_lr), torch.optim.AdamW(others, lr=other_lr, betas=(0.9, 0.95), weight_decay=0.0)
