"""A trained agent in an environment of one's own: it adapts as the library's adapters do, and its
policy is the same as a function, as a module and as a file."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch

import envs
import metarl
from metarl.api.export import export
from metarl.noise import Noise
from metarl.rl.adapters.gradient import GradientAdapter
from metarl.rl.data.collect import Streams, collect
from metarl.rl.types import Trajectories
from metarl.run import checkpoint

POINT = {"horizon": 4}
SMALL: dict[str, Any] = {"iterations": 0, "device": "cpu"}
SMALL["evaluation"] = {"num_tasks": 1, "num_updates": 0, "video": False}


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("runs")
    sizes = {"meta_batch_size": 2, "episodes_per_task": 3}
    one_step = {**sizes, "num_inner_steps": 1}
    hidden = {"hidden_sizes": [4]}
    trial = {"meta_batch_size": 2, "episodes_per_trial": 3, "num_minibatches": 1}
    memory = {"memory": {"hidden_size": 3}, "head_sizes": []}
    runs = {
        "plain": ("point_navigation_2d", "maml_trpo", {"env": POINT, "algo": one_step}),
        "three steps": ("point_navigation_2d", "maml_ppo", {"env": POINT, "algo": sizes}),
        "latent": ("point_navigation_2d", "maml_ppo", {"env": POINT, "algo": sizes}),
        "memory": ("bandit", "rl2_ppo", {"env": {"horizon": 4, "num_arms": 3}, "algo": trial}),
        "belief": ("point_navigation_2d", "varibad", {"env": POINT, "algo": trial}),
        "memoryless": ("point_navigation_2d", "memoryless_ppo", {"env": POINT, "algo": sizes}),
    }
    own = {
        "plain": {"model": {**hidden, "latent_size": 0, "latent_products": False}},
        "three steps": {"model": {**hidden, "latent_size": 0, "latent_products": False}},
        "latent": {"model": {**hidden, "latent_size": 1, "latent_products": True}},
        "memory": {"model": memory},
        "belief": {"model": {"head_sizes": [4], "encoder": {"hidden_size": 3}}},
        "memoryless": {"model": memory},
    }
    return {
        name: metarl.train(env, algo, **SMALL, **own[name], **settings, run_dir=folder / name).agent
        for name, (env, algo, settings) in runs.items()
    }


def point_env() -> gymnasium.Env:
    return gymnasium.make("metarl/PointNavigation2d-v0", task={"goal": [0.3, -0.2]})


def bandit_env() -> gymnasium.Env:
    return gymnasium.make("metarl/Bandit-v0", num_arms=3, horizon=4, task=None)


def gathered(agent: Any, num_worlds: int, num_rounds: int) -> tuple[list[Trajectories], Any]:
    """Episodes of one task that the agent's own adapter plays, and its state after them."""
    changes = POINT if agent.spec.family.startswith("point") else {"num_arms": 3, "horizon": 4}
    env = envs.make(agent.spec.name, num_worlds, **changes)
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    noises = Noise(generators[1]), Noise(generators[2])
    streams = Streams(tasks=generators[0], reset=noises[0], policy=noises[1])
    tasks = env.prior.sample(1, generators[0])
    adapter = agent._adapter
    state, found = adapter.begin(1, num_worlds, noises[1]), []
    for _ in range(num_rounds):
        data, state = collect(env, adapter, state, tasks, streams, episodes_per_task=num_worlds)
        state = adapter.update(state, data, None)
        found.append(data)
    return found, state


def as_episodes(found: list[Trajectories]) -> list[dict[str, Any]]:
    return [
        {
            "obs": data.obs[0, e].numpy(),
            "action": data.action[0, e].numpy(),
            "reward": data.reward[0, e].numpy(),
            "terminated": bool(data.terminated[0, e, -1]),
        }
        for data in found
        for e in range(data.obs.shape[1])
    ]


def test_given_episodes_change_a_policy_as_an_inner_step_on_them_does(agents: Any) -> None:
    agent = agents["plain"]
    found, state = gathered(agent, num_worlds=3, num_rounds=1)
    policy = agent.adapt(episodes=as_episodes(found))
    obs = torch.tensor([0.1, 0.2])
    expected = agent._adapter.act(state, obs.expand(3, 2), None).action[0]
    space = agent.action_space
    expected = expected.clamp(torch.tensor(space.low), torch.tensor(space.high))
    # float32, in which adding up takes another order
    np.testing.assert_allclose(policy(obs.numpy()), expected, rtol=1e-5)
    assert not np.allclose(policy(obs.numpy()), agent.unadapted(obs.numpy()), rtol=1e-4)
    assert agent.adapted is policy


class OneBuffer(gymnasium.Wrapper):
    """Writes each observation into the same array, as drivers of robots do; with `copies` into one
    of its own."""

    def __init__(self, env: gymnasium.Env, copies: bool = False) -> None:
        super().__init__(env)
        self._buffer, self._copies = np.zeros(env.observation_space.shape, np.float32), copies

    def _seen(self, obs: Any) -> Any:
        self._buffer[:] = obs
        return self._buffer.copy() if self._copies else self._buffer

    def reset(self, **given: Any) -> Any:
        obs, info = self.env.reset(**given)
        return self._seen(obs), info

    def step(self, action: Any) -> Any:
        obs, *rest = self.env.step(action)
        return self._seen(obs), *rest


@pytest.mark.parametrize("name", ["plain", "memory", "belief"])
def test_an_environment_may_write_over_what_it_has_returned(agents: Any, name: str) -> None:
    made, agent, found = bandit_env if name == "memory" else point_env, agents[name], []
    for copies in (True, False):
        env = OneBuffer(made(), copies)
        played: list[dict[str, Any]] = []
        policy = agent.adapt(env, seed=3, on_episode=played.append)
        obs, reward, actions = env.reset(seed=5)[0], 0.0, []
        policy.reset()
        for _ in range(4):
            actions.append(policy(obs, reward))
            obs, reward = env.step(actions[-1])[:2]
        found.append((played[0]["obs"], np.stack(actions)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_actions_of_another_controller_are_told(
    agents: Any, recwarn: pytest.WarningsRecorder
) -> None:
    own = as_episodes(gathered(agents["plain"], num_worlds=3, num_rounds=1)[0])
    agents["plain"].adapt(episodes=own)
    strange = [{**episode, "action": episode["action"] + 3} for episode in own]
    agents["memory"].adapt(
        episodes=as_episodes(gathered(agents["memory"], num_worlds=1, num_rounds=2)[0])
    )
    assert not [warning for warning in recwarn if "the episodes'" in str(warning.message)]
    with pytest.warns(UserWarning, match=r"nats a step where 2 .*agent.unadapted"):
        agents["plain"].adapt(episodes=strange)
    unadapted = agents["plain"].unadapted
    modes = [
        {**episode, "action": np.stack([unadapted(obs) for obs in episode["obs"][:-1]])}
        for episode in own
    ]
    with pytest.warns(UserWarning, match="nearer to the most likely"):
        agents["plain"].adapt(episodes=modes)


def test_given_episodes_are_one_update_and_lists_of_them_several(
    agents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the unadapted policy say nothing of a later one."""
    agent, seen = agents["three steps"], []
    update = GradientAdapter.update

    def counted(self: Any, state: Any, data: Any, noise: Any = None) -> Any:
        seen.append(data.reward.shape[1])
        return update(self, state, data, noise)

    monkeypatch.setattr(GradientAdapter, "update", counted)
    own = as_episodes(gathered(agent, num_worlds=3, num_rounds=1)[0])
    seen.clear()
    agent.adapt(episodes=own)
    assert seen == [3]
    seen.clear()
    agent.adapt(episodes=[own[:2], own[2:]])
    assert seen == [2, 1]
    for wrong, message in (
        ([own[0], own], "lists beside single episodes"),
        ([own, []], r"episodes\[1\] is empty"),
        ([own, [{"obs": []}]], r"episodes\[1\]\[0\] has no action"),
    ):
        with pytest.raises(metarl.UserError, match=message):
            agent.adapt(episodes=wrong)


def test_played_episodes_are_told_one_by_one_and_can_be_given_again(agents: Any) -> None:
    for name, make in (("plain", point_env), ("memory", bandit_env)):
        agent, kept = agents[name], []
        played = agent.adapt(make(), episodes=2, on_episode=kept.append)
        assert len(kept) == 2 and set(kept[0]) == {"obs", "action", "reward", "terminated"}
        given = agent.adapt(episodes=kept)
        obs = agent.observation_space.sample()
        np.testing.assert_allclose(given(obs), played(obs), rtol=1e-4)


def test_episodes_tell_what_the_policy_held(agents: Any) -> None:
    agent, kept, obs = agents["latent"], [], np.array([0.1, 0.2])
    played = agent.adapt(point_env(), episodes=6, on_episode=kept.append)
    assert len({float(episode["latent"][0]) for episode in kept}) == 6
    given = agent.adapt(episodes=[kept[:2], kept[2:4], kept[4:]])
    np.testing.assert_allclose(given(obs), played(obs), rtol=1e-4)
    np.testing.assert_allclose(given.latent, played.latent, rtol=1e-4)
    with pytest.warns(UserWarning, match="the same latent.*reset"):
        agent.adapt(episodes=[{**episode, "latent": [0.5]} for episode in kept[:2]])
    first = [{**episode} for episode in kept[:2]]
    first[0].pop("latent")
    for wrong, message in (
        (first, "an episode has none: expected its latent"),
        ([{**kept[0], "latent": [1.0, 2.0]}], r"latent has the shape \(2,\); expected \(1,\)"),
        ([{**kept[0], "latent": [np.nan]}], r"episodes\[0\].latent holds NaN"),
    ):
        with pytest.raises(metarl.UserError, match=message):
            agent.adapt(episodes=wrong)
    with pytest.raises(metarl.UserError, match="has a latent, but this policy holds none"):
        agents["plain"].adapt(episodes=kept[:1])


def test_a_policy_explores_where_it_is_asked_to(agents: Any) -> None:
    policy = agents["latent"].unadapted
    before, found = policy.latent, []
    for _ in range(200):
        policy.reset(explore=True)
        found.append(policy.latent)
    policy.reset()
    assert np.array_equal(policy.latent, before) and np.array_equal(before, [0.0])
    assert abs(np.mean(found)) < 0.25 and 0.8 < np.std(found) < 1.2
    obs = np.array([0.1, 0.2])
    policy.reset(explore=True)
    drawn = policy(obs)
    policy.reset()
    assert not np.array_equal(drawn, policy(obs))
    plain = agents["plain"].unadapted
    plain.reset(explore=True)
    assert plain.latent is None


def test_a_robot_is_reset_once_before_each_episode(agents: Any) -> None:
    class Counted(gymnasium.Wrapper):
        seeds: ClassVar[list[Any]] = []

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            self.seeds.append(seed)
            return super().reset(seed=seed, options=options)

    agents["plain"].adapt(Counted(point_env()), episodes=3, seed=5)
    assert Counted.seeds == [5, None, None]


def test_what_may_be_in_other_units_is_told(agents: Any) -> None:
    memory, belief = agents["memory"], agents["belief"]
    (episode,) = as_episodes(gathered(belief, num_worlds=1, num_rounds=1)[0])
    inside = {**episode, "action": episode["action"].clip(-0.1, 0.1)}
    belief.adapt(episodes=[inside])
    with pytest.warns(UserWarning, match=r"actions have 20, which lies outside Box.*other units"):
        belief.adapt(episodes=[{**inside, "action": np.full_like(inside["action"], 20)}])
    box = gymnasium.spaces.Box
    seen = memory.observation_space
    degrees = Other(box(seen.low * 57.3, seen.high * 57.3), memory.action_space)
    degrees.reset = lambda **_: 1 / 0
    told = pytest.warns(
        UserWarning, match=r"observation\[\d\] of the environment lies from .* unit"
    )
    with told, pytest.raises(ZeroDivisionError):
        memory.adapt(degrees, episodes=1)


def test_an_agent_with_a_memory_is_told_what_was_done_instead(agents: Any) -> None:
    def second(executed: Any) -> Any:
        policy = agents["memory"].unadapted
        obs = agents["memory"].observation_space.sample() * 0
        first = policy(obs)
        policy(obs, 1.0, executed=first if executed is None else executed)
        return first, policy._state

    first, own = second(None)
    assert not torch.equal(second((first + 1) % 3)[1].feedback, own.feedback)
    torch.testing.assert_close(second(first)[1].feedback, own.feedback)
    with pytest.raises(metarl.UserError, match="executed=7: expected a whole number, from 0 to 2"):
        second(7)


def test_given_episodes_leave_a_memory_as_playing_them_did(agents: Any) -> None:
    agent = agents["memory"]
    found, state = gathered(agent, num_worlds=1, num_rounds=2)
    policy = agent.adapt(episodes=as_episodes(found))
    torch.testing.assert_close(policy._start.memory, state.memory)
    torch.testing.assert_close(policy._start.feedback, state.feedback)


@pytest.mark.parametrize("name", ["plain", "latent", "memory"])
def test_playing_adapts_repeats_and_gives_actions_of_the_space(agents: Any, name: str) -> None:
    agent, make = agents[name], bandit_env if name == "memory" else point_env
    policies = [agent.adapt(make(), episodes=2, seed=1) for _ in range(2)]
    obs = agent.observation_space.sample()
    actions = [policy(obs) for policy in policies]
    np.testing.assert_array_equal(*actions)
    assert agent.action_space.contains(actions[0])
    assert policies[0].play(make(), episodes=2, seed=3).shape == (2,)
    drawn = [policies[0].play(make(), 3, seed=3, deterministic=False) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)


def test_episodes_are_shared_out_among_the_updates_of_training(
    agents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    update = GradientAdapter.update

    def counted(self: Any, state: Any, data: Any, noise: Any = None) -> Any:
        seen.append(data.reward.shape[1])
        return update(self, state, data, noise)

    monkeypatch.setattr(GradientAdapter, "update", counted)
    updates = agents["latent"]._sizes.num_updates
    assert updates == 3
    agents["three steps"].adapt(point_env(), episodes=5)
    assert seen == [2, 2, 1]
    for episodes, expected in {5: [3, 2], 4: [2, 2], 7: [3, 2, 2]}.items():
        seen.clear()  # A latent of a single episode is judged beside none.
        agents["latent"].adapt(point_env(), episodes=episodes)
        assert seen == expected
    seen.clear()
    with pytest.warns(UserWarning, match="one episode before an update"):
        agents["latent"].adapt(point_env(), episodes=1)
    assert seen == [1]
    seen.clear()
    agents["latent"].adapt(point_env())
    assert seen == [3] * updates


@pytest.mark.parametrize("name", ["plain", "latent", "memory", "belief", "memoryless"])
@pytest.mark.parametrize("ending", ["pt", "pt2"])
def test_module_and_file_act_as_the_policy(
    agents: Any, name: str, ending: str, tmp_path: Path
) -> None:
    agent, make = agents[name], bandit_env if name == "memory" else point_env
    policy = agent.adapt(make(), episodes=2)
    file = policy.export(tmp_path / f"policy.{ending}")
    loaded = torch.jit.load(file) if ending == "pt" else torch.export.load(file).module()
    remembers = name in ("memory", "belief")
    assert hasattr(policy.module, "start") == remembers
    memory = policy.module.start if remembers else None
    generator, reward = torch.Generator().manual_seed(0), 0.0
    for t in range(4):
        obs = torch.rand(agent.observation_space.shape, generator=generator)
        expected = policy(obs.numpy(), reward if t else None)
        if memory is None:
            action = loaded(obs)
            np.testing.assert_allclose(policy.module(obs), action, rtol=1e-5)
        else:
            action, memory = loaded(obs, torch.tensor(reward), memory)
        if ending == "pt" and memory is None:  # as numpy's arrays are, unless one says otherwise
            assert torch.equal(loaded(obs.double()), action)
        np.testing.assert_allclose(action, expected, rtol=1e-5)
        reward = float(t % 2)


def test_an_exported_belief_depends_on_what_was_earned_and_on_where_an_episode_begins(
    agents: Any,
) -> None:
    policy = agents["belief"].adapt(point_env(), episodes=1)
    module, obs = policy.module, torch.ones(2)
    _, once = module(obs, torch.tensor(0.0), module.start)
    twice = [module(obs, torch.tensor(reward), once)[1] for reward in (0.0, 0.0, 5.0)]
    assert torch.equal(*twice[:2]) and not torch.allclose(twice[0], twice[2])
    # what was earned before an episode isn't looked at, and the step after the first has a flag
    assert torch.equal(module(obs, torch.tensor(5.0), module.start)[1], once)
    hidden, reached = once[:3], twice[0][:3]
    assert torch.equal(hidden, module.start[:3]) and not torch.equal(reached, hidden)
    policy(obs.numpy())
    policy(obs.numpy(), 5.0)
    torch.testing.assert_close(policy._state.hidden[0], twice[2][:3])


def test_a_file_names_what_it_takes(agents: Any, tmp_path: Path) -> None:
    for name, names in (("plain", ["obs"]), ("memory", ["obs", "reward", "memory"])):
        file = agents[name].unadapted.export(tmp_path / f"{name}.pt")
        arguments = torch.jit.load(file).forward.schema.arguments
        assert [argument.name for argument in arguments][1:] == names


def test_a_memory_learns_from_rewards_and_starts_anew_with_each_episode(agents: Any) -> None:
    policy = agents["memory"].adapt(bandit_env(), episodes=1)
    obs = np.zeros(1, np.float32)
    start = policy._state
    policy(obs)
    policy(obs, 1.0)
    rewarded = policy._state.feedback
    policy.reset()
    assert policy._state is start
    policy(obs)
    policy(obs, 0.0)
    assert not torch.equal(rewarded, policy._state.feedback)


def test_a_file_runs_where_metarl_cannot_be_imported(agents: Any, tmp_path: Path) -> None:
    agents["plain"].adapt(point_env(), episodes=2).export(tmp_path / "policy.pt")
    expected = agents["plain"].adapted(np.array([0.5, -0.5], np.float32))
    program = (
        "import sys; sys.modules['metarl'] = None; sys.modules['envs'] = None\n"
        "import torch\n"
        "print(torch.jit.load('policy.pt')(torch.tensor([0.5, -0.5])).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    np.testing.assert_allclose(eval(done.stdout), expected, rtol=1e-6)


class Other(gymnasium.Env):
    def __init__(self, seen: Any, done: Any) -> None:
        self.observation_space, self.action_space = seen, done


def test_what_does_not_fit_is_named(agents: Any, tmp_path: Path) -> None:
    plain, box = agents["plain"], gymnasium.spaces.Box
    seen, done = plain.observation_space, plain.action_space
    episode = {"obs": np.zeros((3, 2)), "action": np.zeros((2, 2)), "reward": np.zeros(2)}
    for mistake, message in (
        (lambda: plain.adapt(), "neither an environment nor episodes"),
        (lambda: plain.adapt("bandit"), "env is a str; expected a Gymnasium environment"),
        (lambda: plain.adapt(Other(box(-1, 1, (3,)), done)), "observation_space is Box.*trained"),
        (lambda: plain.adapt(Other(seen, box(-3, 3, (2,)))), "action_space is Box.*trained"),
        (
            lambda: plain.adapt(Other(gymnasium.spaces.Dict(x=box(-1, 1), y=box(-1, 1)), done)),
            r"FlattenObservation\(env\)",
        ),
        (lambda: plain.adapt(Other(seen, box(-3, 3, (2,)))), r"RescaleAction\(env, -.*\) lets"),
        (lambda: plain.adapt(bandit_env(), episodes=1), "observation_space"),
        (lambda: plain.adapt(point_env(), episodes=-1), "episodes=-1: expected a whole number, 1"),
        (lambda: plain.adapt(point_env(), episodes=0), "episodes=0: expected a whole number, 1"),
        (lambda: plain.adapt(point_env(), seed=-1), "seed=-1: expected a whole number"),
        (lambda: plain.unadapted.play(point_env(), seed=-1), "seed=-1: expected a whole number"),
        (lambda: metarl.load("x" * 5000), "File name too long"),
        (lambda: plain.unadapted.play(bandit_env()), "the environment's observation_space is"),
        (lambda: plain.unadapted("here"), "an observation is 'here'; expected numbers"),
        (lambda: _after_a_step(agents["memory"], np.nan), "reward holds NaN or infinity"),
        (lambda: plain.adapt(episodes=[{"obs": []}]), r"episodes\[0\] has no action"),
        (
            lambda: plain.adapt(episodes=[{**episode, "obs": np.zeros((2, 2))}]),
            r"episodes\[0\].obs has the shape \(2, 2\); expected \(3, 2\)",
        ),
        (
            lambda: plain.adapt(episodes=[{**episode, "reward": [0.0, np.nan]}]),
            r"episodes\[0\].reward holds NaN",
        ),
        (lambda: agents["latent"].adapt(episodes=[episode]), "holds a latent for each episode"),
        (lambda: plain.unadapted(np.zeros(3)), r"the shape \(3,\); expected \(2,\)"),
        (lambda: plain.unadapted.export(tmp_path / "x.onxx"), "ends in .pt, .pt2, .onnx"),
        (lambda: plain.unadapted.export(tmp_path / "no/x.pt"), "there is no folder"),
    ):
        with pytest.raises(metarl.UserError, match=message):
            mistake()


def _after_a_step(agent: Any, reward: float) -> Any:
    policy = agent.unadapted
    policy(np.zeros(1))
    return policy(np.zeros(1), reward)


def test_an_agent_stays_what_it_was_when_its_run_goes_on_and_the_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = {"algo": {"meta_batch_size": 2, "episodes_per_task": 2}, "env": POINT}
    run = metarl.train(
        "point_navigation_2d", "maml_ppo", **{**SMALL, "iterations": 1}, **tiny, run_dir="run"
    )
    agent = metarl.load("run")
    before = agent.evaluate(num_tasks=3)
    metarl.train(resume="run", iterations=3)
    for file in (run.folder / "checkpoints").glob("iteration_00000001.pt"):
        file.unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    again = pickle.loads(pickle.dumps(agent)).evaluate(num_tasks=3)
    np.testing.assert_array_equal(before.returns, again.returns)
    assert agent.render(num_tasks=1, width=64, height=48).folder == tmp_path / "run" / "videos"


def test_an_agent_and_its_policy_pickle(agents: Any) -> None:
    obs, env = np.array([0.3, -0.1]), point_env()
    for name in ("plain", "latent"):
        policy = agents[name].adapt(env, episodes=2)
        again = pickle.loads(pickle.dumps(policy))
        assert np.array_equal(policy(obs), again(obs))
        assert repr(pickle.loads(pickle.dumps(agents[name]))) == repr(agents[name])
    assert repr(agents["plain"].unadapted) == "Policy(observations (2,) -> actions (2,))"


def test_counts_of_numpy_are_counts(agents: Any) -> None:
    policy = agents["plain"].adapt(point_env(), episodes=np.int64(2), seed=np.uint8(1))
    assert len(policy.play(point_env(), np.int32(2))) == 2


def test_onnx_is_asked_for_by_name_where_it_is_missing(
    agents: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(metarl.UserError, match=r"the package onnx isn't installed \(pip install"):
        export(agents["plain"].unadapted.module, tmp_path / "policy.onnx", torch.zeros(2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["plain", "latent", "memory", "belief"])
def test_an_agent_acts_and_adapts_without_its_environment(
    agents: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = (bandit_env if name == "memory" else point_env)()
    folder = agents[name]._loaded.run_folder

    def acts(agent: Any) -> list[Any]:
        policy = agent.adapt(env, episodes=4)
        return [policy(env.reset(seed=seed)[0]) for seed in range(3)]

    here = acts(metarl.load(folder))

    def gone(*_: Any, **__: Any) -> None:
        raise ImportError("no module named my_simulator")

    monkeypatch.setattr(envs, "make", gone)
    with pytest.raises(metarl.UserError, match="my_simulator"):
        metarl.load(folder)
    agent = metarl.load(folder, with_env=False)
    np.testing.assert_array_equal(acts(agent), here)
    assert agent.spec.spec_hash == agents[name].spec.spec_hash
    for asked in (agent.evaluate, agent.render):
        with pytest.raises(metarl.UserError, match="was loaded with with_env=False"):
            asked()


def test_an_environment_of_ones_own_is_not_called_where_it_is_left_out(tmp_path: Path) -> None:
    """Its name is data then, which no config of one's own must allow."""
    metarl.train("bandit", "rl2_ppo", **SMALL, run_dir=tmp_path)
    content, *_ = checkpoint.load_newest(tmp_path / "checkpoints")[1:]
    content["config"]["env"]["name"] = "my_simulator:bandits"
    file = checkpoint.save(tmp_path, content, keep=1)
    with pytest.raises(
        metarl.UserError, match=r"env\.name is 'my_simulator:bandits', which isn't metarl's"
    ):
        metarl.load(file)
    agent = metarl.load(file, with_env=False)
    assert agent.unadapted(np.zeros(1, np.float32)) in range(5)


def test_what_an_earlier_version_wrote_needs_its_environment() -> None:
    with pytest.raises(
        metarl.UserError, match=r"doesn't say what its agent sees and does.*with_env=True"
    ):
        metarl.load("bandit/rl2_ppo", with_env=False)
