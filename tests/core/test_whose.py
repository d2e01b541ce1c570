from torch import nn

from metarl.core.whose import is_ours
from metarl.nn.heads import GaussianPolicy


class Renamed(GaussianPolicy):
    pass


class Other(GaussianPolicy):
    def forward(self, obs):
        return super().forward(obs)


def test_a_subclass_is_someones_own_and_so_is_what_it_replaces():
    assert is_ours(GaussianPolicy) and not is_ours(Renamed)
    assert is_ours(Renamed, "forward", "with_params")
    assert not is_ours(Other, "forward") and is_ours(Other, "with_params")
    assert not is_ours(nn.Linear, "forward") and not is_ours(GaussianPolicy, "no_such_method")
