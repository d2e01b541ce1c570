"""Baselines by Stable-Baselines3 in worlds with known optima: the multitask policy and its fine-
tuning, experts from scratch, and oracles."""

import pytest
import torch
from support.played import trajectories
from support.sb3_learners import CPU, made

pytest.importorskip("stable_baselines3")

from envs.small.bandit import Arms
from metarl.cli import build
from metarl.errors import SettingError
from metarl.rl.evaluation.curve import adaptation_curve
from metarl.run.seeding import Generators
from metarl.struct import map_tensors

BANDIT = ("bandit", "env.num_arms=2", "env.horizon=5", "algo.expert.lr=1e-2")


def returns_of(learner, iterations: int) -> list[float]:
    return [learner.step()["return"] for _ in range(iterations)]


def test_an_oracle_that_is_told_the_arms_learns_to_pull_the_better_one() -> None:
    """Of two arms with probabilities ~ U[0, 1] the better one pays 2/3 a pull, any of them 1/2."""
    sizes = ("algo.meta_batch_size=64", "algo.episodes_per_task=1", "algo.expert.batch_size=160")
    learner, _ = made("oracle_ppo", *BANDIT, *sizes, "model.hidden_sizes=[16]")
    returns = returns_of(learner, 20)
    # A mean of 8 x 64 returns, each with a deviation below 1.7, has one of 0.08.
    assert sum(returns[-8:]) / 8 == pytest.approx(5 * 2 / 3, abs=0.25)
    assert sum(returns[:2]) / 2 == pytest.approx(5 / 2, abs=0.45)
    adapter = learner.adapter()
    state = adapter.begin(2)
    data = trajectories(torch.Generator().manual_seed(0), 2, 1, 5, obs_size=3)
    assert adapter.update(state, data) is state


def test_a_multitask_policy_is_fine_tuned_to_the_better_arm_of_each_task() -> None:
    """Pulling either arm returns 2.5 here, the better one 4.5. Training can't know which one that
    is; after some rounds the expert of each task does."""
    sizes = ("algo.meta_batch_size=20", "algo.episodes_per_task=5", "algo.expert.batch_size=100")
    more = ("algo.rounds_per_update=10", "model.hidden_sizes=[8]")
    learner, config = made("multitask_ppo", *BANDIT, *sizes, *more)
    returns_of(learner, 2)
    num, each = 2, 20
    env = build.environment(config, num * each)
    tasks = Arms(probability=torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    streams = build.streams(Generators(0), CPU)
    curve = adaptation_curve(learner.adapter(), env, tasks, streams, num_tasks=num, num_updates=1)
    before, after = curve.returns.mean((0, 2)).tolist()
    assert before == pytest.approx(2.5, abs=0.7)  # A deviation of 1.1 over 40 episodes gives 0.2.
    assert (curve.returns[:, 1].mean(-1) > 3.5).all() and after > before + 1
    # 10 rounds and the episodes behind them, of 5 pulls.
    assert curve.env_steps == 11 * num * each * 5


def test_experts_from_scratch_find_the_best_arm_of_their_own_task() -> None:
    sizes = ("algo.meta_batch_size=2", "algo.episodes_per_task=20", "algo.expert.batch_size=100")
    learner, _ = made("scratch_ppo", *BANDIT, *sizes, "model.hidden_sizes=[8]")
    rows = [learner.step() for _ in range(12)]
    # A step's tasks are those of the step before, so the regret falls on these.
    first, last = (sum(row["regret"] for row in part) / 3 for part in (rows[:3], rows[-3:]))
    assert last < 0.3 < first


def test_a_soft_actor_critic_from_scratch_comes_nearer_to_its_goal() -> None:
    sizes = ("algo.meta_batch_size=1", "algo.episodes_per_task=4", "model.hidden_sizes=[16]")
    numbers = {"lr": 1e-2, "batch_size": 32, "updates_per_step": 2, "discount": 0.8}
    words = [f"algo.expert.{name}={value}" for name, value in numbers.items()]
    learner, _ = made("scratch_sac", "point_navigation_2d", "env.horizon=6", *sizes, *words)
    regrets = [learner.step()["regret"] for _ in range(8)]
    assert sum(regrets[-2:]) / 2 < 0.6 * sum(regrets[:5]) / 5


@pytest.mark.parametrize("algo", ["multitask_ppo", "oracle_sac", "scratch_sac"])
def test_a_saved_learner_goes_on_bit_for_bit(algo: str) -> None:
    env = "bandit" if algo.endswith("ppo") else "point_navigation_2d"
    words = ("env.horizon=4", "algo.meta_batch_size=2", "algo.episodes_per_task=2")
    small = ("algo.expert.batch_size=5", "model.hidden_sizes=[4]")
    (whole, _), (other, _) = (made(algo, env, *words, *small) for _ in range(2))
    whole.step()
    other.step()  # For the random streams, which a run saves by itself, and the replay.
    other.load_state_dict(map_tensors(torch.clone, whole.state_dict()))
    first, second = whole.step(), other.step()
    assert first == second
    for mine, theirs in zip(*(_leaves(x.state_dict()) for x in (whole, other)), strict=True):
        assert torch.equal(mine, theirs)


def _leaves(tree) -> list[torch.Tensor]:
    return [
        leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)
    ]


def test_an_evaluation_of_experts_from_scratch_begins_with_the_weights_of_the_run() -> None:
    """Whatever its training has made of them: that is of training tasks."""
    words = ("env.horizon=4", "algo.meta_batch_size=2", "algo.episodes_per_task=2")
    learner, _ = made("scratch_ppo", "bandit", *words, "model.hidden_sizes=[4]")
    fresh = {name: leaf.clone() for name, leaf in learner.adapter().begin(1).numbers.items()}
    learner.step()
    elsewhere, _ = made("scratch_ppo", "bandit", *words, "model.hidden_sizes=[4]", seed=1)
    elsewhere.load_state_dict(learner.state_dict())
    for adapter in (learner.adapter(), elsewhere.adapter()):
        for name, leaf in adapter.begin(1).numbers.items():
            assert torch.equal(leaf, fresh[name]), name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("oracle_ppo", "bandit", "env.shows_task=false"), "bandit doesn't show its task"),
        (("scratch_sac", "bandit"), r"action space is Discrete\(5\): expected a flat Box"),
        (("multitask_ppo", "bandit", "model=mlp"), "model is a CategoricalPolicy; expected a PPO"),
        (("multitask_ppo", "bandit", "algo.meta_batch_size=0"), "meta_batch_size 0: expected"),
        (("oracle_ppo", "bandit", "algo.episodes_per_task=0"), "episodes_per_task 0: expected"),
        (
            ("multitask_ppo", "bandit", "algo.rounds_per_update=-1"),
            "rounds_per_update -1: expected",
        ),
        (("scratch_ppo", "bandit", "algo.rounds_per_update=0"), "rounds_per_update 0: expected"),
        (("multitask_ppo", "bandit", "model.hidden_sizes=[]"), r"hidden_sizes \[\]: expected"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        made(*words)


@pytest.mark.parametrize("algo", ["multitask_ppo", "scratch_sac"])
def test_a_state_that_does_not_fit_is_named(algo: str) -> None:
    env = "bandit" if algo.endswith("ppo") else "point_navigation_2d"
    words = ("env.horizon=4", "algo.meta_batch_size=2", "algo.episodes_per_task=2")
    learner, _ = made(algo, env, *words, "algo.expert.batch_size=5", "model.hidden_sizes=[4]")
    learner.step()
    state = learner.state_dict()
    part = state if algo == "multitask_ppo" else state["experts"][1]
    name, leaf = next((name, leaf) for name, leaf in part["expert"].items() if leaf.ndim)
    part["expert"][name] = leaf[..., :0]
    with pytest.raises(ValueError, match=f"expert.{name} is a tensor"):
        learner.load_state_dict(state)


@pytest.mark.parametrize("capacity", ["null", "11"])
@pytest.mark.parametrize(("algo", "most"), [("oracle_sac", 24), ("scratch_sac", 12)])
def test_a_replay_without_room_for_an_iteration_is_refused_at_the_start(algo, most, capacity):
    shown = ["env.shows_task=true"] if algo.startswith("oracle") else []
    words = ("env.horizon=4", "algo.meta_batch_size=2", "algo.episodes_per_task=3", *shown)
    with pytest.raises(SettingError, match=f"replay_capacity {capacity}: expected {most} or more"):
        made(algo, "point_navigation_2d", *words, f"algo.replay_capacity={capacity}")
