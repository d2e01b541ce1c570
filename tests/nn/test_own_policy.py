"""A policy of a user's own that acts otherwise than it is differentiated is refused."""

import pytest
import torch

from metarl.errors import SettingError
from metarl.nn.heads import CategoricalPolicy, GaussianPolicy
from metarl.nn.own_policy import try_policy


class Residual(GaussianPolicy):
    """The mean is the trunk's and a linear function of the observation."""

    def __init__(self, **settings):
        generator = torch.Generator().manual_seed(0)
        super().__init__(3, 2, (5,), generator=generator, **settings)
        self.skip = torch.nn.Parameter(torch.randn(2, 3, generator=generator))

    def forward(self, obs):
        found = super().forward(obs)
        return found | {"mean": found["mean"] + obs[..., :3] @ self.skip.T}

    def with_params(self, params, obs, parts=1):
        found = super().with_params(params, obs, parts)
        return found | {"mean": found["mean"] + obs[..., :3] @ params["skip"].mT}


def outputs(change):
    """A Residual whose `with_params` gives something else."""

    class Changed(Residual):
        def with_params(self, params, obs, parts=1):
            return change(self, params, obs, super().with_params(params, obs, parts))

    return Changed


class ForwardAlone(Residual):
    def with_params(self, params, obs, parts=1):
        return GaussianPolicy.with_params(self, params, obs, parts)


@pytest.mark.parametrize(
    "policy", [Residual(), Residual(latent_size=2), Residual(latent_size=1, latent_products=True)]
)
def test_one_that_is_the_same_both_ways_passes(policy):
    try_policy(policy, 3)


def test_one_of_choices_passes():
    try_policy(CategoricalPolicy(3, 4, (5,), generator=torch.Generator().manual_seed(0)), 3)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (ForwardAlone, "gives other actions than ForwardAlone.forward under the parameters"),
        (outputs(lambda self, p, o, f: f | {"mean": f["mean"] + 1}), "gives other actions than"),
        (outputs(lambda self, p, o, f: f | {"log_std": f["log_std"] + 1}), "gives other prob"),
        (outputs(lambda self, p, o, f: self.forward(o)), "other actions .* under the param"),
        (
            outputs(lambda self, p, o, f: {"mean": f["mean"]}),
            "gives mean, Changed.forward mean, log",
        ),
        (outputs(lambda self, p, o, f: f | {"mean": f["mean"].sum(-1)}), "gives outputs under"),
        (
            outputs(lambda self, p, o, f: f | {"mean": f["mean"].detach()}),
            "other slopes .* change of",
        ),
        (
            outputs(lambda self, p, o, f: {k: x.double() for k, x in f.items()}),
            r"gives a tensor \[4, 2\] of float64 as mean; expected a tensor of torch.float32",
        ),
        (outputs(lambda self, p, o, f: f["mean"]), r"returned a tensor \[4, 2\] of float32; expec"),
    ],
)
def test_one_that_differs_is_told(made, message):
    with pytest.raises(SettingError, match=message):
        try_policy(made(), 3)
