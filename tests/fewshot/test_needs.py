"""What each few-shot learner says it needs is what it draws."""

import pytest
import torch
from golden import cases

from metarl.cli import fewshot_build
from metarl.errors import UserError
from metarl.run.seeding import Generators

KEPT = cases.kept()["cases"]


@pytest.mark.parametrize("name", cases.FEW_SHOT)
def test_a_learner_draws_training_tasks_of_the_size_that_it_needs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = cases.Run(KEPT[name]["config"])
    drawn = []
    kind = type(run._source)
    sample = kind.sample

    def spied(self, num, size, generator, split="train"):
        drawn.append((vars(size), split))
        return sample(self, num, size, generator, split)

    monkeypatch.setattr(kind, "sample", spied)
    run.learner.step()
    expected = vars(run.learner.needs().training)
    assert all(size == expected and split == "train" for size, split in drawn)
    assert drawn or name in (
        "pretrain",
        "nearest_embedding",
    )  # which learn from all pictures of the training classes


@pytest.mark.parametrize(
    ("learner", "words"), [("protonet", {"train_ways": 7}), ("matching", {}), ("mann", {})]
)
def test_other_ways_are_answered_by_those_that_say_so(learner: str, words: dict[str, int]) -> None:
    config = cases.Run(KEPT[learner]["config"]).config
    config.learner.update(words)
    config.evaluation.ways = 2
    source = fewshot_build.source(config)
    arguments = (config, source, Generators(0), torch.device("cpu"))
    if learner == "mann":
        with pytest.raises(
            UserError, match="evaluation.ways=2: this learner can only answer for the ways=3"
        ):
            fewshot_build.learner(*arguments)
        return
    needs = fewshot_build.learner(*arguments).needs()
    assert needs.any_ways and needs.training.ways == words.get("train_ways", 3)


def test_what_a_dataset_has_not_is_found_before_a_run_begins() -> None:
    run = cases.Run(KEPT["mann"]["config"])
    needs = run.learner.needs()
    asked = []

    class Source:
        __module__ = "metarl.stub"  # not a user's, which would be looked at more closely

        def sample(self, num, size, generator, split):
            asked.append((size, split))

    fewshot_build.check_needs(run.config, Source(), needs)
    assert asked == [(needs.training, "train"), (needs.sequences, run.config.evaluation.split)]
    assert needs.training.shots == run.config.learner.instances
