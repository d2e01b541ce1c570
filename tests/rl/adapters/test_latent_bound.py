"""How little an outer update leaves of a latent's deviation."""

import math

import pytest
import torch
from support.gradient_learners import make

from metarl.core import params as P
from metarl.errors import SettingError
from metarl.nn.heads import GaussianPolicy
from metarl.nn.latent import LOG_STD
from metarl.rl.adapters.latent_bound import LatentBound, without
from metarl.rl.algorithms.maml_ppo import MamlPPO
from metarl.rl.algorithms.maml_trpo import MamlTRPO

LATENT = {"latent_lr": 1.0, "latent_shrink": 0.5, "latent_coefficient": 30.0}
"""A coefficient by which the outer update is of the latents above all."""


def learner(cls, **changes):
    model = GaussianPolicy(
        2, 2, (5,), init_std=0.8, latent_size=2, generator=torch.Generator().manual_seed(0)
    )
    of_class = {"inner_kl_coefficient": 0.0, "outer_lr": 0.05} if cls is MamlPPO else {}
    settings = LATENT | of_class | {"judged_updates": "all"} | changes
    return make(cls, model=model.double(), dtype=torch.float64, **settings)


def test_what_is_below_the_least_is_brought_back_and_the_rest_left():
    theta = {LOG_STD: torch.tensor([-3.0, -0.1]), "w": torch.tensor([-9.0])}
    LatentBound(0.5).keep(theta)
    assert theta[LOG_STD].tolist() == pytest.approx([math.log(0.5), -0.1])
    assert theta["w"].item() == -9.0
    LatentBound().keep(theta)
    LatentBound(0.9).keep({"w": torch.tensor([1.0])})  # a policy without a latent


def test_elements_at_the_least_stay_if_they_would_be_lowered():
    theta = {LOG_STD: torch.tensor([math.log(0.5), math.log(0.5), 0.0])}
    gradient = {LOG_STD: torch.tensor([2.0, -2.0, 2.0]), "w": torch.tensor([1.0])}
    stays = LatentBound(0.5).stays(theta, gradient)
    assert stays.tolist() == [True, False, False]
    assert without(gradient, stays)[LOG_STD].tolist() == [0.0, -2.0, 2.0]
    assert without(gradient, stays)["w"].item() == 1.0
    assert LatentBound().stays(theta, gradient) is None
    assert without(gradient, None) is gradient


@pytest.mark.parametrize("cls", [MamlPPO, MamlTRPO])
def test_outer_updates_leave_so_much(cls):
    """Where it may fall freely it does, at least in one of some iterations."""
    free, bound = learner(cls), learner(cls, latent_min_std=0.995)
    lowest = []
    for one in (free, bound):
        found = []
        for _ in range(4):
            one.step()
            found.append(one.params.theta[LOG_STD].min().exp().item())
        lowest.append(min(found))
    assert lowest[0] < 0.99 and lowest[1] == pytest.approx(0.995, abs=1e-9)


def test_a_trust_region_is_spent_on_what_moves(monkeypatch):
    """At the least, the rest takes the whole step."""
    found = []
    for least in (1.0, None):
        one = learner(MamlTRPO, latent_min_std=least, max_kl=1e-4)
        meta_gradient = one.meta_gradient

        def lowering(around, gradient=meta_gradient):
            """A gradient that lowers both elements, beside the present one."""
            of = gradient(around)
            (name,) = (name for name in of if name.endswith(LOG_STD) and "policy" in name)
            return {**of, name: torch.full_like(of[name], 100.0)}

        monkeypatch.setattr(one, "meta_gradient", lowering)
        before = {name: leaf.detach().clone() for name, leaf in one.params.theta.items()}
        assert one.step()["accepted"] == 1
        moved = {name: leaf.detach() - before[name] for name, leaf in one.params.theta.items()}
        of_latent = moved.pop(LOG_STD)
        found.append((of_latent.norm(), P.norm(moved)))
    assert found[0][0] == 0 < found[1][0]
    assert found[0][1] > 3 * found[1][1]


@pytest.mark.parametrize("least", [0.0, 1.5, math.nan])
def test_a_least_out_of_range_is_named(least):
    with pytest.raises(
        SettingError, match=f"latent_min_std {least}: expected a number above 0, at"
    ):
        LatentBound(least)
