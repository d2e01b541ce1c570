"""The best return of k fixed speeds: by hand, by trying all choices, and as published for the main
job."""

import itertools

import pytest
import torch

import envs
from metarl.noise import Noise
from metarl.rl.evaluation.fixed_speeds import best_speeds, mean_miss


def test_few_targets_by_hand():
    """0 1 2 | 10 11: medians 1 and 10 (or 11), distances 1 0 1 0 1. One speed: 2, distances 2 1 0 8
    9."""
    targets = torch.tensor([10.0, 0.0, 2.0, 11.0, 1.0])
    assert mean_miss(targets, best_speeds(targets, 1)) == pytest.approx(20 / 5)
    speeds = best_speeds(targets, 2)
    assert speeds[0] == 1
    assert mean_miss(targets, speeds) == pytest.approx(3 / 5)
    assert mean_miss(targets, best_speeds(targets, 5)) == 0


@pytest.mark.parametrize("num_speeds", [1, 2, 3])
def test_no_choice_of_targets_is_better(num_speeds):
    """Some best choice has targets only: the distance is linear in a speed between two targets."""
    targets = torch.rand(9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    best = min(
        mean_miss(targets, torch.stack(choice))
        for choice in itertools.combinations(targets, num_speeds)
    )
    assert mean_miss(targets, best_speeds(targets, num_speeds)) == pytest.approx(best, abs=1e-12)


def test_bounds_of_the_main_job_are_those_published():
    """−158, −108, −76 and −63 with one to four speeds on its 30 held-out velocities, which hold
    36.5 for RL²'s own losses."""
    env = envs.make("half_cheetah_vel", num_worlds=1)
    targets = env.prior.test_tasks(30).target_velocity
    bounds = [
        -200 * mean_miss(targets, best_speeds(targets, k)) - env.references.fixed_speeds.allowance
        for k in (1, 2, 3, 4)
    ]
    assert [round(bound) for bound in bounds] == [-158, -108, -76, -63]


@pytest.mark.parametrize("name", [name for name in envs.ALL if "_vel" in name])
def test_every_velocity_environment_pays_as_it_says(name):
    """Standing still is the speed 0, held from the first step on but for what the robot sways: the
    bonus less the target."""
    env = envs.make(name, num_worlds=8)
    tasks = env.prior.test_tasks(8)
    env.set_tasks(tasks)
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    step = env.step(env.references.stand_still())
    costs = sum((step.terms[key] for key in step.terms if key.endswith("_cost")), torch.zeros(8))
    expected = (
        env.references.fixed_speeds.bonus
        - (step.terms["velocity"] - tasks.target_velocity).abs()
        - costs
    )
    assert step.reward.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_impossible_numbers_of_speeds_are_refused():
    for count in (0, 4):
        with pytest.raises(ValueError, match=f"num_speeds is {count}; expected 1 to 3"):
            best_speeds(torch.ones(3), count)
