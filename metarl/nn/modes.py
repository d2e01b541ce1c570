"""Modules that act otherwise while they are trained than afterwards."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from metarl.errors import SettingError


def check_has_one_mode(network: nn.Module) -> None:
    """Policies are compared with themselves, as they acted: `network.train()` and `network.eval()`
    must not differ.

    Raises: SettingError naming the first layer of dropout or batch norm.
    """
    for name, layer in network.named_modules():
        rate = layer.p if isinstance(layer, _DropoutNd) else getattr(layer, "dropout", 0.0)
        drops = isinstance(rate, float | int) and rate > 0
        if drops or isinstance(layer, _BatchNorm):
            what = f"dropout={rate:g}" if drops else "batch norm"
            raise SettingError(
                f"model has {what} in {name or 'itself'} ({type(layer).__name__}), which acts "
                "otherwise in training than afterwards; expected dropout=0, and LayerNorm instead "
                "of batch norm"
            )
