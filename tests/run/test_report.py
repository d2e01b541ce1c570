"""What an evaluation says of success: how many episodes solved the task after each update, where the environment can tell."""

import torch

import envs
from metarl.rl.collect import Streams
from metarl.run import report


class Learner:
    """Stands still until its first update, then does as the environment's scripted controller; its state counts updates."""

    def __init__(self, env, *, learns: bool) -> None:
        self.env, self.learns = env, learns

    def begin(self, num_tasks, episodes_per_task=1):
        return 0

    def act(self, state, obs, generator):
        action = self.env.scripted_action() if state else self.env.stand_still_action()
        return action, torch.zeros(len(obs))

    def observe(self, state, obs, action, step):
        return state

    def update(self, state, data):
        return state + self.learns


def evaluated(name: str, *, num_updates: int, learns: bool = True) -> dict:
    # 1.2 s are enough to reach a place with the arm.
    env = envs.make(name, 4, horizon=30)
    streams = Streams(**{stream: torch.Generator().manual_seed(0) for stream in ("tasks", "reset", "policy")})
    return report.evaluate(
        Learner(env, learns=learns),
        env,
        random_adapter=Learner(env, learns=False),
        num_tasks=4,
        num_updates=num_updates,
        unit="update",
        streams=streams,
        device=torch.device("cpu"),
    ).report


def test_success_rate_stands_beside_the_returns_of_each_update() -> None:
    found = evaluated("arm_reach", num_updates=1)
    assert [row["success_rate"] for row in found["returns"]] == [0.0, 1.0]
    assert [row["success_rate"] for row in found["random_initialisation"]] == [0.0, 0.0]
    assert found["references"]["scripted"]["success_rate"] == 1.0
    assert found["stand_still"]["success_rate"] == 0.0
    lines = report.table(found).splitlines()
    told = [line.split("success ")[1] for line in lines if "success" in line]
    solved, not_yet = "100 % [100, 100]", "0 % [0, 0]"
    assert told == [not_yet, solved, not_yet, not_yet, not_yet, solved]  # learner, random, standing still, scripted


def test_environments_that_do_not_tell_success_have_no_success_rate() -> None:
    found = evaluated("point_navigation_2d", num_updates=0)
    assert "success" not in str(found["returns"])
    assert "success" not in report.table(found)


def test_a_gradient_learner_has_updates_and_a_memory_has_episodes() -> None:
    assert [report.stage("update", k) for k in range(3)] == ["before adaptation", "after 1 update", "after 2 updates"]
    assert [report.stage("episode", k) for k in range(2)] == ["episode 1", "episode 2"]
    found = evaluated("point_navigation_2d", num_updates=1, learns=False)
    updates, episodes = (report.table(found | {"unit": unit}) for unit in ("update", "episode"))
    assert "before adaptation" in updates and "random init, 1 upd." in updates and "gain of 1 update" in updates
    assert "update" not in episodes and "random init, ep. 2" in episodes and "episode 2 - episode 1" in episodes
