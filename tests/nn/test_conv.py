"""Conv-4 against the network of the papers, put together from torch's own modules."""

import torch
from torch import nn

from metarl.nn.conv import Conv4


def test_conv4_is_convolution_norm_relu_and_pooling_four_times():
    generator = torch.Generator().manual_seed(0)
    ours = Conv4((1, 19, 16), filters=3, strided=False, generator=generator).double()
    blocks = []
    for convolution in ours.convolutions:
        blocks += [convolution, nn.BatchNorm2d(3, track_running_stats=False).double(), nn.ReLU(), nn.MaxPool2d(2)]
    theirs = nn.Sequential(*blocks, nn.Flatten())
    x = torch.randn(5, 1, 19, 16, generator=generator, dtype=torch.float64)
    expected = theirs(x)
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-12)
    weights = [convolution.weight for convolution in ours.convolutions]
    gradients = [torch.autograd.grad(outputs.square().sum(), weights) for outputs in (ours(x), expected)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-11)  # rounding, through four norms
