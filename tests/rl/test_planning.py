"""Planners find a known optimum, score what would be done, and keep worlds apart."""

import gymnasium
import numpy as np
import pytest
import torch

from metarl.noise import Noise
from metarl.rl.planning import Bounds, Planner, bounds_of, shifted

H = 5
SETTINGS = {
    "horizon": H,
    "num_candidates": 300,
    "num_iterations": 15,
    "noise_std": 0.8,
    "noise_correlation": 0.0,
    "num_elites": 30,
    "temperature": 0.2,
}
BOX = Bounds(torch.tensor([-2.0, -2.0]), torch.tensor([2.0, 2.0]))

DYNAMICS = torch.tensor([[0.9, 0.3], [-0.2, 0.8]])
INPUT = torch.tensor([[0.5, 0.0], [0.1, 0.4]])


def quadratic_score(start):
    """−Σ (|s'|² + 0.5 |a|²) along s' = D s + B a, from start [W, 2]."""

    def score(actions):
        state, total = start.unsqueeze(1).expand(-1, actions.shape[2], -1), 0.0
        for action in actions:
            state = state @ DYNAMICS.T + action @ INPUT.T
            total = total - state.square().sum(-1) - 0.5 * action.square().sum(-1)
        return total

    return score


def best_first_actions(start):
    """The linear-quadratic regulator by its Riccati recursion: a₀ = −K s₀."""
    dynamics, inputs = DYNAMICS.double(), INPUT.double()
    cost_to_go = torch.zeros(2, 2).double()
    for _ in range(H):
        ahead = cost_to_go + torch.eye(2).double()  # the state is paid for after the step
        gain = torch.linalg.solve(
            0.5 * torch.eye(2).double() + inputs.T @ ahead @ inputs, inputs.T @ ahead @ dynamics
        )
        cost_to_go = dynamics.T @ ahead @ (dynamics - inputs @ gain)
    return (-start.double() @ gain.T).float()


@pytest.mark.parametrize("method", ["cem", "mppi"])
def test_planner_finds_the_linear_quadratic_optimum(method, generator):
    start = torch.tensor([[1.0, -0.5], [-0.7, 1.2], [0.2, 0.1]])
    # MPPI's candidates keep their width, so that its mean needs a narrow one and many of them.
    settings = SETTINGS | (
        {} if method == "cem" else {"noise_std": 0.1, "num_candidates": 2000, "temperature": 0.5}
    )
    planner = Planner(method=method, **settings)
    plan = planner(quadratic_score(start), BOX.middle(H, 3), BOX, Noise(generator))
    # 300 draws in 10 dimensions settle within a few hundredths; the actions are up to 0.9.
    torch.testing.assert_close(plan[0], best_first_actions(start), atol=0.05, rtol=0)


class TheSame(Noise):
    """Draws the same numbers each time."""

    def normal(self, *size, dtype=torch.float32, dim=0):
        return torch.randn(*size, dtype=dtype, generator=torch.Generator().manual_seed(3))


WIDE = Bounds(torch.tensor([-50.0, -50.0]), torch.tensor([50.0, 50.0]))


@pytest.mark.parametrize("method", ["cem", "mppi"])
def test_a_round_by_hand(method):
    seen, settings = [], {"num_candidates": 6, "num_iterations": 2, "num_elites": 3}
    score = quadratic_score(torch.tensor([[1.0, -0.5], [-0.7, 1.2]]))

    def watched(actions):
        seen.append(actions.clone())
        return score(actions)

    planner = Planner(method=method, **SETTINGS | settings | {"noise_std": 0.01})
    found = planner(watched, torch.zeros(H, 2, 2), WIDE, TheSame(torch.Generator()))
    drawn = TheSame(torch.Generator()).normal(H, 2, 6, 2).numpy()
    drawn[:, :, 0] = 0
    plans, widths = [], []
    for candidates in seen:
        returns, candidates = score(candidates).numpy(), candidates.numpy()
        plan, width = np.zeros((H, 2, 2)), np.full((H, 2, 2), 0.5)  # of a half range of 50
        for world in range(2):
            own, of_world = returns[world], candidates[:, world]
            if method == "cem":
                best = of_world[:, np.argsort(own)[-3:]]
                plan[:, world], width[:, world] = best.mean(1), best.std(1)
            else:
                weights = np.exp((own - own.max()) / (0.2 * own.std()))
                weights /= weights.sum()
                plan[:, world] = (weights[:, None] * of_world).sum(1)
        plans.append(plan)
        widths.append(width)
    np.testing.assert_allclose(seen[0].numpy(), 0.5 * drawn, rtol=1e-5, atol=1e-6)
    second = plans[0][:, :, None] + widths[0][:, :, None] * drawn
    np.testing.assert_allclose(seen[1].numpy(), second, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.numpy(), plans[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["cem", "mppi"])
def test_worlds_do_not_influence_each_other(method):
    start = torch.tensor([[1.0, -0.5], [-0.7, 1.2], [0.2, 0.1]])
    elsewhere = start.clone()
    elsewhere[1:] = torch.tensor([[50.0, 0.0], [float("nan"), 3.0]])
    planner = Planner(method=method, **SETTINGS)
    plans = [
        planner(quadratic_score(s), BOX.middle(H, 3), BOX, Noise(torch.Generator().manual_seed(1)))
        for s in (start, elsewhere)
    ]
    torch.testing.assert_close(plans[0][:, 0], plans[1][:, 0], atol=0, rtol=0)
    assert (plans[0][:, 1] - plans[1][:, 1]).abs().max() > 0.1


@pytest.mark.parametrize("method", ["cem", "mppi"])
def test_actions_are_clipped_before_they_are_scored(method, generator):
    bounds = Bounds(torch.tensor([-0.5, 1.0]), torch.tensor([0.25, 3.0]))
    seen = []

    def score(actions):
        seen.append(actions)
        return actions.sum(
            (0, -1)
        )  # the more the better: the planner pushes against the upper bounds

    plan = Planner(method=method, **SETTINGS)(score, bounds.middle(H, 2), bounds, Noise(generator))
    for actions in seen:
        assert (actions >= bounds.low).all() and (actions <= bounds.high).all()
    # An unclipped planner would be far beyond 0.25 and 3 after 15 iterations.
    assert (plan <= bounds.high).all()
    torch.testing.assert_close(plan[0], bounds.high.expand(2, -1), atol=0.2, rtol=0)


@pytest.mark.parametrize("method", ["cem", "mppi"])
def test_a_return_that_is_not_finite_never_wins(method, generator):
    def score(actions):
        returns = -(actions - 1.0).square().sum((0, -1))
        blown_up = actions[0, ..., 0] > 1.5
        return torch.where(
            blown_up, torch.where(actions[1, ..., 0] > 0, torch.inf, torch.nan), returns
        )

    plan = Planner(method=method, **SETTINGS | {"noise_std": 0.3})(
        score, BOX.middle(H, 2), BOX, Noise(generator)
    )
    torch.testing.assert_close(plan, torch.ones(H, 2, 2), atol=0.35, rtol=0)
    nowhere = Planner(method=method, **SETTINGS)(
        lambda actions: torch.full(actions.shape[1:3], torch.nan),
        BOX.middle(H, 2),
        BOX,
        Noise(generator),
    )
    assert nowhere.isfinite().all()


def test_the_plan_itself_is_a_candidate(generator):
    given = torch.full((H, 2, 2), 0.7)
    seen = []
    Planner(method="cem", **SETTINGS | {"num_iterations": 1})(
        lambda actions: seen.append(actions) or actions.sum((0, -1)), given, BOX, Noise(generator)
    )
    torch.testing.assert_close(seen[0][:, :, 0], given)


def test_candidates_of_cem_spread_over_each_action_by_its_own_range(generator):
    seen = []
    bounds = Bounds(torch.tensor([-1000.0, -1.0]), torch.tensor([1000.0, 1.0]))
    settings = {"num_iterations": 1, "num_candidates": 10_000, "noise_std": 0.2}
    Planner(method="cem", **SETTINGS | settings)(
        lambda actions: seen.append(actions) or actions.sum((0, -1)),
        bounds.middle(H, 1),
        bounds,
        Noise(generator),
    )
    # A standard error of 50 000 draws is 0.3 % of a deviation.
    deviations = seen[0][:, 0, 1:].flatten(0, 1).std(0)
    torch.testing.assert_close(deviations, torch.tensor([200.0, 0.2]), rtol=0.02, atol=0)


def test_correlated_noise_has_its_variance_at_every_step(generator):
    seen = []
    wide = Bounds(torch.full((1,), -1000.0), torch.full((1,), 1000.0))
    settings = SETTINGS | {
        "num_iterations": 1,
        "num_candidates": 50_000,
        "noise_correlation": 0.8,
        "noise_std": 0.001,
    }
    Planner(method="mppi", **settings)(
        lambda actions: seen.append(actions) or actions.sum((0, -1)),
        wide.middle(H, 1),
        wide,
        Noise(generator),
    )
    noise = seen[0][:, 0, 1:, 0]
    # Standard errors at 50 000 draws: 0.3 % of a deviation, 0.002 of a correlation.
    torch.testing.assert_close(noise.std(1), torch.ones(H), atol=0.02, rtol=0)
    assert abs(torch.corrcoef(noise[:2])[0, 1].item() - 0.8) < 0.01
    assert abs(torch.corrcoef(noise[[0, 2]])[0, 1].item() - 0.64) < 0.015


def test_shifted_plan_begins_with_what_came_second():
    plan = torch.arange(H * 2.0).reshape(H, 1, 2)
    later = shifted(plan, Bounds(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 4.0])))
    torch.testing.assert_close(later[:-1], plan[1:])
    torch.testing.assert_close(later[-1], torch.tensor([[0.5, 3.0]]))


@pytest.mark.parametrize(
    "space",
    [
        gymnasium.spaces.Discrete(3),
        gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32),
        gymnasium.spaces.Box(
            np.array([-1.0, -1.0], np.float32), np.array([1.0, np.inf], np.float32)
        ),
        gymnasium.spaces.Box(-1.0, 1.0, (2, 2), np.float32),
    ],
)
def test_action_spaces_that_cannot_be_sampled_are_refused(space):
    with pytest.raises(ValueError, match=r"action space .*expected a flat Box with finite bounds"):
        bounds_of(space, torch.device("cpu"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"method": "random"}, "planner 'random': expected cem or mppi"),
        ({"horizon": 0}, "horizon 0"),
        ({"num_candidates": 0}, "num_candidates 0"),
        ({"num_iterations": 0}, "num_iterations 0"),
        ({"noise_std": 0.0}, "noise_std 0.0"),
        ({"noise_correlation": 1.0}, "noise_correlation 1.0"),
        ({"temperature": -1.0}, "temperature -1.0"),
        ({"num_elites": 301}, "num_elites 301: expected at most num_candidates, 300"),
    ],
)
def test_settings_out_of_range_are_named(setting, message):
    with pytest.raises(ValueError, match=message):
        Planner(**{"method": "cem"} | SETTINGS | setting)


def test_all_candidates_may_be_elites():
    Planner(method="cem", **SETTINGS | {"num_elites": SETTINGS["num_candidates"]})
