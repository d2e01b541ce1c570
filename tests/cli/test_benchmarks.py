"""The benchmarks' own bookkeeping: which rows a kind has, and that a wrong meta-gradient would be
seen."""

import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from metarl.cli.benchmarks import advantages, fewshot, seeds
from metarl.cli.benchmarks import few_shot_updates as few_shot
from metarl.cli.benchmarks import off_policy_updates as off_policy
from metarl.cli.commands import benchmark as command
from metarl.core import chunks
from metarl.rl.data.batches import policy_batch
from metarl.struct import replace


def test_relative_error_is_over_all_parameters_together():
    expected = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    # ‖(0, 0.3, 0.4)‖ / ‖(3, 0, 4)‖ = 0.5 / 5
    found = {"a": torch.tensor([3.0, 0.3]), "b": torch.tensor([4.4])}
    assert fewshot.relative_error(found, expected) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="parameters"):
        fewshot.relative_error({"a": expected["a"]}, expected)


def test_gradients_that_do_not_agree_are_reported(monkeypatch):
    one_step_less = lambda make, steps: few_shot.plain(make, steps - 1)
    problem = (few_shot.sinusoid, 3)
    rows = {
        "less": (problem, (one_step_less, problem)),
        "vmap": (problem, (few_shot.over_tasks, ("vmap", False, *problem))),
    }
    monkeypatch.setattr(fewshot, "AGREEMENT", rows)
    less, vmap = fewshot.agreement(tuple(rows))
    assert not less["reached"] and less["error"] > 1e-3
    assert vmap["reached"] and torch.get_default_dtype() == torch.float32


def test_the_plain_way_to_advantages_gives_the_same_numbers():
    t = advantages.noise(num_tasks=2)
    mask, terminated = t.mask.clone(), t.terminated.clone()
    mask[:, ::3, 120:], terminated[:, ::3, 119] = False, True  # every third episode ends early
    t = replace(t, mask=mask, terminated=terminated, reward=t.reward * mask)
    ours = policy_batch(t, discount=advantages.DISCOUNT, gae_lambda=advantages.GAE_LAMBDA).advantage
    for task in range(2):
        plain = advantages.plain_task(t.step_obs[task], t.reward[task], t.mask[task])
        torch.testing.assert_close(
            ours[task], plain.flatten(), rtol=1e-4, atol=1e-5
        )  # sums of 200 in float32


def test_seeds_together_and_one_after_the_other_do_the_same():
    words = ["env=point_navigation_2d", "env.horizon=5", "algo.meta_batch_size=2", "algo=maml_ppo"]
    assert seeds.together(words, 2)() == seeds.alone(words, 2)()


@pytest.mark.parametrize("kind", ["update", "fewshot", "seeds"])
def test_unknown_rows_are_named(kind, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["metarl-benchmark", kind, "rows=[trpos]"])
    with pytest.raises(SystemExit) as stop:
        command.main()
    shown = capsys.readouterr().err
    assert stop.value.code == 2 and "rows=trpos: expected some of" in shown


def test_the_off_policy_update_and_its_products_are_of_the_same_sizes(monkeypatch):
    """Every product of the reference is one of the update's, counted in multiplications."""
    small = {"TASKS": 2, "STEPS": 3, "CONTEXT": 2, "CHUNK": 1}
    sizes = {"ENCODER_SIZES": (4, 5), "HIDDEN_SIZES": (6, 7)}
    for name, value in (small | sizes).items():
        monkeypatch.setattr(off_policy, name, value)
    multiplied = []

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.name().split("::")[1].split(".")[0] in ("mm", "bmm", "addmm", "baddbmm"):
                a, b = [x for x in args if isinstance(x, torch.Tensor)][-2:]
                multiplied.append(a.numel() * b.shape[-1])
            return function(*args, **(kwargs or {}))

    monkeypatch.setattr(off_policy, "map_in_threads", lambda f, items: [f(item) for item in items])
    monkeypatch.setattr(chunks, "map_in_threads", lambda f, items, device: [f(x) for x in items])
    found = []
    for factory in (off_policy.products, off_policy.ours):
        step = factory()
        multiplied.clear()
        with Counting():
            step()
        found.append(sum(multiplied))
    assert found[0] == found[1]
