"""One's own pictures: a folder (or archive) with a folder of pictures for each class."""

import sys
from collections.abc import Mapping
from functools import cache
from itertools import combinations
from pathlib import Path, PurePosixPath

import torch

from metarl.errors import SettingError, UserError
from metarl.fewshot.images import ImageClasses, ImageTasks, check_image_size
from metarl.fewshot.picture_files import Files, classes_of, is_hidden, is_picture, opened
from metarl.fewshot.types import Split

_CALLED: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
_SPLIT_CALLED = {name: split for split, names in _CALLED.items() for name in names}

Folders = tuple[str, ...]  # that a picture lies in, from the root on
Classes = dict[Folders, list[str]]  # class -> names of its pictures
LeftOut = dict[str, list[str]]  # what sort of things, with {} for how many -> their names


def folder(
    *,
    root: str | Path,
    image_size: int = 28,
    grey: bool = False,
    test_share: float = 0.3,
    validation_share: float = 0.0,
    split_seed: int = 0,
) -> ImageTasks:
    """Tasks from root/<class>/<picture>, or root/train/<class>/..., root/test/<class>/... (and
    root/validation/...).

    A class is the folder that a picture lies in, wherever that is:
    root/<alphabet>/<character>/<picture> will do. It has the folder's name, or its path where two
    folders have the same name. Split folders may be called `Train`, `val` and so on, and lie in a
    folder that is around everything. What isn't learned from is counted on the console: hidden
    files, files that aren't pictures, pictures outside of the classes, later frames.

    Args:
      test_share: of the classes, drawn by `split_seed`, are for test where the folders don't say.
      validation_share: so many of the others are for validation, so that a choice between states
        needs no test classes; 0: none. Which ones are for test doesn't depend on it.
      grey: read pictures with one channel instead of three.
    Raises: UserError if there is nothing to read, a picture can't be read, too few classes to
      split, or a class is in two splits; ValueError for a share outside (0, 1).
    """
    if not 0 < test_share < 1:
        raise SettingError(f"dataset.test_share={test_share}: expected a number between 0 and 1")
    if not 0 <= validation_share < 1:
        raise SettingError(
            f"dataset.validation_share={validation_share}: expected 0, for none, or a number "
            "between 0 and 1"
        )
    check_image_size(image_size)
    left_out: LeftOut = {}
    with opened(root) as files:
        classes = _classes(files, left_out)
        splits = _by_split(root, classes, left_out) or _drawn(
            root, classes, left_out, test_share, validation_share, split_seed
        )
        named = _named(splits)
        more_frames = left_out.setdefault("the later frames of {}", [])
        read = {
            split: classes_of(files, of_class, image_size, grey=grey, with_more_frames=more_frames)
            for split, of_class in named.items()
        }
    if told := _told(left_out):
        _tell(f"{root}: {told}")
    if image_size > 1:
        _tell_plain(root, named, read)
    names = {split: list(of_class) for split, of_class in named.items()}
    return ImageTasks(
        "folder", read, definition={"image_size": image_size, "grey": grey, "classes": names}
    )


def _classes(files: Files, left_out: LeftOut) -> Classes:
    """The pictures by the folder that they lie in."""
    classes: Classes = {}
    for name in files.names():
        folders = PurePosixPath(name).parts[:-1]
        if is_hidden(name):
            left_out.setdefault("{} hidden", []).append(name)
        elif not is_picture(files, name):
            left_out.setdefault("{} of no kind that Pillow reads", []).append(name)
        elif not folders:
            left_out.setdefault("{} outside of a class's folder", []).append(name)
        else:
            classes.setdefault(folders, []).append(name)
    return classes


def _by_split(
    root: str | Path, classes: Classes, left_out: LeftOut
) -> Mapping[Split, Classes] | None:
    """What the folders train/, validation/ and test/ hold, wherever they lie; None if there are
    none.

    Raises: UserError if there is no train/ or nothing beside it, classes are in two splits, or a
    class's pictures are split.
    """
    splits: dict[Split, Classes] = {}
    outside = []
    for folders, names in classes.items():
        place = next(
            (i for i, name in enumerate(folders[:-1]) if name.lower() in _SPLIT_CALLED), None
        )
        if place is None:
            outside += names
            continue
        of_split = splits.setdefault(_SPLIT_CALLED[folders[place].lower()], {})
        of_split.setdefault(folders[:place] + folders[place + 1 :], []).extend(names)
    splits = {split: splits[split] for split in _CALLED if split in splits}
    if not splits:
        if (
            len(inner := {f[-1] for f in classes if len(f) > 1 and f[-1].lower() in _SPLIT_CALLED})
            > 1
        ):
            raise UserError(
                f"{root}: the folders {' and '.join(sorted(inner))} split the pictures of a class; "
                "expected them around "
                "classes, as train/<class>/... and test/<class>/..."
            )
        return None
    if len(splits) == 1 and not outside:
        return None  # One folder around everything, whatever it is called.
    if "train" not in splits or len(splits) == 1:
        beside = f", beside {outside[0]}" if outside else ""
        raise UserError(
            f"{root} has a folder for {' and '.join(splits)}{beside}; expected train/<class>/... "
            "and test/<class>/... "
            "(or validation/<class>/...), or neither"
        )
    if outside:
        left_out[f"{{}} outside of {', '.join(splits)}"] = outside
    for one, other in combinations(splits, 2):
        if both := sorted(set(splits[one]) & set(splits[other])):
            name = "/".join(both[0])
            raise UserError(
                f"{root}: class {name} is in {one} and in {other}; a class may be in one split only"
            )
    return splits


def _drawn(
    root: str | Path,
    classes: Classes,
    left_out: LeftOut,
    test_share: float,
    validation_share: float,
    seed: int,
) -> Mapping[Split, Classes]:
    if len(classes) < 4:
        told = _told(left_out)
        raise UserError(
            f"{root} has {len(classes)} folders with pictures; expected one for each class, 2 for "
            "training and 2 for test at "
            "least: <class>/<picture>.png, or train/<class>/... and "
            f"test/<class>/...{'; ' if told else ''}{told}"
        )
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed)).tolist()
    num_test = min(max(2, round(test_share * len(classes))), len(classes) - 2)
    test, others, every = order[:num_test], order[num_test:], list(classes)
    chosen: dict[Split, list[int]] = {"train": others, "test": test}
    if validation_share:
        num_validation = max(2, round(validation_share * len(classes)))
        if num_validation > len(others) - 2:
            raise UserError(
                f"dataset.validation_share={validation_share}: {root} has {len(classes)} classes, "
                f"{num_test} of which are for test; {num_validation} for validation would leave "
                f"{max(0, len(others) - num_validation)} for training, expected 2 at least"
            )
        validation, train = others[:num_validation], others[num_validation:]
        chosen = {"train": train, "validation": validation, "test": test}
    return {
        split: {every[k]: classes[every[k]] for k in sorted(rows)} for split, rows in chosen.items()
    }


def _named(splits: Mapping[Split, Classes]) -> dict[Split, dict[str, list[str]]]:
    """Each class under its folder's name; if two have the same, each under its path below the
    folder around everything."""
    every = [folders for classes in splits.values() for folders in classes]
    start = 0
    while all(len(f) > start + 1 for f in every) and len({f[start] for f in every}) == 1:
        start += 1
    if len({folders[-1] for folders in every}) == len(every):
        start = -1
    return {
        split: {"/".join(folders[start:]): names for folders, names in classes.items()}
        for split, classes in splits.items()
    }


def _told(left_out: LeftOut) -> str:
    """Says in words what was left out; empty if there is nothing."""
    sorts = [
        f"{sort.format(len(names))} {_first(names)}" for sort, names in left_out.items() if names
    ]
    return f"files left out: {', '.join(sorts)}" if sorts else ""


def _tell_plain(
    root: str | Path,
    named: Mapping[Split, dict[str, list[str]]],
    read: Mapping[Split, ImageClasses],
) -> None:
    """Warns of pictures that show nothing: white ink on a transparent ground, for instance."""
    plain = []
    for split, of_class in named.items():
        flat = read[split].pictures.flatten(1)
        rows = (flat.amin(1) == flat.amax(1)).nonzero().flatten().tolist()
        names = [name for names in of_class.values() for name in names]
        plain += [names[row] for row in rows]
    if plain:
        _tell(
            f"{root}: pictures of one shade throughout: {len(plain)} {_first(plain)}; transparent "
            "parts are white"
        )


def _first(names: list[str]) -> str:
    return f"({names[0]}{', ...' if len(names) > 1 else ''})"


@cache  # Once, though a resumed run reads its pictures twice, and each run of a sweep anew.
def _tell(message: str) -> None:
    print(message, file=sys.stderr)
