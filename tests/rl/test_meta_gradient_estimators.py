"""Estimators of the meta-gradient beside the exact one: which are unbiased, and for which
objective."""

import itertools

import pytest
import torch
from torch import Tensor

from metarl.rl.enumerated import (
    EnumeratedMDP,
    enumerate_mdp,
    expected_return,
    probabilities,
    random_mdp,
)
from metarl.rl.losses import e_maml
from metarl.rl.meta_gradient_estimators import (
    ESTIMATORS,
    errors_of_means,
    estimates,
    exact_meta_gradient,
    measure,
)

INNER_LR = 1.0


def problem(seed: int = 5) -> tuple[EnumeratedMDP, Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    mdp = random_mdp(3, 2, 3, generator)
    return mdp, torch.randn(3, 2, dtype=torch.float64, generator=generator), generator


def chain() -> tuple[Tensor, Tensor]:
    """Two states: action 1 pays 1 in state 0 and 3 in state 1, and leads to state 1 with
    probability 0.25; action 0 stays."""
    transition = torch.zeros(2, 2, 2, dtype=torch.float64)
    transition[:, 0] = torch.eye(2, dtype=torch.float64)
    transition[:, 1] = torch.tensor([0.75, 0.25], dtype=torch.float64)
    return transition, torch.tensor([[0.0, 1.0], [0.0, 3.0]], dtype=torch.float64)


def test_all_trajectories_are_listed_once_and_their_mean_return_is_that_of_hand_arithmetic() -> (
    None
):
    mdp = enumerate_mdp(*chain(), 2)
    assert (
        len({(*s, *a) for s, a in zip(mdp.state.tolist(), mdp.action.tolist(), strict=True)}) == 8
    )
    logits = torch.zeros(2, 2, dtype=torch.float64)
    assert probabilities(mdp, logits).sum() == pytest.approx(1.0)
    # Step 0 pays 1/2. State 1 follows with probability 1/2 · 1/4; there the second step pays 3/2,
    # else 1/2.
    assert expected_return(mdp, logits) == pytest.approx(1 / 2 + 1 / 8 * 3 / 2 + 7 / 8 * 1 / 2)


def test_more_trajectories_than_can_be_listed_are_refused() -> None:
    with pytest.raises(ValueError, match="horizon 5: 512 trajectories; expected at most 256"):
        enumerate_mdp(*chain(), 5)


@pytest.mark.parametrize("num_updates", [1, 2])
def test_the_exact_meta_gradient_of_sampled_updates_is_that_of_a_plain_loop(
    num_updates: int,
) -> None:
    """The objective written without metarl's losses or inner loop, and differentiated by finite
    differences."""
    mdp, logits = (
        enumerate_mdp(*chain(), 2),
        torch.tensor([[0.3, -0.7], [0.9, 0.4]], dtype=torch.float64),
    )

    def update(params: Tensor, m: int) -> Tensor:
        step = torch.zeros_like(params)
        for s, a, later in zip(mdp.state[m], mdp.action[m], mdp.returns_to_go[m], strict=True):
            step[s] -= later * params[s].softmax(0)  # the gradient of log softmax is e_a − softmax
            step[s, a] += later
        return params + INNER_LR * step

    def objective(params: Tensor, updates: int = num_updates) -> Tensor:
        if updates == 0:
            return expected_return(mdp, params)
        weights = probabilities(mdp, params)
        return sum(w * objective(update(params, m), updates - 1) for m, w in enumerate(weights))  # type: ignore[return-value]

    exact = exact_meta_gradient(mdp, logits, "sampled", inner_lr=INNER_LR, num_updates=num_updates)
    for s, a in itertools.product(range(2), range(2)):
        nudge = torch.zeros_like(logits)
        nudge[s, a] = 1e-5
        slope = (objective(logits + nudge) - objective(logits - nudge)) / 2e-5
        assert exact[s, a] == pytest.approx(
            slope.item(), abs=1e-8
        )  # central differences: 1e-10, rounding: 1e-11


@pytest.mark.parametrize("num_updates", [1, 2])
def test_the_exact_meta_gradient_of_expected_updates_matches_finite_differences(
    num_updates: int,
) -> None:
    mdp, logits, generator = problem()

    def objective(params: Tensor) -> Tensor:
        for _ in range(num_updates):
            leaf = params.clone().requires_grad_()
            params = params + INNER_LR * torch.autograd.grad(expected_return(mdp, leaf), leaf)[0]
        return expected_return(mdp, params)

    exact = exact_meta_gradient(mdp, logits, "expected", inner_lr=INNER_LR, num_updates=num_updates)
    direction = torch.randn(logits.shape, dtype=torch.float64, generator=generator)
    slope = (objective(logits + 1e-5 * direction) - objective(logits - 1e-5 * direction)) / 2e-5
    assert (exact * direction).sum() == pytest.approx(slope.item(), abs=1e-8)


@pytest.mark.parametrize(
    ("objective", "num_updates", "name", "is_unbiased"),
    [
        ("sampled", 1, "e_maml", True),
        ("sampled", 2, "e_maml", True),
        (
            "sampled",
            1,
            "dice",
            False,
        ),  # it credits sampling with the updates' first-order effect only
        ("sampled", 1, "reinforce", False),
        ("sampled", 2, "reinforce", False),
        ("sampled", 1, "first_order", False),
        ("expected", 1, "dice", True),
        ("expected", 2, "dice", True),
        ("expected", 1, "lvc", False),  # it leaves out what one step's sampling does to another's
        ("expected", 1, "reinforce", False),
        ("expected", 2, "reinforce", False),
        ("expected", 1, "first_order", False),
    ],
)
def test_the_unbiased_agree_within_their_standard_error_and_the_biased_do_not(
    objective: str, num_updates: int, name: str, is_unbiased: bool
) -> None:
    mdp, logits, generator = problem()
    of = {"inner_lr": INNER_LR, "num_updates": num_updates}
    exact = exact_meta_gradient(mdp, logits, objective, **of)  # type: ignore[arg-type]
    found = estimates(name, mdp, logits, objective, **of, num_estimates=20_000, generator=generator)  # type: ignore[arg-type]
    measured = measure(found, exact)
    # By chance one of 6 coordinates (3 of them their own) is beyond 4 standard errors in 2 of 10
    # 000 such tests.
    assert (measured.farthest < 4) == is_unbiased
    if is_unbiased:
        assert measured.bias < 3 * measured.bias_error and measured.cosine > 0.98


def test_measures_by_hand() -> None:
    exact = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    found = torch.tensor(
        [[[3.0, 6.0]], [[3.0, 8.0]]], dtype=torch.float64
    )  # mean 3, 7; variance 0, 2
    measured = measure(found, exact)
    assert measured.bias == pytest.approx(3 / 5)
    assert measured.bias_error == pytest.approx(1 / 5)  # the root of 2 / 2
    assert measured.deviation == pytest.approx(2**0.5 / 5)
    assert measured.cosine == pytest.approx((9 + 28) / (5 * 58**0.5))
    assert errors_of_means(found, exact, [1, 2]) == pytest.approx(
        [((4 + 16) / 2) ** 0.5 / 5, 3 / 5]
    )


def test_e_maml_sums_the_log_probabilities_of_all_steps_and_takes_the_return_as_a_constant() -> (
    None
):
    log_prob = torch.tensor([[-0.5, -1.0, -7.0]], requires_grad=True)
    later = torch.tensor([2.0], requires_grad=True)
    loss = e_maml(log_prob, later, torch.tensor([[True, True, False]]))
    assert loss.tolist() == [3.0]  # −(−0.5 − 1) · 2
    loss.sum().backward()
    assert (
        log_prob.grad is not None
        and log_prob.grad.tolist() == [[-2.0, -2.0, 0.0]]
        and later.grad is None
    )


def test_every_objective_has_its_estimators() -> None:
    assert set(ESTIMATORS["expected"]) < set(ESTIMATORS["sampled"])
