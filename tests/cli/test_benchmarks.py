"""The benchmarks' own bookkeeping: which rows a kind has, and that a wrong meta-gradient would be
seen."""

import sys

import pytest
import torch

from metarl.cli.benchmarks import advantages, fewshot
from metarl.cli.benchmarks import few_shot_updates as few_shot
from metarl.cli.commands import benchmark as command
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


@pytest.mark.parametrize("kind", ["update", "fewshot"])
def test_unknown_rows_are_named(kind, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["metarl-benchmark", kind, "rows=[trpos]"])
    with pytest.raises(SystemExit) as stop:
        command.main()
    shown = capsys.readouterr().err
    assert stop.value.code == 2 and "rows=trpos: expected some of" in shown
