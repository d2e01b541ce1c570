"""Which of a learner's numbers are shown while it trains, and how."""

from collections.abc import Mapping

from metarl.struct import struct


@struct
class Shown:
    """What the console line and the learning curve show of a learner's metrics."""

    quantity: str  # metrics `<quantity>_before` and `<quantity>_after`, or just `<quantity>`
    digits: int  # behind the point
    count: str  # the metric that is added up over the iterations
    unit: str  # what is counted, as a word

    def names(self, row: Mapping[str, float]) -> list[str]:
        """The metrics of a row that are shown."""
        both = (f"{self.quantity}_before", f"{self.quantity}_after")
        return [name for name in both if name in row] or [self.quantity]

    def missing(self, metrics: Mapping[str, float]) -> str:
        """The metrics in words that every iteration has to tell and these don't; empty if none."""
        told = f"{self.quantity}_before and {self.quantity}_after, or {self.quantity}"
        lacking = [] if self.count in metrics else [self.count]
        lacking += [] if set(self.names(metrics)) <= metrics.keys() else [told]
        return " and ".join(lacking)

    def text(self, row: Mapping[str, float]) -> str:
        """Says how well it goes, for instance `return -12.3 -> 45.6`; of trials of one episode
        `return 45.6 (first tenth 3.1, last 5.2)`; where the row has intervals (see `LOW`) `return
        -12.3 ± 1.1 -> 45.6 ± 2`."""
        text = f"{self.quantity} {' -> '.join(self._value(row, name) for name in self.names(row))}"
        tenths = [f"{self.quantity}_{which}_tenth" for which in ("first", "last")]
        if not all(name in row for name in tenths):
            return text
        first, last = (f"{row[name]:.{self.digits}f}" for name in tenths)
        return f"{text} (first tenth {first}, last {last})"

    def _value(self, row: Mapping[str, float], name: str) -> str:
        value = f"{row[name]:.{self.digits}f}"
        if name + LOW not in row:
            return value
        return f"{value} ± {(row[name + HIGH] - row[name + LOW]) / 2:.{self.digits}f}"


LOW, HIGH = "_ci_low", "_ci_high"
"""The ends of the interval of a metric that is a mean over runs, behind its name."""

RETURNS = Shown(quantity="return", digits=1, count="env_steps", unit="steps")


def human(number: float) -> str:
    """Shortens a number to three digits: 1234567 -> 1.23M, 999600 -> 1M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= 0.9995 * size:  # 999.5 would be 1e+03.
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"
