"""Batch norm that is right in second order and lets its user say whose statistics it takes.

Under torch.func's transforms it is written out in elementary operations: torch's fused
`F.batch_norm(training=True)` is silently wrong when a vmapped function is differentiated twice (2 %
of Conv-4's meta-gradient). Autograd alone differentiates that one rightly, and Conv-4 is a sixth
faster with it; on a CPU its second derivative is written out here in terms of its first, in a third
of the time of torch's own. A task has no statistics before it is seen, so running ones are for
learners that don't adapt by gradient alone.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from metarl.core.adapt import inside_transform


class BatchNorm(nn.Module):
    """y = γ (x − mean) / √(var + ε) + β for each feature (Ioffe & Szegedy 2015, arXiv:1502.03167).

    Mean and (biased) variance are those of the first `num_reference` examples, or of the whole
    batch if None. The whole batch is what the papers on gradient-based few-shot learning take, also
    at test time: *transductive*, since each answer then depends on the other questions. With the
    support set as reference it doesn't.
    """

    def __init__(self, num_features: int, *, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.epsilon = epsilon

    def forward(self, x: Tensor, num_reference: int | None = None) -> Tensor:
        """[B, C] or [B, C, H, W] -> the same shape."""
        # Torch's own refuses a single value a feature, and knows no reference.
        if num_reference is None and x.numel() > x.shape[1] and not inside_transform():
            if x.device.type == "cpu" and torch.is_grad_enabled():
                return _Normalised.apply(x, self.weight, self.bias, self.epsilon)
            return functional.batch_norm(
                x, None, None, self.weight, self.bias, training=True, eps=self.epsilon
            )
        shape = (1, -1, *(1,) * (x.dim() - 2))
        dims = (0, *range(2, x.dim()))
        of = x if num_reference is None else x[:num_reference]
        mean = of.mean(dims, keepdim=True)
        variance = (of - mean).square().mean(dims, keepdim=True)
        scale = self.weight.reshape(shape) * torch.rsqrt(variance + self.epsilon)
        return (x - mean) * scale + self.bias.reshape(shape)


class _Normalised(torch.autograd.Function):
    """F.batch_norm of [B, C, ...] with the batch's statistics."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        y, mean, rstd = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, epsilon)
        ctx.save_for_backward(x, weight, mean, rstd)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*_NormalisedGradient.apply(grad, *ctx.saved_tensors), None)


class _NormalisedGradient(torch.autograd.Function):
    """The gradient of batch norm, itself differentiable.

    With x̂ = (x − mean) / σ, and P g = g − mean(g) − x̂ mean(g x̂) over all but the features, a
    gradient g of the output gives the gradients

        by x: γ P g / σ,     by γ: Σ g x̂,     by β: Σ g

    Given gradients v, v_γ, v_β of these three, theirs are

        by g: γ P v / σ + v_γ x̂ + v_β,     by γ: Σ v P g / σ,
        by x: (v_γ − γ mean(v x̂) / σ) P g / σ
              − γ mean(g x̂) / σ · P v / σ − γ mean(v P g) / σ² · x̂

    because ∂x̂/∂x = P / σ, ∂σ/∂x = x̂ / n, and P is symmetric.
    """

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(grad, x, weight, mean, rstd)
        return _projected(grad, x, weight, mean, rstd)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, v: Tensor, v_weight: Tensor, v_bias: Tensor
    ) -> tuple[Tensor | None, ...]:
        grad, x, weight, mean, rstd = ctx.saved_tensors
        shape, dims = (-1, *(1,) * (x.dim() - 2)), (0, *range(2, x.dim()))
        of_grad, grad_along, _ = _projected(grad, x, None, mean, rstd)  # P g / σ, Σ g x̂
        of_v, v_along, _ = _projected(v, x, None, mean, rstd)
        by_weight = (v * of_grad).sum(dims)
        normalised = functional.batch_norm(x, mean, rstd.reciprocal().square(), eps=0.0)
        each = weight * rstd * x.shape[1] / x.numel()  # γ / (σ n)
        by_grad = torch.addcmul(v_bias.view(shape), normalised, v_weight.view(shape)).addcmul_(
            of_v, weight.view(shape)
        )
        by_x = of_grad.mul_((v_weight - each * v_along).view(shape))
        by_x.sub_(of_v.mul_((each * grad_along).view(shape)))
        by_x.sub_(normalised.mul_((each * by_weight).view(shape)))
        return by_grad, by_x, by_weight, None, None


def _projected(
    grad: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """γ P g / σ (γ = 1 if `weight` is None), Σ g x̂, Σ g, by torch's fused kernel."""
    return torch.ops.aten.native_batch_norm_backward(
        grad, x, weight, None, None, mean, rstd, True, 0.0, [True, True, True]
    )


class RunningBatchNorm(nn.Module):
    """Batch norm as it is usual outside meta-learning by gradient: with the batch's statistics in
    training, and with their running mean in evaluation, so that no answer depends on another
    question. Can't be vmapped.

    `num_reference` has no effect: it is there for the sake of those that put this in place of a
    `BatchNorm`.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, num_features: int, *, epsilon: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_variance", torch.ones(num_features))
        self.epsilon = epsilon
        self.momentum = momentum

    def forward(self, x: Tensor, num_reference: int | None = None) -> Tensor:
        """[B, C] or [B, C, H, W] -> the same shape."""
        return functional.batch_norm(
            x,
            self.running_mean,
            self.running_variance,
            self.weight,
            self.bias,
            training=self.training,
            momentum=self.momentum,
            eps=self.epsilon,
        )


def use_running_statistics(network: nn.Module) -> nn.Module:
    """`network` with a RunningBatchNorm in place of every BatchNorm within it."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, BatchNorm):
                setattr(module, name, RunningBatchNorm(len(child.weight), epsilon=child.epsilon))
    return network
