"""Learners that answer from the support set: against hand arithmetic, and what no such learner may
do."""

import re

import pytest
import torch
from torch.utils._pytree import tree_leaves

from metarl.errors import SettingError
from metarl.fewshot.algorithms.cnp import ConditionalProcess, cnp
from metarl.fewshot.algorithms.episodic import Episodic
from metarl.fewshot.algorithms.matching import MatchingNet, matching
from metarl.fewshot.algorithms.protonet import ProtoNet, protonet
from metarl.fewshot.algorithms.shared import Setting
from metarl.fewshot.digits import digits
from metarl.fewshot.losses import cross_entropy, mean_squared_error
from metarl.fewshot.sinusoid import Sinusoid
from metarl.fewshot.types import Examples, Streams, TaskSize
from metarl.nn.batch_norm import BatchNorm, RunningBatchNorm, use_running_statistics
from metarl.nn.features import Flat, PerceptronFeatures

SETTINGS = {"meta_batch_size": 3, "outer_lr": 1e-3, "halve_every": None}
MAKERS = {
    "protonet": (protonet, {"train_ways": None}),
    "matching": (matching, {"train_ways": None, "scale": 10.0, "full_context": 0}),
    "matching, full context": (matching, {"train_ways": None, "scale": 10.0, "full_context": 2}),
    "cnp": (cnp, {"train_ways": None, "code_size": 6, "hidden_sizes": [7], "joint_decoder": False}),
    "cnp, joint decoder": (
        cnp,
        {"train_ways": None, "code_size": 6, "hidden_sizes": [7], "joint_decoder": True},
    ),
}


def learner(name: str, seed: int = 0, **changes) -> Episodic:
    make, settings = MAKERS[name]
    source = digits()
    streams = Streams(
        **{key: torch.Generator().manual_seed(seed) for key in ("init", "tasks", "noise")}
    )
    embed = PerceptronFeatures(
        source.spec.input_shape, sizes=(12, 8), batch_norm=True, generator=streams.init
    )
    size = TaskSize(ways=3, shots=2, queries=4)
    setting = Setting(
        source=source, size=size, embed=embed, streams=streams, device=torch.device("cpu")
    )
    return make(setting=setting, **{**SETTINGS, **settings, **changes})


def examples(num_tasks=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_tasks, 6, 1, 8, 8, generator=generator)
    y = torch.tensor([0, 1, 2, 2, 1, 0]).expand(num_tasks, 6)
    return Examples(x=x, y=y), torch.randn(num_tasks, 5, 1, 8, 8, generator=generator)


@pytest.mark.parametrize(
    ("spoilt", "found"),
    [
        (lambda answer: answer[:1], r"[1, 12, 3]"),
        (lambda answer: answer.sum(1, keepdim=True), r"[3, 1, 3]"),
        (lambda answer: answer[..., :2], r"[3, 12, 2]"),
        (lambda answer: None, "a NoneType"),
    ],
)
def test_an_answer_that_fits_no_question_is_told(monkeypatch, spoilt, found):
    real = ProtoNet.forward
    monkeypatch.setattr(ProtoNet, "forward", lambda *given: spoilt(real(*given)))
    told = f"ProtoNet answered {found} to the questions of 3 tasks; expected a tensor [3, 12, 3]"
    with pytest.raises(SettingError, match=re.escape(told)):
        learner("protonet").step()


@pytest.mark.parametrize(
    ("loss", "answers", "y"),
    [
        (mean_squared_error, torch.zeros(2, 4, 1), torch.zeros(2, 4)),
        (mean_squared_error, torch.zeros(2, 4, 1), torch.zeros(2, 4, 2)),
        (mean_squared_error, torch.zeros(1, 4, 1), torch.zeros(2, 4, 1)),
        (cross_entropy, torch.zeros(1, 4, 3), torch.zeros(2, 4, dtype=torch.int64)),
    ],
)
def test_answers_are_not_broadcast_against_what_they_are_no_answers_to(loss, answers, y):
    told = f"answers {list(answers.shape)} to questions whose right ones are {list(y.shape)}"
    with pytest.raises(SettingError, match=re.escape(told)):
        loss(answers, y)


@pytest.mark.parametrize("name", MAKERS)
def test_all_weights_follow_the_seed(name):
    """Whatever stands in torch's own stream."""
    made = []
    for elsewhere in (1, 2):
        torch.manual_seed(elsewhere)
        made.append(learner(name).state_dict())
    assert_same(*made)
    other = flat(learner(name, seed=1).state_dict())
    drawn = [leaf for leaf in flat(made[0]) if leaf.ndim > 1]
    changed = [leaf for leaf in other if leaf.ndim > 1]
    assert drawn and not any(torch.equal(*both) for both in zip(drawn, changed, strict=True))


def flat(state):
    return [leaf for leaf in tree_leaves(state) if torch.is_tensor(leaf)]


def assert_same(one, other):
    for mine, theirs in zip(flat(one), flat(other), strict=True):
        assert torch.equal(mine, theirs)


def test_prototypes_are_means_and_distances_squares():
    support = Examples(
        x=torch.tensor([[[0.0, 0.0], [2.0, 0.0], [5.0, 5.0]]]), y=torch.tensor([[0, 0, 1]])
    )
    logits = ProtoNet(Flat((2,)))(support, torch.tensor([[[1.0, 3.0], [5.0, 4.0]]]))
    # Prototypes (1, 0) and (5, 5): distances 0 + 9 and 16 + 4; 16 + 16 and 0 + 1.
    assert logits.tolist() == [[[-9.0, -20.0], [-32.0, -1.0]]]


def test_attention_weighs_labels_by_cosines():
    support = Examples(
        x=torch.tensor([[[3.0, 0.0], [0.0, 2.0], [0.0, 1.0]]]), y=torch.tensor([[0, 1, 1]])
    )
    log_p = MatchingNet(Flat((2,)), 2, scale=2.0, full_context=0)(
        support, torch.tensor([[[5.0, 0.0]]])
    )
    # Cosines 1, 0, 0: weights e², 1, 1.
    e2 = torch.tensor(2.0).exp()
    torch.testing.assert_close(
        log_p.exp(), torch.stack([e2, torch.tensor(2.0)])[None, None] / (e2 + 2)
    )


def in_full_context() -> MatchingNet:
    generator = torch.Generator().manual_seed(0)
    net = MatchingNet(Flat((3,)), 3, scale=1.0, full_context=3, generator=generator)
    return net.double()


@torch.no_grad()
def test_a_question_is_reread_with_what_was_read_and_remembered_before(generator):
    """Equations 3 to 6 of Vinyals et al. for one question. Of [h, r] both parts have the same
    weights here."""
    net = in_full_context()
    asked, own = (
        torch.randn(2, rows, 3, generator=generator, dtype=torch.float64) for rows in (4, 5)
    )
    lstm, x, g = net.question_cell, asked[1, 2], own[1]
    hidden, cell = x, torch.zeros_like(x)
    for _ in range(3):
        worth = (g @ hidden).exp()
        read = sum(a * row for a, row in zip(worth / worth.sum(), g, strict=True))
        both = torch.cat([lstm.weight_hh, lstm.weight_hh], dim=1) @ torch.cat([hidden, read])
        i, f, c, o = (lstm.weight_ih @ x + lstm.bias_ih + both + lstm.bias_hh).chunk(4)
        cell = f.sigmoid() * cell + i.sigmoid() * c.tanh()
        hidden = o.sigmoid() * cell.tanh() + x
    torch.testing.assert_close(net._reread(asked, own)[1, 2], hidden, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_an_example_is_read_forward_and_backward_and_both_are_added(generator):
    """Appendix A.2 of Vinyals et al., by LSTMs of one direction."""
    net = in_full_context()
    own = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    weights, read = net.support_lstm.state_dict(), []
    for x, ending in ((own, "_l0"), (own.flip(1), "_l0_reverse")):
        lstm = torch.nn.LSTM(3, 3, batch_first=True).double()
        lstm.load_state_dict(
            {key: weights[key[: -len("_l0")] + ending] for key in lstm.state_dict()}
        )
        read.append(lstm(x)[0])
    expected = own + read[0] + read[1].flip(1)
    torch.testing.assert_close(net._in_context(own), expected, rtol=1e-12, atol=1e-12)


def conditional_process(
    num_features, *, ways=1, num_values=0, joint_decoder=False
) -> ConditionalProcess:
    return ConditionalProcess(
        Flat((num_features,)),
        num_features,
        ways=ways,
        num_values=num_values,
        code_size=3,
        hidden_sizes=[4],
        joint_decoder=joint_decoder,
        generator=torch.Generator().manual_seed(0),
    )


def test_code_of_values_is_a_mean_over_pairs():
    process = conditional_process(1, num_values=1)
    x, y = torch.tensor([[[0.3], [-1.0]]]), torch.tensor([[[2.0], [0.5]]])
    pairs = process.encode(torch.tensor([[0.3, 2.0], [-1.0, 0.5]]))
    expected = process.decode(torch.cat([torch.tensor([0.7]), pairs.mean(0)]))
    torch.testing.assert_close(process(Examples(x=x, y=y), torch.tensor([[[0.7]]]))[0, 0], expected)


@pytest.mark.parametrize("joint_decoder", [False, True])
def test_codes_of_classes_are_means_over_their_examples(joint_decoder):
    process = conditional_process(2, ways=2, joint_decoder=joint_decoder)
    x = torch.tensor([[0.3, 1.0], [-1.0, 0.2], [0.5, -2.0]])
    question = torch.tensor([0.7, 0.1])
    first, second = process.encode(x[1:2]).mean(0), process.encode(x[[0, 2]]).mean(0)
    middle = (first + second) / 2
    expected = (
        process.decode(torch.cat([question, first, second]))
        if joint_decoder
        else torch.cat(
            [process.decode(torch.cat([question, code, middle])) for code in (first, second)]
        )
    )
    support = Examples(x=x[None], y=torch.tensor([[1, 0, 1]]))
    torch.testing.assert_close(process(support, question[None, None])[0, 0], expected)


@pytest.mark.parametrize("name", MAKERS)
def test_answer_depends_on_no_other_question_and_no_other_task(name):
    adapter = learner(name).adapter()
    support, x = examples()
    together = adapter.predict(adapter.update(adapter.begin(2), support), x)
    second = Examples(x=support.x[1:], y=support.y[1:])
    alone = adapter.predict(adapter.update(adapter.begin(1), second), x[1:, 3:4])
    torch.testing.assert_close(together[1:, 3:4], alone)


@pytest.mark.parametrize("name", ["protonet", "matching", "cnp"])
def test_labels_are_names_only(name):
    """Whoever renames the classes of the support set gets the same answers under the new names."""
    adapter = learner(name).adapter()
    support, x = examples()
    renamed = Examples(x=support.x, y=(support.y + 1) % 3)
    answers = [adapter.predict(adapter.update(adapter.begin(2), s), x) for s in (support, renamed)]
    torch.testing.assert_close(answers[1], answers[0].roll(1, -1))
    assert (answers[1] - answers[0]).abs().min() > 1e-4


@pytest.mark.parametrize("name", ["protonet", "matching", "cnp", "cnp, joint decoder"])
def test_order_of_the_support_set_does_not_matter(name):
    adapter = learner(name).adapter()
    support, x = examples()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = Examples(x=support.x[:, order], y=support.y[:, order])
    answers = [adapter.predict(adapter.update(adapter.begin(2), s), x) for s in (support, shuffled)]
    torch.testing.assert_close(answers[1], answers[0])


@pytest.mark.parametrize("name", MAKERS)
def test_saved_learner_goes_on_bit_for_bit(name):
    first, second = learner(name), learner(name)
    first.step()
    state = first.state_dict()
    for _ in range(2):
        second.step()
    second.load_state_dict(state)
    expected = learner(name)
    expected.step()
    tasks = expected._setting.streams.tasks.get_state()
    second._setting.streams.tasks.set_state(tasks)
    assert second.step() == expected.step()


@pytest.mark.parametrize("name", MAKERS)
def test_every_parameter_learns(name):
    one = learner(name)
    before = {key: value.clone() for key, value in one._answer.named_parameters()}
    one.step()
    still = [
        key for key, value in one._answer.named_parameters() if torch.equal(value, before[key])
    ]
    assert still == []


def test_prototypes_tell_digits_apart():
    one = learner("protonet")
    accuracy = [one.step()["accuracy"] for _ in range(60)]
    assert sum(accuracy[-10:]) / 10 > 0.7  # chance is 1/3


def test_rate_is_halved_when_asked_to():
    one, rates = learner("protonet", halve_every=2), []
    for _ in range(4):
        rates.append(one.state_dict()["optimizer"]["param_groups"][0]["lr"])
        one.step()
    assert rates == [1e-3, 1e-3, 5e-4, 5e-4]


def test_running_statistics_equal_torchs_own():
    norm, own = torch.nn.BatchNorm1d(3), use_running_statistics(torch.nn.Sequential(BatchNorm(3)))
    assert isinstance(own[0], RunningBatchNorm)
    for seed in range(3):
        x = 2 * torch.randn(10, 3, generator=torch.Generator().manual_seed(seed)) + 1
        torch.testing.assert_close(own(x), norm(x))
    torch.testing.assert_close(own.eval()(x), norm.eval()(x))
    assert not torch.equal(own(x), own.train()(x))


@pytest.mark.parametrize("make", [protonet, matching])
def test_regression_is_refused(make):
    setting = Setting(
        source=Sinusoid(),
        size=TaskSize(ways=1, shots=5, queries=5),
        embed=Flat((1,)),
        streams=Streams(**{key: torch.Generator() for key in ("init", "tasks", "noise")}),
        device=torch.device("cpu"),
    )
    with pytest.raises(ValueError, match="sinusoid is a regression"):
        make(
            setting=setting,
            train_ways=None,
            **({"scale": 1.0, "full_context": 0} if make is matching else {}),
        )


def test_neural_process_answers_for_more_classes_than_it_was_trained_with_unless_its_decoder_is_joint():
    source, streams = (
        digits(),
        Streams(**{key: torch.Generator() for key in ("init", "tasks", "noise")}),
    )
    size = TaskSize(ways=5, shots=1, queries=2)
    settings = {**MAKERS["cnp"][1], **SETTINGS, "train_ways": 3}
    embed = Flat(source.spec.input_shape)
    settings["setting"] = Setting(
        source=source, size=size, embed=embed, streams=streams, device=torch.device("cpu")
    )
    one = cnp(**settings)
    one.step()
    x = torch.randn(1, 10, *source.spec.input_shape)
    adapter, support = one.adapter(), Examples(x=x[:, :5], y=torch.arange(5)[None])
    assert adapter.predict(adapter.update(adapter.begin(1), support), x[:, 5:]).shape == (1, 5, 5)
    with pytest.raises(ValueError, match=r"ways of its training, 3, and not for 5"):
        cnp(**settings | {"joint_decoder": True})


def test_an_answer_changes_no_number_of_the_training():
    """The network has batch norms, which an evaluation doesn't leave in its own mode."""
    asked, other = learner("protonet"), learner("protonet")
    adapter, (support, x) = asked.adapter(), examples()
    adapter.predict(adapter.update(adapter.begin(2), support), x)
    assert [asked.step() for _ in range(2)] == [other.step() for _ in range(2)]
