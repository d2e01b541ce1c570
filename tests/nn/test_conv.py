"""Conv-4 against the network of the papers, put together from torch's own modules."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from metarl.nn import conv
from metarl.nn.conv import Conv4


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_conv4_is_convolution_norm_relu_and_pooling_four_times(layout, channels, strided):
    generator = torch.Generator().manual_seed(0)
    ours = (
        Conv4((channels, 19, 16), filters=3, strided=strided, generator=generator)
        .double()
        .to(memory_format=layout)
    )
    for convolution in ours.convolutions:
        nn.init.normal_(convolution.bias, generator=generator)
    blocks = []
    for convolution in ours.convolutions:
        blocks += [convolution, nn.BatchNorm2d(3, track_running_stats=False).double(), nn.ReLU()]
        blocks += [] if strided else [nn.MaxPool2d(2)]
    theirs = nn.Sequential(*blocks, nn.Flatten())
    x = torch.randn(5, channels, 19, 16, generator=generator, dtype=torch.float64)
    expected = theirs(x)
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-12)
    weights = [convolution.weight for convolution in ours.convolutions]
    gradients = [
        torch.autograd.grad(outputs.square().sum(), weights) for outputs in (ours(x), expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-11)  # rounding, through four norms


def test_single_channel_convolution_is_torchs_with_its_bias():
    layer = nn.Conv2d(1, 4, 3, stride=2, padding=1).double()
    x = torch.randn(2, 1, 7, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(conv._convolved(layer, x), layer(x), rtol=0, atol=1e-14)


def test_pooling_sends_gradients_of_equal_values_where_torch_does():
    # The blank background of a picture is all ties; back-ends that broke them differently would
    # give other gradients.
    x = (
        torch.randint(0, 2, (2, 3, 9, 8), generator=torch.Generator().manual_seed(0))
        .double()
        .requires_grad_()
    )
    weights = torch.randn(
        2, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    pooled = (conv._halved(x), functional.max_pool2d(x, 2))
    torch.testing.assert_close(*pooled, rtol=0, atol=0)
    torch.testing.assert_close(
        *(torch.autograd.grad((weights * y).sum(), x) for y in pooled), rtol=0, atol=0
    )


@pytest.mark.parametrize("strided", [False, True])
def test_networks_computed_together_give_what_each_gives_alone(strided):
    generator = torch.Generator().manual_seed(0)
    networks = [
        Conv4((1, 16, 16), filters=3, strided=strided, generator=generator).double()
        for _ in range(2)
    ]
    params = [dict(network.named_parameters()) for network in networks]
    stacked = {name: torch.stack([each[name] for each in params]) for name in params[0]}
    x = torch.randn(2, 5, 1, 16, 16, generator=generator, dtype=torch.float64)
    together = torch.func.vmap(
        lambda one, rows: torch.func.functional_call(networks[0], one, (rows,))
    )(stacked, x)
    alone = torch.stack([network(rows) for network, rows in zip(networks, x, strict=True)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
