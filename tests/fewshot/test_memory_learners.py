"""Learners that read and learned optimizers: against hand arithmetic and finite differences, and
what none of them may do."""

import functools
import math

import pytest
import torch
from support.few_shot import BACKBONES

from metarl.core import params as P
from metarl.core.adapt import over_tasks
from metarl.core.lstm_update import LstmUpdate, preprocessed
from metarl.fewshot.algorithms.maml_memory import MamlMemory
from metarl.fewshot.algorithms.mann import SequenceLearner, instance_measures
from metarl.fewshot.algorithms.meta_lstm import MetaLstm
from metarl.fewshot.algorithms.shared import Setting
from metarl.fewshot.digits import digits
from metarl.fewshot.gradient_adapter import answers
from metarl.fewshot.images import ImageClasses, ImageTasks
from metarl.fewshot.types import DataSpec, Episodes, Examples, Streams, TaskSize
from metarl.nn.features import Flat, PerceptronFeatures
from metarl.nn.recurrent import LSTM, ExternalRecall, NoMemory
from metarl.struct import map_tensors

DIGITS, SIZE = digits(), TaskSize(ways=3, shots=2, queries=4)
EXTERNAL = functools.partial(
    ExternalRecall,
    hidden_size=8,
    num_slots=6,
    slot_size=5,
    num_heads=2,
    usage_decay=0.9,
    key_strength=5.0,
)
SEQUENCES = {"meta_batch_size": 3, "instances": 4, "outer_lr": 3e-3, "halve_every": None}
GRADIENTS = {"meta_batch_size": 2, "outer_lr": 1e-3, "max_grad_norm": None}
STEPS = {"num_inner_steps": 2, "num_test_steps": 2}
INNER = {"inner_lr": 0.1, "gradient_mode": "through"}
OPTIMIZER = {
    "hidden_size": 4,
    "forget_bias": (4.0, 6.0),
    "input_bias": (-3.0, -2.0),
    "transductive": False,
    "fine_tuning_lrs": (0.1,),
}
MAKERS = {
    "mann": functools.partial(SequenceLearner, memory=EXTERNAL, **SEQUENCES),
    "lstm": functools.partial(
        SequenceLearner, memory=functools.partial(LSTM, hidden_size=16), **SEQUENCES
    ),
    "maml_memory": functools.partial(MamlMemory, memory=EXTERNAL, **GRADIENTS, **STEPS, **INNER),
    "maml_memory, memory alone": functools.partial(
        MamlMemory, memory=EXTERNAL, **GRADIENTS, num_inner_steps=0, num_test_steps=0, **INNER
    ),
    "maml_memory, MAML alone": functools.partial(
        MamlMemory, memory=functools.partial(NoMemory, hidden_size=8), **GRADIENTS, **STEPS, **INNER
    ),
    "meta_lstm": functools.partial(MetaLstm, **GRADIENTS, **STEPS, **OPTIMIZER),
}


def perceptron(generator):
    return PerceptronFeatures(
        DIGITS.spec.input_shape, sizes=(12, 8), batch_norm=True, generator=generator
    )


def made(make, source=DIGITS, size=SIZE, backbone=perceptron, **settings):
    streams = Streams(
        **{name: torch.Generator().manual_seed(0) for name in ("init", "tasks", "noise")}
    )
    embed = backbone(streams.init)
    make = MAKERS[make] if isinstance(make, str) else make
    setting = Setting(
        source=source, size=size, embed=embed, streams=streams, device=torch.device("cpu")
    )
    return make(setting=setting, **settings)


def after_support(learner, episodes):
    adapter = learner.adapter()
    return adapter.predict(
        adapter.update(adapter.begin(len(episodes.query.y)), episodes.support), episodes.query.x
    )


def parameters(learner):
    state = learner.state_dict()
    return state["params"] if "params" in state else dict(learner._reader.named_parameters())


@pytest.mark.parametrize("name", MAKERS)
def test_answer_depends_on_no_other_question_and_no_other_task(name):
    learner = made(name)
    episodes = DIGITS.sample(3, SIZE, torch.Generator().manual_seed(1), "test")
    others = map_tensors(torch.clone, episodes)
    others.query.x[:, 1:] = 1 - others.query.x[:, 1:]
    others.support.x[1:] = 1 - others.support.x[1:]
    one, other = after_support(learner, episodes), after_support(learner, others)
    torch.testing.assert_close(one[0, 0], other[0, 0], rtol=1e-4, atol=1e-6)
    assert (one[1, 1:] - other[1, 1:]).abs().max() > 1e-4


@pytest.mark.parametrize("name", MAKERS)
def test_saved_learner_goes_on_bit_for_bit(name):
    first, second = made(name), made(name)
    for _ in range(2):
        first.step()
    second.load_state_dict(map_tensors(torch.clone, first.state_dict()))
    second._setting.streams.tasks.set_state(first._setting.streams.tasks.get_state())
    assert first.step() == second.step()


@pytest.mark.parametrize("name", MAKERS)
def test_every_parameter_learns(name):
    learner = made(name)
    before = map_tensors(torch.clone, dict(parameters(learner)))
    for _ in range(2):
        learner.step()
    assert [
        key for key, leaf in parameters(learner).items() if torch.equal(leaf, before[key])
    ] == []


@pytest.mark.parametrize("name", ["mann", "lstm"])
def test_question_is_the_next_step_of_the_sequence(name):
    """What is answered to the last of T examples in sequence is the answer to it as a question
    after the T − 1 others."""
    learner = made(name)
    learner._reader.eval()
    examples = DIGITS.sample(2, SIZE, torch.Generator().manual_seed(1)).support
    in_sequence = learner._reader.in_sequence(examples)
    for t in (1, 5):
        before = Examples(x=examples.x[:, :t], y=examples.y[:, :t])
        asked = learner._reader(before, examples.x[:, t : t + 1])
        torch.testing.assert_close(asked[:, 0], in_sequence[:, t], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mann", "lstm"])
def test_labels_are_told_one_step_late(name):
    """The label of step t changes no answer up to t, and those from t + 1 on."""
    learner = made(name)
    learner._reader.eval()
    examples = DIGITS.sample(1, SIZE, torch.Generator().manual_seed(1)).support
    other = Examples(x=examples.x, y=examples.y.clone())
    other.y[0, 2] = (other.y[0, 2] + 1) % 3
    difference = (
        (learner._reader.in_sequence(examples) - learner._reader.in_sequence(other))
        .abs()
        .amax(-1)[0]
    )
    assert difference[:3].max() == 0 and difference[3:].min() > 1e-6


def test_sequences_of_a_longer_evaluation_start_with_those_of_a_shorter():
    learner = made("lstm")
    long, short = (
        learner.measures_in_sequence(n, "test", torch.Generator().manual_seed(2)) for n in (25, 22)
    )
    assert long.shape == (25, 4) and torch.equal(long[:22], short) and long.std() > 0


def signs(num_classes=6, pictures=8):
    """Classes that one pixel of its own tells apart, so that all there is to learn is which label
    belongs to which."""
    pixels = (255 * torch.eye(num_classes)).to(torch.uint8).repeat_interleave(pictures, 0)
    counts, names = torch.full((num_classes,), pictures), tuple("abcdefgh"[:num_classes])
    train = ImageClasses(pictures=pixels[:, None, None], counts=counts, names=names)
    return ImageTasks("signs", {"train": train}, definition={})


class Noises:
    """Each class is a random vector, new in every task, and all its examples are that vector."""

    spec = DataSpec(
        name="noises",
        kind="classification",
        input_shape=(20,),
        num_values=0,
        splits=("train",),
        definition={},
    )

    def sample(self, num, size, generator, split="train"):
        vectors = torch.randn(num, size.ways, 20, generator=generator)
        y = torch.rand(num, size.ways * size.shots, generator=generator).argsort(1) % size.ways
        examples = Examples(x=vectors.gather(1, y[..., None].expand(-1, -1, 20)), y=y)
        return Episodes(support=examples, query=examples)


def sequence_learner(source, ways, **settings):
    streams = Streams(
        **{key: torch.Generator().manual_seed(0) for key in ("init", "tasks", "noise")}
    )
    setting = Setting(
        source=source,
        size=TaskSize(ways=ways, shots=1, queries=1),
        embed=Flat(source.spec.input_shape),
        streams=streams,
        device=torch.device("cpu"),
    )
    return SequenceLearner(setting=setting, meta_batch_size=16, halve_every=None, **settings)


def test_lstm_learns_to_know_a_class_again():
    """Whoever counts labels but doesn't look names the one met less often: right for 0.65 of the
    second examples in 2 classes of 3."""
    memory = functools.partial(LSTM, hidden_size=24)
    learner = sequence_learner(signs(), 2, memory=memory, instances=3, outer_lr=0.02)
    known = [learner.step()["accuracy_2"] for _ in range(540)]
    assert sum(known[:40]) / 40 < 0.7 and sum(known[-20:]) / 20 > 0.85


@pytest.mark.slow
def test_mann_knows_a_class_again_by_what_it_reads():
    """It knows 5 classes when it meets them for the second time, and no longer if what it reads is
    cut off."""
    memory = functools.partial(
        ExternalRecall,
        hidden_size=100,
        num_slots=64,
        slot_size=40,
        num_heads=4,
        usage_decay=0.99,
        key_strength=10.0,
    )
    learner = sequence_learner(Noises(), 5, memory=memory, instances=4, outer_lr=2e-3)
    known = [learner.step()["accuracy_2"] for _ in range(1100)]
    assert sum(known[:40]) / 40 < 0.35 and sum(known[-20:]) / 20 > 0.9
    cell, num_read = learner._reader.memory.cell, 4 * 40
    with torch.no_grad():
        cell.controller.weight_ih[:, -num_read:] = 0
        learner._reader.head.weight[:, -num_read:] = 0
    assert (
        learner.measures_in_sequence(100, "train", torch.Generator().manual_seed(1))[:, 1].mean()
        < 0.5
    )


def test_learned_optimizer_learns():
    learner = made("meta_lstm", meta_batch_size=4, outer_lr=1e-2, num_inner_steps=3)
    accuracy = [learner.step()["accuracy"] for _ in range(60)]
    assert sum(accuracy[:3]) / 3 < 0.6 and sum(accuracy[-10:]) / 10 > 0.75  # chance is 1/3


def test_inner_steps_on_a_memory_learner_learn():
    settings = {
        "meta_batch_size": 4,
        "outer_lr": 1e-2,
        "num_inner_steps": 1,
        "num_test_steps": 1,
        "inner_lr": 0.5,
    }
    learner = made(
        "maml_memory",
        size=TaskSize(ways=2, shots=2, queries=4),
        memory=functools.partial(LSTM, hidden_size=24),
        **settings,
    )
    accuracy = [learner.step()["accuracy"] for _ in range(60)]
    assert sum(accuracy[:3]) / 3 < 0.7 and sum(accuracy[-20:]) / 20 > 0.75  # chance is 1/2


def test_instances_are_counted_by_class():
    # Classes met in the order 1 0 1 0 0 1; right are the 1st, 3rd, 4th and 6th answers.
    y = torch.tensor([[1, 0, 1, 0, 0, 1]])
    answer = torch.eye(2)[torch.tensor([[1, 1, 1, 0, 1, 1]])]
    # First time: 1 right, 0 wrong. Second: 1 right, 0 right. Third: 0 wrong, 1 right.
    assert instance_measures(answer, y, TaskSize(ways=2, shots=3, queries=1)).tolist() == [
        [0.5, 1.0, 0.5]
    ]


def test_preprocessing_has_the_published_values():
    x = torch.tensor([1.0, -(math.e**2), math.e**-10 / 2, 0.0], dtype=torch.float64)
    expected = [[0.0, 1.0], [0.2, -1.0], [-1.0, 0.5], [-1.0, 0.0]]
    torch.testing.assert_close(
        preprocessed(x), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-9
    )


def test_gates_forget_and_step():
    """With zero weights f = σ(b_f), i = σ(b_i): f = 3/4 and i = 1/4 for b = ± log 3."""
    update = LstmUpdate(2, forget_bias=(math.log(3),) * 2, input_bias=(-math.log(3),) * 2)
    with torch.no_grad():
        for leaf in (update.forget.weight, update.input.weight):
            leaf.zero_()
    after = update(
        update.begin(torch.tensor([4.0, -8.0])), torch.tensor([2.0, 0.4]), torch.tensor(1.3)
    )
    torch.testing.assert_close(after.theta, torch.tensor([3.0 - 0.5, -6.0 - 0.1]))


def drawn_update(generator, hidden_size=3) -> LstmUpdate:
    """One whose weights are all of size 1, so that everything it reads counts."""
    update = LstmUpdate(hidden_size, forget_bias=(1.0, 1.0), input_bias=(-1.0, -1.0)).double()
    with torch.no_grad():
        for leaf in update.parameters():
            leaf.copy_(torch.randn(leaf.shape, generator=generator))
    return update


TWO_STEPS = [  # gradients of three parameters, and losses
    (torch.tensor([1.0, -2.0, 0.3], dtype=torch.float64), torch.tensor(0.7).double()),
    (torch.tensor([0.5, 0.1, -1.0], dtype=torch.float64), torch.tensor(0.6).double()),
]


@torch.no_grad()
def test_a_gate_reads_what_it_was_before_and_not_what_the_other_was(generator):
    """Equations 2 to 5 of Ravi & Larochelle, number by number, on what the lower LSTM found."""
    update = drawn_update(generator)
    theta, forget, rate = [0.3, -0.8, 1.5], [1.0] * 3, [0.0] * 3
    state = update.begin(torch.tensor(theta, dtype=torch.float64))

    def opened(gate, hidden, *others):
        seen = [*hidden.tolist(), *others]
        total = sum(w * x for w, x in zip(gate.weight[0].tolist(), seen, strict=True))
        return 1 / (1 + math.exp(-total - gate.bias.item()))

    for gradient, loss in TWO_STEPS:
        state = update(state, gradient, loss)
        for d, hidden in enumerate(state.hidden):
            forget[d] = opened(update.forget, hidden, theta[d], forget[d])
            rate[d] = opened(update.input, hidden, theta[d], rate[d])
            theta[d] = forget[d] * theta[d] - rate[d] * gradient[d].item()
        for found, expected in ((state.forget, forget), (state.input, rate), (state.theta, theta)):
            assert found.tolist() == pytest.approx(expected, rel=1e-12)


@torch.no_grad()
def test_the_lower_lstm_is_torchs_own(generator):
    """With the rows of its four gates in torch's order, the one that leaves last."""
    update, own = drawn_update(generator), torch.nn.LSTMCell(4, 3).double()
    of_inputs, of_hidden = update.lower.weight.unflatten(0, (4, 3))[[0, 1, 3, 2]].split([4, 3], -1)
    own.weight_ih.copy_(of_inputs.flatten(0, 1))
    own.weight_hh.copy_(of_hidden.flatten(0, 1))
    own.bias_ih.copy_(update.lower.bias.unflatten(0, (4, 3))[[0, 1, 3, 2]].flatten())
    own.bias_hh.zero_()
    state, expected = update.begin(torch.zeros(3).double()), None
    for gradient, loss in TWO_STEPS:
        state = update(state, gradient, loss)
        seen = torch.cat([preprocessed(gradient), preprocessed(loss).expand(3, 2)], dim=1)
        expected = own(seen, expected)
        found = (state.hidden, state.cell)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_gates_remember_for_each_parameter_by_itself():
    update = LstmUpdate(
        3,
        forget_bias=(1.0, 1.0),
        input_bias=(-1.0, -1.0),
        generator=torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        for leaf in update.parameters():
            leaf.add_(torch.randn(leaf.shape, generator=torch.Generator().manual_seed(1)))
    state = update.begin(torch.tensor([0.3, 0.3, 0.3]))
    state = update(state, torch.tensor([1.0, 2.0, 1.0]), torch.tensor(0.7))
    state = update(state, torch.tensor([0.5, 0.5, 0.5]), torch.tensor(0.6))
    assert state.forget[0] == state.forget[2] and abs(state.forget[0] - state.forget[1]) > 1e-3


@pytest.mark.parametrize("backend", ["loop", "vmap"])
@pytest.mark.parametrize("backbone", BACKBONES.values(), ids=BACKBONES)
def test_meta_gradient_matches_finite_differences_with_inner_gradients_held_fixed(
    backbone, backend
):
    torch.set_default_dtype(torch.float64)
    try:
        learner = made("meta_lstm", backbone=backbone)
        learner._backend, groups = backend, learner.learned
        generator = torch.Generator().manual_seed(1)
        for leaf in groups["network"].values():  # Biases of 0 put dead units onto the kink of ReLU.
            leaf += 0.05 * torch.randn(leaf.shape, generator=generator)
        support, query = (
            Examples(x=torch.randn(rows, 1, 16, 16, generator=generator), y=torch.arange(rows) % 3)
            for rows in (6, 12)
        )
        start, seen = groups["network"], []
        state = learner._update.begin(P.flatten(start))
        for _ in range(2):
            seen.append(
                torch.func.grad_and_value(learner._loss)(P.unflatten(state.theta, start), support)
            )
            state = P.call(
                learner._update, groups["update"], state, P.flatten(seen[-1][0]), seen[-1][1]
            )

        def query_loss(moved):
            state = learner._update.begin(P.flatten(moved["network"]))
            for gradient, loss in seen:
                state = P.call(learner._update, moved["update"], state, P.flatten(gradient), loss)
            answer = answers(learner._network, P.unflatten(state.theta, start), query.x, support.x)
            return torch.nn.functional.cross_entropy(answer, query.y)

        one = map_tensors(lambda leaf: leaf[None], (support, query))
        losses, gradient, _ = learner.meta_gradient(groups, *one)
        torch.testing.assert_close(losses[0], query_loss(groups))
        for name, group in groups.items():
            v = {key: torch.randn(leaf.shape, generator=generator) for key, leaf in group.items()}
            high, low = (
                query_loss({**groups, name: P.add(group, v, sign * 1e-6)}) for sign in (1, -1)
            )
            # Central differences are off by 1e-12 f'''/6 and by rounding, 1e-16 / 1e-6.
            torch.testing.assert_close(
                P.dot(gradient[name], v), (high - low) / 2e-6, rtol=1e-6, atol=1e-9
            )
    finally:
        torch.set_default_dtype(torch.float32)


def test_meta_gradient_of_maml_on_a_memory_matches_finite_differences():
    torch.set_default_dtype(torch.float64)
    try:
        learner = made("maml_memory")
        theta = {
            name: leaf + 0.05 * torch.randn(leaf.shape, generator=torch.Generator().manual_seed(5))
            for name, leaf in learner.learned["network"].items()
        }
        episodes = DIGITS.sample(2, SIZE, torch.Generator().manual_seed(1))
        episodes = map_tensors(
            lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, episodes
        )
        mean_loss = lambda moved: learner.meta_gradient(
            {"network": moved}, episodes.support, episodes.query
        )[0].mean()
        _, gradient, _ = learner.meta_gradient({"network": theta}, episodes.support, episodes.query)
        v = {
            name: torch.randn(leaf.shape, generator=torch.Generator().manual_seed(len(name)))
            for name, leaf in theta.items()
        }
        expected = (mean_loss(P.add(theta, v, 1e-7)) - mean_loss(P.add(theta, v, -1e-7))) / 2e-7
        torch.testing.assert_close(
            P.dot(gradient["network"], v), expected, rtol=1e-5, atol=1e-8
        )  # rounding: 1e-8
    finally:
        torch.set_default_dtype(torch.float32)


def test_optimizer_at_test_takes_the_steps_of_training():
    learner = made("meta_lstm")
    episodes = DIGITS.sample(2, SIZE, torch.Generator().manual_seed(1))
    adapter = learner.adapter()
    state = adapter.begin(2)
    for _ in range(2):
        state = adapter.update(state, episodes.support)
    loss = learner._objective.loss(adapter.predict(state, episodes.query.x), episodes.query.y)
    expected = over_tasks(
        lambda support, query: learner._task(learner.learned, support, query)[0],
        *(episodes.support, episodes.query),
        backend="loop",
    )
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mann", {"instances": 0}, "instances 0"),
        ("lstm", {"meta_batch_size": 0}, "meta_batch_size 0"),
        ("maml_memory", {"num_inner_steps": -1}, "num_inner_steps -1"),
        ("maml_memory", {"inner_lr": 0.0}, "inner_lr 0"),
        ("meta_lstm", {"hidden_size": 0}, "hidden_size 0"),
        ("meta_lstm", {"forget_bias": (6.0, 4.0)}, r"forget_bias \[6.0, 4.0\]"),
        ("meta_lstm", {"num_test_steps": 0}, "num_test_steps 0"),
    ],
)
def test_mistakes_are_named(name, settings, message):
    with pytest.raises(ValueError, match=message):
        made(functools.partial(MAKERS[name], **settings))


@pytest.mark.parametrize("split", ["train", "test"])
def test_sequences_are_of_the_split_that_is_asked_for(monkeypatch, split):
    learner, sample, asked = made("lstm"), ImageTasks.sample, []

    def spied(self, num, size, generator, split="train"):
        asked.append(split)
        return sample(self, num, size, generator, split)

    monkeypatch.setattr(ImageTasks, "sample", spied)
    learner.measures_in_sequence(25, split, torch.Generator().manual_seed(2))
    assert asked == [split, split]


@pytest.mark.parametrize("name", ["mann", "lstm"])
def test_an_evaluation_changes_no_number_of_the_training(name):
    """The networks have batch norms, which an evaluation doesn't leave in its own mode."""
    evaluated, other = made(name), made(name)
    evaluated.measures_in_sequence(2, "test", torch.Generator().manual_seed(2))
    assert [evaluated.step() for _ in range(2)] == [other.step() for _ in range(2)]


def test_a_memory_learner_at_test_takes_the_steps_of_training():
    learner, further = made("maml_memory"), made("maml_memory", num_test_steps=3)
    episodes = DIGITS.sample(2, SIZE, torch.Generator().manual_seed(1))
    answer = after_support(learner, episodes)
    expected = over_tasks(
        lambda support, query: learner._task(learner.learned, support, query)[0],
        *(episodes.support, episodes.query),
        backend="loop",
    )
    loss = learner._objective.loss(answer, episodes.query.y)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-4, atol=1e-5)
    assert (after_support(further, episodes) - answer).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["maml_memory", "meta_lstm"])
def test_the_meta_gradient_is_limited(name):
    """Adam divides by the gradient's size, but not where it is as small as its ε."""
    moved = []
    for limit in (None, 1e-9):
        learner = made(name, max_grad_norm=limit)
        before = P.joined(map_tensors(torch.clone, learner.learned))
        learner.step()
        now = P.joined(learner.learned)
        moved.append(max((now[key] - leaf).abs().max().item() for key, leaf in before.items()))
    assert moved[0] == pytest.approx(1e-3, rel=1e-2) and moved[1] < 2e-4


def test_the_rate_of_a_reader_is_halved():
    learner, rates = made("lstm", halve_every=2), []
    for _ in range(3):
        rates.append(learner.state_dict()["optimizer"]["param_groups"][0]["lr"])
        learner.step()
    assert rates == [3e-3, 3e-3, 1.5e-3]


def test_an_evaluation_of_a_learned_optimizer_takes_its_own_steps():
    assert made("meta_lstm", num_test_steps=5).adapter().num_updates == 5
