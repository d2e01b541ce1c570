"""Epochs of several learners side by side: each has the numbers that it has alone, bit for bit."""

from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf

from metarl.cli import build
from metarl.cli.configs import CONFIGS, composed
from metarl.nn.latent import LOG_STD, MEAN
from metarl.rl.algorithms import ppo_epoch
from metarl.rl.algorithms.ppo_epoch import epochs_of
from metarl.run.seeding import Generators

WORLD = ["env=point_navigation_2d", "env.horizon=8", "algo.meta_batch_size=3", "algo.chunk=2"]
PLAIN = ["algo=maml_ppo", "model=mlp", "algo.episodes_per_task=2", "model.hidden_sizes=[8]"]
CASES = {
    "a latent and rates for each step": ["algo=maml_ppo", "algo.episodes_per_task=2"],
    "a rate for each entry": [*PLAIN, "algo.inner_rule=learned_rates", "algo.inner_lr_decay=1.0"],
    "penalties on all steps": [
        *("algo=promp", "algo.episodes_per_task=2", "algo.num_inner_steps=2"),
        *("algo.inner_kl_steps=all", "algo.inner_kl_coefficient=0.3", "model.hidden_sizes=[8]"),
    ],
    "first order, the end alone": [
        *(*PLAIN, "algo.gradient_mode=first_order", "algo.judged_updates=last"),
        *("algo.inner_rule=sgd", "algo.adapt_only=[last_layer]", "algo.inner_lr_decay=1.0"),
    ],
}


def asked(words, seeds=(3, 1, 4), weight=None):
    """What learners ask after their first step of Adam, so that they have left where they were."""
    config = OmegaConf.create(composed("train", [*WORLD, *words], [CONFIGS])[0])
    found = []
    for seed in seeds:
        generators, env = Generators(seed), build.training_environment(config)
        learner = build.learner(config, env, generators, torch.device("cpu"))
        if weight is not None:
            learner.weight = weight
        iteration = learner.iteration()
        first = iteration.send(learner.source.gather(next(iteration)))
        found.append(iteration.send(epochs_of([first])[0]))
    return found


@pytest.mark.parametrize("case", CASES)
def test_side_by_side_each_has_the_bits_that_it_has_alone(case):
    questions = asked(CASES[case])
    for one, found in zip(questions, epochs_of(questions), strict=True):
        (expected,) = epochs_of([one])
        assert expected.kl > 0 and any(leaf.any() for leaf in expected.gradient.values())
        for name, leaf in expected.gradient.items():
            assert torch.equal(found.gradient[name], leaf), name
        for name in ("loss", "kl", "inner_kl"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
        for name, leaf in expected.outputs.items():
            assert torch.equal(found.outputs[name], leaf), name


def test_the_kl_counts_how_far_latents_have_moved():
    """Else a rate that follows the KL, and a bound on it, would let them run away."""
    (question,) = asked(CASES["a latent and rates for each step"], seeds=(3,))
    left, kls, expected = question.left, [], []
    for shift in (0.0, 2.0):
        moved = {**left, MEAN: left[MEAN] + shift * left[LOG_STD].exp()}
        (found,) = epochs_of([replace(question, left=moved)])
        kls.append(found.kl)
        old, new = (
            torch.distributions.Normal(one[MEAN], one[LOG_STD].exp())
            for one in (moved, found.outputs)
        )
        expected.append(torch.distributions.kl_divergence(old, new).flatten(1).sum(1).mean())
    assert expected[1] > 0.5
    assert (kls[1] - kls[0]).item() == pytest.approx((expected[1] - expected[0]).item(), rel=1e-5)


def test_so_many_stand_side_by_side_as_fit_into_a_cache_and_round_alike(monkeypatch):
    (question,) = asked(CASES["a rate for each entry"], seeds=(0,))  # chunks of 2 · 16 steps
    called = []
    recorded = lambda group: called.append(len(group)) or epochs_of(group)
    monkeypatch.setattr(ppo_epoch, "epochs_of", recorded)
    question.answers([question] * 5)
    monkeypatch.setattr(ppo_epoch, "ROWS_SIDE_BY_SIDE", 64)
    assert len(question.answers([question] * 5)) == 5
    assert called == [5, 2, 2, 1]
    # The second of two tasks with 15 steps would begin in the middle of 16 bytes.
    query = replace(question.data.query, mask=question.data.query.mask[:, :15])
    odd = replace(question, data=replace(question.data, query=query))
    assert odd._num_side_by_side() == 1


def test_a_gpu_takes_as_many_side_by_side_as_its_memory_lets(monkeypatch):
    (question,) = asked(CASES["a rate for each entry"], seeds=(0,))  # chunks of 2 · 16 steps
    query = replace(question.data.query, mask=question.data.query.mask.to("meta"))
    there = replace(question, data=replace(question.data, query=query))
    monkeypatch.setattr(ppo_epoch, "ROWS_ON_A_GPU", 96)
    assert there._num_side_by_side() == 3


@pytest.mark.parametrize(
    ("num_tasks", "workers", "sizes"),
    [
        (10, 2, [(2, 4)] * 4 + [(2, 2)] * 2),  # 5 chunks: two threads share the last one
        (8, 2, [(2, 4)] * 4),
        (3, 4, [(2, 2)] * 2 + [(1, 2)] * 2),
        (10, 3, [(2, 4)] * 5),  # two left over for three threads: a half isn't worth it
        (2, 8, [(2, 1)] * 4),
        (2, 1, [(2, 4)]),  # as on a GPU
    ],
)
def test_threads_share_out_by_learners_what_is_left_over(num_tasks, workers, sizes):
    shares = ppo_epoch._shares(num_tasks, 2, 4, workers)
    found = [(s.tasks.stop - s.tasks.start, s.learners.stop - s.learners.start) for s in shares]
    assert found == sizes
    done = {(t, n) for s in shares for t in _of(s.tasks) for n in _of(s.learners)}
    assert len(done) == num_tasks * 4 == sum(a * b for a, b in found)


def _of(numbers):
    return range(numbers.start, numbers.stop)


def test_objectives_of_someones_own_are_each_asked_themselves():
    words = [*PLAIN, "algo._target_=support.weighed.Weighed"]
    questions = [asked(words, seeds=(3,), weight=weight)[0] for weight in (1.0, 3.0)]
    found = questions[0].answers(questions)
    for one, question in zip(found, questions, strict=True):
        (expected,) = epochs_of([question])
        assert torch.equal(one.loss, expected.loss)
    assert found[0].loss != found[1].loss
