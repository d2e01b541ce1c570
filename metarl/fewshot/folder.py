"""One's own pictures: a folder (or archive) with a folder of pictures for each class."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path, PurePosixPath

import torch

from metarl.errors import UserError
from metarl.fewshot.images import ImageTasks
from metarl.fewshot.picture_files import classes_of, is_picture, opened
from metarl.fewshot.types import Split

_SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def folder(
    *, root: str | Path, image_size: int = 28, grey: bool = False, test_share: float = 0.3, split_seed: int = 0
) -> ImageTasks:
    """Tasks from root/<class>/<picture>, or root/train/<class>/..., root/test/<class>/... (and root/validation/...).

    Args:
      test_share: of the classes, drawn by `split_seed`, are for test where the folders don't say.
      grey: read pictures with one channel instead of three.
    Raises: UserError if there is nothing to read, a file is no picture, or too few classes to split;
      ValueError for a share outside (0, 1).
    """
    if not 0 < test_share < 1:
        raise ValueError(f"dataset.test_share={test_share}: expected a number between 0 and 1")
    if image_size < 1:
        raise ValueError(f"dataset.image_size={image_size}: expected 1 or more pixels")
    with opened(root) as files:
        found = [name for name in files.names() if is_picture(name)]
        splits = _by_split(root, found) or _drawn(root, found, test_share, split_seed)
        read = {split: classes_of(files, classes, image_size, grey=grey) for split, classes in splits.items()}
    names = {split: list(classes) for split, classes in splits.items()}
    return ImageTasks("folder", read, definition={"image_size": image_size, "grey": grey, "classes": names})


def _by_split(root: str | Path, names: Sequence[str]) -> dict[Split, dict[str, list[str]]] | None:
    """What the folders train/, validation/ and test/ hold; None if there are no train/ and test/."""
    parts = {name: PurePosixPath(name).parts for name in names}
    if len({path[0] for path in parts.values()}) == 1:
        parts = {name: path[1:] for name, path in parts.items()}  # Archives often have one folder around everything.
    if not {"train", "test"} <= {path[0] for path in parts.values() if len(path) > 2}:
        return None
    splits: dict[Split, dict[str, list[str]]] = {}
    for split in _SPLITS:
        inside = [name for name, path in parts.items() if len(path) > 2 and path[0] == split]
        if inside:
            splits[split] = _by_class(inside)
    for one, other in combinations(splits, 2):
        if both := sorted(set(splits[one]) & set(splits[other])):
            raise UserError(f"{root}: class {both[0]} is in {one} and in {other}; a class may be in one split only")
    return splits


def _drawn(root: str | Path, names: Sequence[str], share: float, seed: int) -> Mapping[Split, dict[str, list[str]]]:
    classes = _by_class([name for name in names if len(PurePosixPath(name).parts) > 1])
    if len(classes) < 4:
        raise UserError(
            f"{root} has {len(classes)} folders with pictures; expected one for each class, 2 for training and 2 for test at "
            "least: <class>/<picture>.png, or train/<class>/... and test/<class>/..."
        )
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed)).tolist()
    num_test = min(max(2, round(share * len(classes))), len(classes) - 2)
    every = list(classes)
    chosen: dict[Split, list[int]] = {"train": order[num_test:], "test": order[:num_test]}
    return {split: {every[k]: classes[every[k]] for k in sorted(rows)} for split, rows in chosen.items()}


def _by_class(names: Sequence[str]) -> dict[str, list[str]]:
    """By the name of the folder that a picture lies in."""
    classes: dict[str, list[str]] = {}
    for name in names:
        classes.setdefault(PurePosixPath(name).parts[-2], []).append(name)
    return classes
