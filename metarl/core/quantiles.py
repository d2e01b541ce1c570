"""Quantiles of the beta and of Student's t distribution, on which intervals from few tasks or few
seeds stand.

scipy has them, too; for two functions it would be a large dependency. The tests hold these to
scipy's.
"""

import math


def beta_quantile(probability: float, a: float, b: float) -> float:
    """x with P(X ≤ x) = probability, X ~ Beta(a, b); by bisection to 1e-15.

    Raises: ValueError unless a, b > 0 and 0 < probability < 1.
    """
    if not (a > 0 and b > 0 and 0 < probability < 1):
        raise ValueError(
            f"probability {probability}, a {a}, b {b}: expected a probability within (0, 1), a and "
            "b above 0"
        )
    low, high = 0.0, 1.0
    while high - low > 1e-15 and low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _beta_below(middle, a, b) < probability else (low, middle)
    return (low + high) / 2


def t_quantile(confidence: float, degrees: float) -> float:
    """t with P(|T| ≤ t) = confidence, T of Student's distribution with so many degrees of freedom
    (any number above 0).

    ν / (ν + T²) has the distribution Beta(ν / 2, 1 / 2).
    """
    x = beta_quantile(1 - confidence, degrees / 2, 0.5)
    return math.sqrt(degrees * (1 - x) / x)


def _beta_below(x: float, a: float, b: float) -> float:
    """P(X ≤ x), by the continued fraction of the incomplete beta function (DLMF 8.17.22) on the
    side where it is quick."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_below(1 - x, b, a)
    if x == 0:
        return 0.0
    log_front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    return math.exp(log_front) / (a * _continued_fraction(x, a, b))


def _continued_fraction(x: float, a: float, b: float) -> float:
    """1 + d₁/(1 + d₂/(1 + ...)), from the front by Lentz's method; tiny numbers stand for zeros
    that it would divide by."""
    tiny = 1e-300
    value, numerator, denominator = 1.0, 1.0, 0.0
    for step in range(1, 100_000):
        m = step // 2
        term = (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
            if step % 2 == 0
            else -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        )
        denominator = 1 / (1 + term * denominator or tiny)
        numerator = 1 + term / numerator or tiny
        value *= numerator * denominator
        if abs(numerator * denominator - 1) < 1e-15:
            return value
    raise ArithmeticError(f"the incomplete beta function of {x}, {a}, {b} doesn't converge")
