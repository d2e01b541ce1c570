"""Random two-class linear tasks for logistic regression: so simple that MAML's meta-gradient has a
closed form.

With p = σ(θᵀx), the support loss has gradient Xᵀ(p − y)/B and Hessian H = Xᵀ diag(p(1 − p)) X/B, so
that one inner step φ = θ − α g(θ) has the Jacobian I − α H(θ), and the meta-gradient is (I − α
H(θ)) times the query gradient at φ.
"""

import torch
from torch import Tensor

from metarl.core.checks import check_counts
from metarl.errors import SettingError
from metarl.fewshot.types import DataSpec, Episodes, Examples, Split, TaskSize


class Logistic:
    """Each task is a direction w on the unit sphere; x ~ N(0, I) and the label is 1 where wᵀx > 0.
    New tasks each time."""

    def __init__(self, *, num_dimensions: int = 5) -> None:
        check_counts({"num_dimensions": num_dimensions})
        self._num_dimensions = num_dimensions
        self.spec = DataSpec(
            name="logistic",
            kind="classification",
            input_shape=(num_dimensions,),
            num_values=0,
            splits=("train", "validation", "test"),
            definition={"num_dimensions": num_dimensions},
        )

    def to(self, device: torch.device | str) -> "Logistic":
        return self  # There are no data to move.

    def sample(
        self, num: int, size: TaskSize, generator: torch.Generator, split: Split = "train"
    ) -> Episodes:
        """Draws as many examples of each class as asked: a point of the wrong class is mirrored,
        which leaves it normal.

        Raises: ValueError unless there are two ways.
        """
        if size.ways != 2:
            raise SettingError(
                f"ways={size.ways}: logistic tasks have two classes, expected ways=2"
            )
        w = torch.randn(num, self._num_dimensions, generator=generator)
        support, query = (
            self._examples(w, count, generator) for count in (size.shots, size.queries)
        )
        return Episodes(support=support, query=query)

    def _examples(self, w: Tensor, count: int, generator: torch.Generator) -> Examples:
        if count < 1:
            raise SettingError(f"{count} examples of a class: expected at least 1")
        order = torch.rand(len(w), 2 * count, generator=generator).argsort(1)
        y = torch.arange(2 * count).remainder(2)[order]
        x = torch.randn(len(w), 2 * count, self._num_dimensions, generator=generator)
        wrong = (torch.einsum("nbd,nd->nb", x, w) > 0) != (y == 1)
        return Examples(x=torch.where(wrong.unsqueeze(-1), -x, x), y=y)
