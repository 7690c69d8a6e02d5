"""Muon for matrices, convolutions and their factors, AdamW for the rest, as one optimizer."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the Newton-Schulz iteration."""


class MuonAdamW(Optimizer):
    """Train matrices, convolutions and their factors by Muon, and biases, norms and all else by AdamW.

    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/. A convolution, or a factor of three dimensions, is
    a matrix of a row an output channel; one row of three dimensions, as a position embedding, is AdamW's. Updates have
    the size of AdamW's (Liu et al. 2025, https://arxiv.org/abs/2502.16982), so one learning rate serves both. A
    matrix's step is that of ``torch.optim.Muon`` with ``adjust_lr_fn`` ``match_rms_adamw``.

    Args:
        params: Parameters of the network and the losses.
        lr: Learning rate.
        weight_decay: Decoupled weight decay of all parameters.
        momentum: Muon's momentum, in [0, 1).
        betas: AdamW's averages.
        ns_steps: Newton-Schulz iterations of a step.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        ns_steps: int = 5,
    ) -> None:
        given = list(params)
        matrices = [values for values in given if _is_matrix(values)]
        others = [values for values in given if not _is_matrix(values)]
        self._adamw = AdamW(others or [torch.zeros(0)], lr=lr, betas=betas, weight_decay=weight_decay)
        shared = {"lr": lr, "weight_decay": weight_decay}
        groups: list[dict[str, Any]] = []
        if matrices:
            groups.append({"params": matrices, **shared, "muon": True, "momentum": momentum, "ns_steps": ns_steps})
        if others:
            groups.append({**self._adamw.param_groups[0], "muon": False})
        super().__init__(groups, {**shared, "momentum": momentum, "betas": betas, "ns_steps": ns_steps})
        for group in self.param_groups:  # each has only its own settings
            for name in ("betas",) if group["muon"] else ("momentum", "ns_steps"):
                group.pop(name, None)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have gradients; return the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["muon"]:
                self._update_matrices(group)
        self._adamw.state = self.state
        self._adamw.param_groups = [group for group in self.param_groups if not group["muon"]]
        self._adamw.step()
        return loss

    def _update_matrices(self, group: dict[str, Any]) -> None:
        lr, momentum = float(group["lr"]), group["momentum"]
        for values in group["params"]:
            if values.grad is None:
                continue
            state = self.state[values]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(values)
            average = state["momentum_buffer"].lerp_(values.grad, 1 - momentum)
            step = values.grad.lerp(average, momentum).flatten(1)  # (out, in * height * width)
            values.mul_(1 - lr * group["weight_decay"])
            update = orthogonalized(step, group["ns_steps"]).view(values.shape)
            values.add_(update, alpha=-lr * 0.2 * max(step.shape) ** 0.5)


def _is_matrix(values: Tensor) -> bool:
    return values.ndim in (2, 4) or (values.ndim == 3 and len(values) > 1)


def orthogonalized(matrix: Tensor, steps: int) -> Tensor:
    """Return a matrix (N, M) with its singular values brought near 1, bfloat16, by the Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    result = matrix.to(torch.bfloat16, copy=True)
    is_tall = len(matrix) > matrix.shape[1]
    result = result.T if is_tall else result
    result.div_(result.norm().clamp(min=1e-7))
    for _ in range(steps):
        gram = result @ result.T
        result = torch.addmm(result, torch.addmm(gram, gram, gram, beta=b, alpha=c), result, beta=a)
    return (result.T if is_tall else result).contiguous()
