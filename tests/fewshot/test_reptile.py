"""Reptile: its inner steps are torch's Adam without momentum, its outer step goes towards the mean
of the adapted parameters."""

import pytest
import torch
from torch.nn import functional

from metarl import zoo
from metarl.core import params as P
from metarl.fewshot.algorithms.reptile import Reptile, RmsState, RmsStep
from metarl.fewshot.algorithms.shared import Setting
from metarl.fewshot.digits import digits
from metarl.fewshot.evaluate import adaptation_measures, predictions
from metarl.fewshot.types import Streams, TaskSize
from metarl.nn.features import PerceptronFeatures
from metarl.struct import map_tensors

SIZE = TaskSize(ways=3, shots=1, queries=5)


def learner(**settings):
    streams = Streams(
        **{name: torch.Generator().manual_seed(0) for name in ("init", "tasks", "noise")}
    )
    defaults = {
        "meta_batch_size": 2,
        "train_shots": 4,
        "num_inner_steps": 3,
        "inner_batch_size": 5,
        "inner_lr": 0.01,
        "inner_beta": 0.9,
        "num_test_steps": 4,
        "test_batch_size": 3,
        "outer_lr": 0.5,
        "decay_iterations": 10,
        "transductive": False,
    }
    embed = PerceptronFeatures((1, 8, 8), sizes=[6], batch_norm=True, generator=streams.init)
    setting = Setting(
        source=digits(), size=SIZE, embed=embed, streams=streams, device=torch.device("cpu")
    )
    made = Reptile(setting=setting, **{**defaults, **settings})
    return made, streams


def test_what_the_zoo_keeps_answers_as_the_learner():
    """A test step divides by the mean squares of earlier gradients, as if in training."""
    trained, streams = learner()
    for _ in range(3):
        trained.step()
    fresh, _ = learner()
    kept = zoo.weights(trained.state_dict(), half=False)
    fresh.load_state_dict(zoo.completed(kept, fresh.state_dict()))
    episodes = digits().sample(2, SIZE, streams.tasks, "test")
    *_, expected = predictions(trained.adapter(), episodes, 4)
    *_, found = predictions(fresh.adapter(), episodes, 4)
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected), rtol=0, atol=0)


def test_inner_step_is_torchs_adam_without_momentum():
    generator = torch.Generator().manual_seed(0)
    theirs = torch.randn(4, generator=generator, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.Adam([theirs], lr=0.1, betas=(0.0, 0.8))
    ours = RmsState(
        params={"x": theirs.detach().clone()[None]},
        moments={"x": torch.zeros(1, 4, dtype=torch.float64)},
        num_steps=0,
    )
    for _ in range(5):
        gradient = torch.randn(4, generator=generator, dtype=torch.float64)
        theirs.grad = gradient
        optimizer.step()
        ours = RmsStep(lr=0.1, beta=0.8)(ours, {"x": gradient[None]})
    torch.testing.assert_close(ours.params["x"][0], theirs.detach(), rtol=1e-12, atol=0)


def test_outer_step_goes_the_share_of_the_way_that_is_left():
    made, streams = learner()
    made.step()
    before = {name: leaf.clone() for name, leaf in made._params.items()}
    tasks = streams.tasks.get_state()
    moments = {name: leaf.clone() for name, leaf in made._moments.items()}
    made.step()
    streams.tasks.set_state(tasks)
    support = digits().sample(2, TaskSize(ways=3, shots=4, queries=1), streams.tasks).support
    ends = []
    for i in range(
        2
        # Each task by itself with torch's own optimizer; 12 examples, 3 batches of 5: rows 10, 11, 0,
        # 1, 2 last.
    ):
        params = {name: leaf.clone().requires_grad_() for name, leaf in before.items()}
        optimizer = torch.optim.Adam(list(params.values()), lr=0.01, betas=(0.0, 0.9))
        for name, leaf in params.items():
            optimizer.state[leaf] = {
                "step": torch.tensor(3.0),
                "exp_avg": torch.zeros_like(leaf),
                "exp_avg_sq": moments[name].clone(),
            }
        for rows in ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 0, 1, 2]):
            answer = P.call(made._network, params, support.x[i, rows])
            optimizer.zero_grad()
            functional.cross_entropy(answer, support.y[i, rows]).backward()
            optimizer.step()
        ends.append(P.detached(params))
    share = 0.5 * (1 - 1 / 10)
    for name, leaf in made._params.items():
        expected = before[name] + share * ((ends[0][name] + ends[1][name]) / 2 - before[name])
        # The bias before a batch norm has gradient 0 up to rounding, which Adam blows up to full
        # steps.
        if name != "embed.layers.0.bias":
            torch.testing.assert_close(
                leaf, expected, rtol=1e-4, atol=1e-5
            )  # float32, and Adam divides by small numbers


def test_saved_learner_goes_on_bit_for_bit():
    (first, first_streams), (second, second_streams) = learner(), learner()
    for _ in range(3):
        first.step()
    second.load_state_dict(map_tensors(torch.clone, first.state_dict()))
    second_streams.tasks.set_state(first_streams.tasks.get_state())
    assert [first.step() for _ in range(2)] == [second.step() for _ in range(2)]


def test_questions_do_not_see_each_other_unless_transductive():
    episodes = digits().sample(2, SIZE, torch.Generator().manual_seed(1))
    changed = episodes.query.x.clone()
    changed[:, 1:] = changed[:, 1:].flip(-1)
    for transductive in (False, True):
        adapter = learner(transductive=transductive)[0].adapter()
        state = adapter.update(adapter.begin(2), episodes.support)
        one, other = (adapter.predict(state, x)[:, 0] for x in (episodes.query.x, changed))
        assert torch.allclose(one, other, atol=1e-5) != transductive


def test_learns_digits():
    made, _ = learner(
        meta_batch_size=5, inner_batch_size=12, num_inner_steps=5, num_test_steps=5, inner_lr=0.01, inner_beta=0.999,
        outer_lr=1.0, decay_iterations=60, transductive=True,
    )  # fmt: skip
    measure = lambda: adaptation_measures(
        made.adapter(),
        digits(),
        SIZE,
        num_tasks=100,
        num_updates=1,
        generator=torch.Generator().manual_seed(1),
    ).mean(0)[1]
    before = measure()
    for _ in range(60):
        made.step()
    assert measure() > before + 0.1  # from .43 to .64 with this seed


@pytest.mark.parametrize("setting", [{"train_shots": 0}, {"inner_beta": 1.0}, {"outer_lr": 0.0}])
def test_mistakes_are_named(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        learner(**setting)


def test_an_evaluation_takes_its_own_steps_and_all_examples_for_the_batch_norm():
    size, generator = TaskSize(ways=3, shots=4, queries=1), torch.Generator().manual_seed(1)
    support, found = digits().sample(2, size, generator).support, []
    for batch_size in (3, 5):
        adapter = learner(test_batch_size=batch_size)[0].adapter()
        found.append(adapter.update(adapter.begin(2), support))
    assert [state.num_steps for state in found] == [4, 4]  # num_test_steps
    assert torch.equal(found[0].reference, support.x)
    one, other = (P.flatten(state.params) for state in found)
    assert not torch.allclose(one, other)
