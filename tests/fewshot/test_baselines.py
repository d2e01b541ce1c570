"""The baselines: nearest neighbours by hand, and pretraining against closed forms of what it can
know at best."""

import math

import pytest
import torch

from metarl.fewshot.algorithms.nearest_neighbour import NearestNeighbour, NearestPixels
from metarl.fewshot.algorithms.pretrain import nearest_embedding, pretrain
from metarl.fewshot.algorithms.shared import Setting
from metarl.fewshot.deferred import DeferredTasks
from metarl.fewshot.digits import digits
from metarl.fewshot.sinusoid import Sinusoid
from metarl.fewshot.types import Examples, Streams, TaskSize
from metarl.nn.features import Flat, PerceptronFeatures
from metarl.struct import replace

DIGITS, SIZE = digits(), TaskSize(ways=3, shots=2, queries=4)
TRAINING = {"batch_size": 64, "outer_lr": 3e-3, "halve_every": None}
FINE_TUNING = {"inner_lr": 0.5, "num_test_steps": 2, "adapt_only": None}


def made(make, source=DIGITS, size=SIZE, sizes=(24, 16), batch_norm=True, **settings):
    streams = Streams(
        **{name: torch.Generator().manual_seed(0) for name in ("init", "tasks", "noise")}
    )
    embed = PerceptronFeatures(
        source.spec.input_shape, sizes=sizes, batch_norm=batch_norm, generator=streams.init
    )
    setting = Setting(
        source=source, size=size, embed=embed, streams=streams, device=torch.device("cpu")
    )
    return make(setting=setting, **settings)


def test_nearest_example_of_a_class_decides():
    support = Examples(
        x=torch.tensor([[[0.0, 0.0], [9.0, 9.0], [1.0, 3.0]]]), y=torch.tensor([[0, 0, 1]])
    )
    logits = NearestNeighbour(Flat((2,)))(support, torch.tensor([[[1.0, 1.0], [8.0, 9.0]]]))
    # Squared distances 2, 128, 4 and 145, 1, 49 + 36: the least of class 0 (two examples) and of
    # class 1.
    assert logits.tolist() == [[[-2.0, -4.0], [-1.0, -85.0]]]


def test_weights_fit_where_the_pictures_are_not_read_yet():
    """A packed file's source knows its problem, and not its pictures."""
    source = DeferredTasks(DIGITS.spec, lambda: DIGITS)
    there, here = (made(nearest_embedding, of, **TRAINING) for of in (DIGITS, source))
    here.load_state_dict(there.state_dict())


@pytest.mark.parametrize("count", [5, {"train": 64}, None], ids=str)
def test_what_a_users_source_writes_into_its_definition_is_its_own(count):
    class Own:
        spec = replace(DIGITS.spec, definition={"num_classes": count})
        sample = staticmethod(DIGITS.sample)

    learner = made(nearest_embedding, Own(), **TRAINING)
    assert learner._network.head.out_features == SIZE.ways
    assert not learner.needs().any_ways


def test_pixels_are_compared_by_whole_pictures():
    learner = made(NearestPixels, meta_batch_size=2)
    episodes = DIGITS.sample(4, SIZE, torch.Generator().manual_seed(1), "test")
    adapter = learner.adapter()
    answer = adapter.predict(
        adapter.update(adapter.begin(4), episodes.support), episodes.query.x
    ).argmax(-1)
    for i in range(4):
        for j in range(12):
            distances = (episodes.support.x[i] - episodes.query.x[i, j]).square().sum((1, 2, 3))
            assert answer[i, j] == episodes.support.y[i, distances.argmin()]


def test_pretraining_tells_all_training_classes_apart_and_sees_no_other():
    learner = made(pretrain, **TRAINING, **FINE_TUNING)
    assert learner._network.head.out_features == 20  # digits 0-4, each turned in four ways
    batch = learner._batch(torch.Generator().manual_seed(3))
    assert set(batch.y.tolist()) == set(range(20))
    classes = DIGITS.classes("train")
    for x, y in zip(batch.x, batch.y.tolist(), strict=True):
        own = classes.choose([y]).pictures.float() / 255
        assert (own == x).flatten(1).all(1).any()


def test_pretraining_learns_the_classes_and_features_that_tell_new_ones_apart():
    learner = made(nearest_embedding, **TRAINING)
    accuracy = [learner.step()["accuracy"] for _ in range(120)]
    assert (
        accuracy[0] < 0.2 and sum(accuracy[-10:]) / 10 > 0.7
    )  # chance is 1/20; some turned digits look alike


def test_pretraining_on_waves_learns_their_mean():
    """E[a sin(x − b)] = E[a] · (1/π) ∫₀^π sin(x − b) db = 2.55 · (−2/π) cos x."""
    learner = made(
        pretrain,
        Sinusoid(),
        TaskSize(ways=1, shots=10, queries=10),
        sizes=(40, 40),
        batch_norm=False,
        **{**TRAINING, "batch_size": 1000, "outer_lr": 1e-2, **FINE_TUNING},
    )
    for _ in range(150):
        learner.step()
    x = torch.linspace(-5, 5, 50)[:, None]
    error = (learner._network(x) + 2.55 * 2 / math.pi * torch.cos(x)).square().mean()
    assert error < 0.3  # against 1.3, the mean square of the curve itself
    adapter = learner.adapter()
    torch.testing.assert_close(
        adapter.predict(adapter.begin(1), x[None])[0], learner._network(x).detach()
    )


def test_fine_tuning_starts_with_equal_answers_and_takes_plain_steps():
    """A zero head gives 1/3 to each class; its first step is lr · mean of (one-hot − 1/3) f(x)ᵀ,
    that of f is zero."""
    learner = made(pretrain, **TRAINING, **FINE_TUNING)
    learner.step()
    adapter, embed = learner.adapter(), learner._network.embed
    episodes = DIGITS.sample(2, SIZE, torch.Generator().manual_seed(1), "test")
    state = adapter.begin(2)
    assert adapter.predict(state, episodes.query.x).abs().max() == 0
    state = adapter.update(state, episodes.support)
    answer = adapter.predict(state, episodes.query.x)
    for i in range(2):
        features = torch.cat([embed(episodes.support.x[i]), torch.ones(6, 1)], dim=1).detach()
        residual = torch.eye(3)[episodes.support.y[i]] - 1 / 3
        step = 0.5 * residual.mT @ features / 6
        asked = torch.cat([embed(episodes.query.x[i]), torch.ones(12, 1)], dim=1).detach()
        torch.testing.assert_close(answer[i], asked @ step.mT, rtol=1e-4, atol=1e-5)


def test_fine_tuning_of_the_head_keeps_the_features():
    learner = made(pretrain, **TRAINING, **{**FINE_TUNING, "adapt_only": ["head"]})
    adapter = learner.adapter()
    episodes = DIGITS.sample(2, SIZE, torch.Generator().manual_seed(1), "test")
    state = adapter.update(adapter.update(adapter.begin(2), episodes.support), episodes.support)
    moved = {
        name
        for name, leaf in state.params.items()
        if not torch.equal(leaf, adapter.begin(2).params[name])
    }
    assert moved == {"head.weight", "head.bias"}


def test_adapters_answer_in_evaluation_mode_after_more_training():
    learner = made(pretrain, **TRAINING, **FINE_TUNING)
    adapter = learner.adapter()
    learner.step()
    x = DIGITS.sample(1, SIZE, torch.Generator().manual_seed(1), "test").query.x
    state = adapter.update(adapter.begin(1), Examples(x=x, y=torch.arange(12)[None] % 3))
    torch.testing.assert_close(adapter.predict(state, x)[:, :2], adapter.predict(state, x[:, :2]))


@pytest.mark.parametrize("make", [NearestPixels, nearest_embedding])
def test_neighbours_refuse_a_regression(make):
    with pytest.raises(ValueError, match="sinusoid is a regression"):
        made(make, Sinusoid(), TaskSize(ways=1, shots=5, queries=5), meta_batch_size=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"inner_lr": 0.0}, "inner_lr 0"),
        ({"num_test_steps": 0}, "num_test_steps 0"),
        ({"outer_lr": -1.0}, "outer_lr -1"),
        ({"adapt_only": ["tail"]}, "'tail'"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        made(pretrain, **{**TRAINING, **FINE_TUNING, **settings})


def test_the_batch_norms_of_a_pretraining_see_its_batches():
    learner = made(pretrain, **TRAINING, **FINE_TUNING)
    before = learner._network.embed.norms[0].running_mean.clone()
    learner.step()
    assert (learner._network.embed.norms[0].running_mean != before).any()


def test_the_rate_of_a_pretraining_is_halved():
    learner, rates = made(pretrain, **(TRAINING | {"halve_every": 2}), **FINE_TUNING), []
    for _ in range(3):
        rates.append(learner.state_dict()["optimizer"]["param_groups"][0]["lr"])
        learner.step()
    assert rates == [3e-3, 3e-3, 1.5e-3]
