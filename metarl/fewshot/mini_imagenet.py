"""mini-ImageNet in the split of Ravi & Larochelle (2017): 64, 16 and 20 classes with 600 pictures each, 84×84.

The pictures are ImageNet's, which one has to get oneself; the split lists are public.
"""

import csv
import io
from pathlib import Path, PurePosixPath

from metarl.errors import UserError
from metarl.fewshot.images import ImageTasks
from metarl.fewshot.picture_files import Files, classes_of, is_picture, opened
from metarl.fewshot.types import Split

_LISTS: dict[Split, str] = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}

LAYOUT = """\
expected a folder or an archive (.zip, .tar, .tar.gz) with
  train.csv, val.csv, test.csv   lines `filename,label` under a header: the lists of Ravi & Larochelle
                                 (github.com/twitter-research/meta-learning-lstm, data/miniImagenet)
  images/<filename>              or the file anywhere else, by that name
The pictures come from ImageNet (image-net.org, ILSVRC 2012), for which one needs an account; the lists say which."""


def mini_imagenet(*, root: str | Path | None, image_size: int = 84) -> ImageTasks:
    """Training, validation and test tasks. Reading 60 000 pictures takes minutes and 1.3 GB of memory.

    Args: root: the folder or archive.
    Raises: UserError, saying what is expected, if there is none, a list or a picture is missing, or a class is in two lists.
    """
    if image_size < 1:
        raise ValueError(f"dataset.image_size={image_size}: expected 1 or more pixels")
    if root is None:
        raise UserError(f"dataset.root=null: mini-ImageNet isn't downloaded; {LAYOUT}")
    with opened(root) as files:
        every = files.names()
        places = {PurePosixPath(name).name: name for name in every}
        lists = {split: _list(files, places, name, root) for split, name in _LISTS.items()}
        _check_apart(lists, root)
        pictures = _by_name([name for name in every if is_picture(name)], root)
        splits = {
            split: classes_of(files, _located(classes, pictures, root), image_size, grey=False)
            for split, classes in lists.items()
        }
    return ImageTasks("mini_imagenet", splits, definition={"image_size": image_size})


def _list(files: Files, places: dict[str, str], name: str, root: str | Path) -> dict[str, list[str]]:
    """A split list: class -> file names."""
    if name not in places:
        raise UserError(f"{root} has no {name}; {LAYOUT}")
    rows = csv.DictReader(io.StringIO(files.read(places[name]).decode()))
    if not {"filename", "label"} <= set(rows.fieldnames or ()):
        raise UserError(f"{name} of {root} has the columns {rows.fieldnames}; {LAYOUT}")
    classes: dict[str, list[str]] = {}
    for row in rows:
        classes.setdefault(row["label"], []).append(row["filename"])
    return classes


def _by_name(places: list[str], root: str | Path) -> dict[str, str]:
    """File name -> place of the picture."""
    pictures: dict[str, str] = {}
    for place in places:
        name = PurePosixPath(place).name
        if name in pictures:
            raise UserError(
                f"{root}: {name} is there twice, as {pictures[name]} and {place}; which one do the lists mean?"
            )
        pictures[name] = place
    return pictures


def _check_apart(lists: dict[Split, dict[str, list[str]]], root: str | Path) -> None:
    seen: dict[str, Split] = {}
    for split, classes in lists.items():
        for name in classes:
            if name in seen:
                raise UserError(f"{root}: class {name} is in the lists of {seen[name]} and {split}")
            seen[name] = split


def _located(classes: dict[str, list[str]], pictures: dict[str, str], root: str | Path) -> dict[str, list[str]]:
    missing = [name for names in classes.values() for name in names if name not in pictures]
    if missing:
        raise UserError(f"{root} lacks {len(missing)} pictures of its lists, {missing[0]} first; {LAYOUT}")
    return {label: [pictures[name] for name in names] for label, names in classes.items()}
