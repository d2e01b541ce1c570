"""Learners that read their examples one by one: a memory takes in each picture, and its label one
step later.

Meta-learning is then plain sequence learning: with an external memory it is the memory-augmented
network of Santoro et al. 2016 (Meta-learning with memory-augmented neural networks, ICML), with an
LSTM their baseline.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.core.checks import check_counts
from metarl.fewshot.algorithms.episodic import EpisodicAdapter, embedded
from metarl.fewshot.algorithms.shared import Setting, TrainedModule
from metarl.fewshot.evaluate import at_a_time, draw
from metarl.fewshot.losses import OBJECTIVES
from metarl.fewshot.types import Examples, FewShotLearner, Needs, Split, TaskSize
from metarl.nn.batch_norm import use_running_statistics
from metarl.nn.features import linear
from metarl.struct import map_tensors
from metarl.types import Metrics


class Reader(nn.Module):
    """Reads a sequence: at step t the memory gets (f(xₜ), yₜ₋₁) and answers yₜ, before it is told;
    y₀ is all zeros.

    Args:
      memory: input_size, generator -> a `metarl.nn.recurrent.Memory`.
      ways: classes of a task, 0 for values; num_values: of an answer, 0 for classes.
    """

    def __init__(
        self,
        embed: nn.Module,
        num_features: int,
        memory: Any,
        *,
        ways: int,
        num_values: int,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.embed = embed
        self._ways = ways
        num_outputs = ways or num_values
        self.memory = memory(num_features + num_outputs, generator=generator)
        self.head = linear(self.memory.output_size, num_outputs, generator)

    def forward(self, support: Examples, x: Tensor) -> Tensor:
        """Returns the answers [N, B, W]: each question is asked by itself, as the next step after
        the whole support set."""
        own, asked = embedded(self.embed, support, x)
        return self.answers(own, support.y, asked)

    def in_sequence(self, examples: Examples) -> Tensor:
        """What is answered at each step of the sequence: x [N, T, ...] -> [N, T, W]."""
        features = self.embed(examples.x.flatten(0, 1)).unflatten(0, examples.x.shape[:2])
        told = self._told(examples.y, features.dtype)[:, :-1]
        steps = torch.cat([features, told], dim=-1).transpose(0, 1)
        return self.head(self.memory.sequence(steps)).transpose(0, 1)

    def answers(self, own: Tensor, y: Tensor, asked: Tensor) -> Tensor:
        """Features of the support set [N, S, F] with its answers, of the questions [N, B, F] -> [N,
        B, W]."""
        told = self._told(y, own.dtype)
        state = self.memory.initial(len(own))
        for t in range(own.shape[1]):
            _, state = self.memory.step(torch.cat([own[:, t], told[:, t]], dim=-1), state)
        count = asked.shape[1]
        # A memory of its own for each question.
        each = map_tensors(lambda leaf: leaf.repeat_interleave(count, 0), state)
        question = torch.cat([asked, told[:, -1:].expand(-1, count, -1)], dim=-1).flatten(0, 1)
        output, _ = self.memory.step(question, each)
        return self.head(output).unflatten(0, (-1, count))

    def _told(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """Zeros, then the answers y₁ ... y_T: [N, T + 1, W]."""
        answers = functional.one_hot(y, self._ways).to(dtype) if self._ways else y
        return torch.cat([torch.zeros_like(answers[:, :1]), answers], dim=1)


class SequenceLearner(FewShotLearner):
    """One iteration: draw N tasks as sequences, `instances` examples of each class in random order,
    and take an Adam step on the mean loss over all steps.

    `accuracy_1`, `accuracy_2`, ... are those where a class is met for the first, second, ... time
    (for values: `mse_1`, ...).

    Args: see configs/learner/mann.yaml.
    Raises: ValueError, naming it, for a number out of range.
    """

    def __init__(
        self,
        *,
        setting: Setting,
        memory: Any,
        meta_batch_size: int,
        instances: int,
        outer_lr: float,
        halve_every: int | None,
    ) -> None:
        check_counts({"meta_batch_size": meta_batch_size, "instances": instances})
        source, size = setting.source, setting.size
        self._setting = setting
        self._num_tasks = meta_batch_size
        self._size = TaskSize(ways=size.ways, shots=instances, queries=1)
        self._objective = OBJECTIVES[source.spec.kind]
        self._reader = reader(setting, use_running_statistics(setting.embed), memory).to(
            setting.device
        )
        self._num_outputs = source.spec.num_outputs(size.ways)
        self._descent = TrainedModule(self._reader, lr=outer_lr, halve_every=halve_every)

    def adapter(self) -> EpisodicAdapter:
        return EpisodicAdapter(self._reader, self._num_outputs)

    def needs(self) -> Needs:
        return Needs(training=self._size, set_by=("instances",), sequences=self._size)

    def step(self) -> Metrics:
        sequence = self._setting.draw(self._num_tasks, self._size).support
        self._reader.train()
        answer = self._reader.in_sequence(sequence)
        loss = self._objective.loss(answer, sequence.y).mean()
        self._descent.step(loss)
        measure = self._objective.measure(answer.detach(), sequence.y).mean().item()
        met = instance_measures(answer.detach(), sequence.y, self._size)
        name = self._objective.measure_name
        return {
            "tasks": self._num_tasks,
            "loss": loss.item(),
            name: measure,
            **{f"{name}_{k + 1}": value for k, value in enumerate(met.mean(0).tolist())},
        }

    @torch.no_grad()
    def measures_in_sequence(
        self, num_tasks: int, split: Split, generator: torch.Generator
    ) -> Tensor:
        """Returns [N, instances]: for each task of the split the accuracy (or squared error) where
        a class is met for the k-th time."""
        self._reader.eval()
        rows = []
        for count in at_a_time(num_tasks):
            sequence = draw(
                self._setting.source, count, self._size, generator, split, self._setting.device
            ).support
            rows.append(
                instance_measures(self._reader.in_sequence(sequence), sequence.y, self._size)
            )
        return torch.cat(rows).cpu()

    def state_dict(self) -> dict[str, Any]:
        return self._descent.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._descent.load_state_dict(state)


def instance_measures(answer: Tensor, y: Tensor, size: TaskSize) -> Tensor:
    """What is right where a class is met for the k-th time: answers [N, T, W], y [N, T] with
    size.shots of each class -> [N, shots]. For values, [N, T, O] twice, it is the squared error of
    the k-th point."""
    # [N, T]
    right = OBJECTIVES["classification" if size.ways > 1 else "regression"].measure(
        answer.unsqueeze(-2), y.unsqueeze(2)
    )
    if size.ways == 1:
        return right
    # All of class 0 in the order met, then those of class 1, ...
    by_class = y.argsort(dim=1, stable=True)
    return right.gather(1, by_class).unflatten(1, (size.ways, size.shots)).mean(1)


def reader(setting: Setting, embed: Any, memory: Any) -> Reader:
    """Makes the network for the setting's tasks, with `embed` for its features."""
    spec = setting.source.spec
    ways = setting.size.ways if spec.kind == "classification" else 0
    generator = setting.streams.init
    return Reader(
        embed,
        embed.num_features,
        memory,
        ways=ways,
        num_values=spec.num_values,
        generator=generator,
    )
