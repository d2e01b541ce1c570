"""Matching networks: an answer is the labels of the support set, weighted by the attention that the
question pays to each.

Source: Vinyals et al. 2016 (arXiv:1606.04080).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.core.checks import check_not_negative, check_positive
from metarl.fewshot.algorithms.episodic import Episodic, embedded, need_classes
from metarl.fewshot.algorithms.shared import Setting
from metarl.fewshot.types import Examples
from metarl.nn.recurrent import draw_recurrent


class MatchingNet(nn.Module):
    """P(y = w | x) = Σᵢ a(x, xᵢ) [yᵢ = w],  a the softmax over the support set of cosines between
    g(xᵢ) and f(x) (their eq. 1).

    With `full_context`, g reads the support set by a bidirectional LSTM and f rereads it with
    attention (their section 2.1.2): what an example means depends on the others. The answer is the
    logarithm of P, so that its softmax is P.

    How we differ: what was remembered and what was read, h and r of their eq. 3, are added up and
    share one weight matrix; there they stand beside each other.

    Args:
      scale: the cosines are multiplied by it; cosines alone, in ±1, can't make a sharp softmax.
      full_context: processing steps of the question's LSTM; 0: none, embeddings of the examples
        alone.
      generator: draws the weights of both LSTMs U[−1/√F, 1/√F], as torch does.
    """

    def __init__(
        self,
        embed: nn.Module,
        num_features: int,
        *,
        scale: float,
        full_context: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_positive({"scale": scale})
        check_not_negative({"full_context": full_context})
        self.embed = embed
        self.scale = scale
        self.steps = full_context
        if full_context:
            self.support_lstm = nn.LSTM(
                num_features, num_features, bidirectional=True, batch_first=True
            )
            self.question_cell = nn.LSTMCell(num_features, num_features)
            for lstm in (self.support_lstm, self.question_cell):
                draw_recurrent(lstm, num_features, generator)

    def forward(self, support: Examples, x: Tensor) -> Tensor:
        """Returns logits [N, B, W]."""
        own, asked = embedded(self.embed, support, x)
        if self.steps:
            own = self._in_context(own)
            asked = self._reread(asked, own)
        # [N, B, S]
        cosine = functional.normalize(asked, dim=-1) @ functional.normalize(own, dim=-1).mT
        log_attention = (self.scale * cosine).log_softmax(-1)
        others = functional.one_hot(support.y).mT.unsqueeze(1) == 0  # [N, 1, W, S]
        return log_attention.unsqueeze(2).masked_fill(others, -torch.inf).logsumexp(-1)

    def _in_context(self, own: Tensor) -> Tensor:
        """g: each embedding [N, S, F] and what an LSTM read before and after it (appendix A.2)."""
        forward, backward = self.support_lstm(own)[0].chunk(2, dim=-1)
        return own + forward + backward

    def _reread(self, asked: Tensor, own: Tensor) -> Tensor:
        """f: an LSTM that attends to the support set at each of its steps, every question by itself
        (appendix A.1, eq. 3-6)."""
        question = asked.flatten(0, 1)
        hidden, cell = question, torch.zeros_like(question)
        for _ in range(self.steps):
            attention = (hidden.unflatten(0, asked.shape[:2]) @ own.mT).softmax(-1)
            hidden, cell = self.question_cell(
                question, (hidden + (attention @ own).flatten(0, 1), cell)
            )
            hidden = hidden + question
        return hidden.unflatten(0, asked.shape[:2])


def matching(
    *,
    setting: Setting,
    scale: float,
    full_context: int,
    **settings: Any,
) -> Episodic:
    """The learner. Args: see configs/learner/matching.yaml. Raises: ValueError for a regression or
    a number out of range."""
    need_classes(setting.source, "matching")
    answer = MatchingNet(
        setting.embed,
        setting.embed.num_features,
        scale=scale,
        full_context=full_context,
        generator=setting.streams.init,
    )
    return Episodic(answer=answer, setting=setting, num_outputs=setting.size.ways, **settings)
