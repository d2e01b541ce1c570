"""Quantiles of the beta and Student's t distribution, held to closed forms and to scipy's."""

import math

import pytest

from metarl.core.quantiles import beta_quantile, t_quantile


@pytest.mark.parametrize("probability", [1e-6, 0.025, 0.3, 0.975])
def test_beta_quantile_of_closed_forms(probability):
    """P(X ≤ x) is x^a for Beta(a, 1), 1 − (1 − x)^b for Beta(1, b), and 2/π arcsin √x for Beta(½,
    ½)."""
    assert beta_quantile(probability, 3.5, 1) == pytest.approx(probability ** (1 / 3.5), rel=1e-10)
    assert beta_quantile(probability, 1, 7) == pytest.approx(
        1 - (1 - probability) ** (1 / 7), rel=1e-8
    )
    assert beta_quantile(probability, 0.5, 0.5) == pytest.approx(
        math.sin(math.pi * probability / 2) ** 2, rel=1e-8
    )


@pytest.mark.parametrize(("a", "b"), [(0.01, 3), (3.7, 29.1), (2000, 3), (50_000, 50_000)])
def test_beta_quantile_agrees_with_scipy(a, b):
    stats = pytest.importorskip("scipy.stats")
    for probability in (1e-6, 0.025, 0.3, 0.975):
        # Absolute: bisection ends 1e-15 from the root.
        assert beta_quantile(probability, a, b) == pytest.approx(
            stats.beta.ppf(probability, a, b), rel=1e-9, abs=1e-14
        )


def test_t_quantile_by_table():
    """Two-sided 95 %: 12.706 with one degree of freedom (tan of .475 π), 4.303 with two, 2.042 with
    thirty."""
    assert t_quantile(0.95, 1) == pytest.approx(math.tan(0.475 * math.pi), rel=1e-9)
    assert t_quantile(0.95, 2) == pytest.approx(4.30265, abs=1e-5)
    assert t_quantile(0.95, 30) == pytest.approx(2.04227, abs=1e-5)
    stats = pytest.importorskip("scipy.stats")
    assert t_quantile(0.8, 2.5) == pytest.approx(stats.t.ppf(0.9, 2.5), rel=1e-9)


@pytest.mark.parametrize(
    "arguments", [(0.0, 1, 1), (1.0, 1, 1), (0.5, 0, 1), (0.5, 1, -1), (math.nan, 1, 1)]
)
def test_quantiles_that_do_not_exist_are_refused(arguments):
    with pytest.raises(ValueError, match="expected a probability within"):
        beta_quantile(*arguments)
