"""Pictures by class, in memory as bytes, and N-way K-shot tasks drawn from them as tensors."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from metarl.errors import SettingError, UserError
from metarl.fewshot.types import DataSpec, Episodes, Examples, Split, TaskSize
from metarl.struct import replace, struct


@struct
class ImageClasses:
    """The pictures of several classes, those of a class one after the other."""

    pictures: Tensor  # [M, C, H, W] uint8, on any device
    counts: Tensor  # [K] int64 on the CPU, how many pictures each class has; they add up to M
    names: tuple[str, ...]  # K of them

    def choose(self, classes: Sequence[int] | Tensor) -> "ImageClasses":
        """Returns some of the classes, in the order given."""
        chosen = torch.as_tensor(classes)
        of_class = torch.arange(len(self.pictures)).split(self.counts.tolist())
        rows = torch.cat([of_class[k] for k in chosen.tolist()])
        return ImageClasses(
            pictures=self.pictures[rows],
            counts=self.counts[chosen],
            names=tuple(self.names[k] for k in chosen.tolist()),
        )

    def with_rotations(self) -> "ImageClasses":
        """Makes four times as many classes: each turned by 0°, 90°, 180° and 270° is a class of its
        own."""
        return ImageClasses(
            pictures=torch.cat([self.pictures.rot90(k, (-2, -1)) for k in range(4)]),
            counts=self.counts.repeat(4),
            names=tuple(
                f"{name} turned {90 * k}°" if k else name for k in range(4) for name in self.names
            ),
        )


def resized(pictures: Tensor, size: int) -> Tensor:
    """[M, C, H, W] uint8 -> [M, C, size, size] uint8, each pixel an average of what it covers
    (antialiased bilinear)."""
    if pictures.shape[-2:] == (size, size):
        return pictures
    return functional.interpolate(pictures, size=(size, size), mode="bilinear", antialias=True)


def check_image_size(image_size: int) -> None:
    """Raises: SettingError for a size below 1."""
    if image_size < 1:
        raise SettingError(f"dataset.image_size={image_size}: expected 1 or more pixels")


def check_classes_apart(names: Mapping[Split, Iterable[str]], root: str | Path) -> None:
    """Raises: UserError naming a class that is in two splits of what lies at `root`."""
    seen: dict[str, Split] = {}
    for split, of_split in names.items():
        for name in of_split:
            if seen.setdefault(name, split) != split:
                raise UserError(f"{root}: class {name} is in the lists of {seen[name]} and {split}")


class ImageTasks:
    """N-way K-shot tasks: W classes of a split drawn without replacement and numbered in the order
    drawn, S + Q different pictures of each; then support and query are shuffled, so that neither a
    label nor a place in the batch tells a class."""

    def __init__(
        self,
        name: str,
        splits: Mapping[Split, ImageClasses],
        *,
        definition: Mapping[str, Any],
    ) -> None:
        first = next(iter(splits.values()))
        self.spec = DataSpec(
            name=name,
            kind="classification",
            input_shape=tuple(first.pictures.shape[1:]),
            num_values=0,
            splits=tuple(splits),
            definition={
                **definition,
                "num_classes": {split: len(c.names) for split, c in splits.items()},
            },
        )
        self._splits = dict(splits)

    def to(self, device: torch.device | str) -> "ImageTasks":
        moved = {
            split: replace(c, pictures=c.pictures.to(device)) for split, c in self._splits.items()
        }
        definition = {
            key: value for key, value in self.spec.definition.items() if key != "num_classes"
        }
        return ImageTasks(self.spec.name, moved, definition=definition)

    def classes(self, split: Split) -> ImageClasses:
        """The classes of a split. Raises: ValueError if there is no such split."""
        if split not in self._splits:
            raise SettingError(
                f"{self.spec.name} has no {split} split; it has {', '.join(self._splits)}"
            )
        return self._splits[split]

    def sample(
        self, num: int, size: TaskSize, generator: torch.Generator, split: Split = "train"
    ) -> Episodes:
        classes = self.classes(split)
        self._check(classes, size, split)
        rows = _rows(classes, num, size, generator)
        support = self._examples(classes, rows[:, :, : size.shots], generator)
        query = self._examples(classes, rows[:, :, size.shots :], generator)
        return Episodes(support=support, query=query)

    def _check(self, classes: ImageClasses, size: TaskSize, split: Split) -> None:
        if size.ways < 2 or size.shots < 1 or size.queries < 1:
            raise SettingError(
                f"ways={size.ways}, shots={size.shots}, queries={size.queries}: expected at least "
                "2, 1 and 1"
            )
        if size.ways > len(classes.names):
            raise SettingError(
                f"ways={size.ways}: the {split} split of {self.spec.name} has only "
                f"{len(classes.names)} classes"
            )
        fewest = int(classes.counts.argmin())
        if size.shots + size.queries > classes.counts[fewest]:
            raise SettingError(
                f"shots={size.shots} and queries={size.queries} need {size.shots + size.queries} "
                "pictures of a class: "
                f"{classes.names[fewest]} of {self.spec.name} has only "
                f"{int(classes.counts[fewest])}; expected fewer, or pictures without that class"
            )

    def _examples(
        self, classes: ImageClasses, rows: Tensor, generator: torch.Generator
    ) -> Examples:
        """rows [N, W, B'] of `pictures` -> examples in random order, labelled by their place among
        the W."""
        num, ways, count = rows.shape
        order = torch.rand(num, ways * count, generator=generator).argsort(1)
        y = torch.arange(ways).repeat_interleave(count).expand(num, -1).gather(1, order)
        chosen = rows.reshape(num, -1).gather(1, order).to(classes.pictures.device)
        return Examples(x=classes.pictures[chosen].float() / 255, y=y.to(classes.pictures.device))


def _rows(classes: ImageClasses, num: int, size: TaskSize, generator: torch.Generator) -> Tensor:
    """[N, W, S + Q] different rows of `pictures`, those of W different classes for each task."""
    counts, per_class = classes.counts, size.shots + size.queries
    # [N, W] in random order
    drawn = torch.rand(num, len(counts), generator=generator).topk(size.ways, 1).indices
    most = int(counts.max())
    keys = torch.rand(num, size.ways, most, generator=generator)
    keys = keys.masked_fill(torch.arange(most) >= counts[drawn].unsqueeze(-1), -1.0)
    within = keys.topk(per_class, -1).indices
    return (counts.cumsum(0) - counts)[drawn].unsqueeze(-1) + within
