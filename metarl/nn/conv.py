"""Conv-4, the small convolutional network of the few-shot literature, pooled or strided.

Four blocks of a 3×3 convolution, batch norm and ReLU; see `metarl.nn.features` for what a feature
network is. Where torch's CPU kernels are slow, it computes the same another way.
"""

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.core.adapt import inside_transform
from metarl.errors import SettingError
from metarl.nn.batch_norm import BatchNorm

NUM_BLOCKS = 4


class Conv4(nn.Module):
    """Four blocks; each halves the picture, by 2×2 max-pooling (Vinyals et al. 2016,
    arXiv:1606.04080), rounded down, or by stride 2 (Finn et al. 2017, arXiv:1703.03400, for
    Omniglot), rounded up. Then all positions are features, or, if `mean_pooled`, their mean (Finn
    et al. for strided Omniglot networks).

    Weights start Xavier-uniform, biases at zero.

    Args:
      input_shape: (channels, height, width).
      filters: of every block; 64 for Omniglot, 32 in gradient learners for mini-ImageNet.
    Raises: ValueError if four halvings leave nothing of the picture.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        *,
        filters: int,
        strided: bool,
        mean_pooled: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        channels, height, width = input_shape
        if not strided and min(height, width) < 2**NUM_BLOCKS:
            raise SettingError(
                f"pictures of {height} x {width} vanish when they are halved {NUM_BLOCKS} times: "
                "expected at least "
                f"{2**NUM_BLOCKS} x {2**NUM_BLOCKS}; take the strided network or a perceptron"
            )
        self.strided = strided
        self.mean_pooled = mean_pooled
        sizes = [channels] + [filters] * NUM_BLOCKS
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, 3, stride=2 if strided else 1, padding=1) for i, o in pairwise(sizes)
        )
        self.norms = nn.ModuleList(BatchNorm(filters) for _ in range(NUM_BLOCKS))
        for layer in self.convolutions:
            nn.init.xavier_uniform_(cast(nn.Conv2d, layer).weight, generator=generator)
            nn.init.zeros_(cast(Tensor, cast(nn.Conv2d, layer).bias))
        for _ in range(NUM_BLOCKS):
            height, width = (
                ((height + 1) // 2, (width + 1) // 2) if strided else (height // 2, width // 2)
            )
        self.num_features = filters if mean_pooled else filters * height * width

    def forward(self, x: Tensor, num_reference: int | None = None) -> Tensor:
        """[B, C, H, W] -> [B, F]. `num_reference` is for the batch norm, see there.

        With `.to(memory_format=torch.channels_last)` it computes the same in that layout: a quarter
        less time on a CPU for those that differentiate once. A second derivative takes longer so.
        """
        last = not inside_transform() and _channels_last(self.convolutions[-1])
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = norm(
                convolution(x) if last else _convolved(cast(nn.Conv2d, convolution), x),
                num_reference,
            )
            # The largest of four values and then ReLU is what ReLU and then the largest is, with a
            # quarter of the ReLUs.
            x = functional.relu(x if self.strided else _halved(x))
        return x.mean((2, 3)) if self.mean_pooled else x.flatten(1)


def _channels_last(convolution: nn.Module) -> bool:
    return cast(nn.Conv2d, convolution).weight.is_contiguous(memory_format=torch.channels_last)


def _convolved(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """convolution(x), [B, C, H, W] -> [B, O, H', W']. One channel on a CPU: as a product with the
    pictures' 3×3 patches, since the gradient by the weights is a product, too, then, and takes half
    as long."""
    if x.shape[1] > 1 or x.device.type != "cpu":
        return convolution(x)
    stride = convolution.stride[0]
    patches = functional.unfold(x, 3, padding=1, stride=stride)  # [B, 9, H' W']
    weight = convolution.weight.flatten(1).expand(len(x), -1, -1)
    out = torch.baddbmm(cast(Tensor, convolution.bias)[:, None], weight, patches)
    return out.unflatten(2, [(size - 1) // stride + 1 for size in x.shape[2:]])


def _halved(x: Tensor) -> Tensor:
    """functional.max_pool2d(x, 2). On a CPU it finds where the largest are with the channels last,
    two to four times as fast, and takes them from there: only the way of the gradients must stay as
    it is."""
    if (
        x.device.type != "cpu"
        or inside_transform()
        or x.is_contiguous(memory_format=torch.channels_last)
    ):
        return functional.max_pool2d(x, 2)
    channels_last = x.detach().contiguous(memory_format=torch.channels_last)
    largest, index = functional.max_pool2d(channels_last, 2, return_indices=True)
    return x.flatten(2).gather(2, index.flatten(2)).view(largest.shape)
