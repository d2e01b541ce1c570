"""mini-ImageNet in the split of Ravi & Larochelle (2017): 64, 16 and 20 classes with 600 pictures
each, 84×84.

The pictures are ImageNet's, which one has to get oneself; the split lists are public.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from metarl.errors import SettingError, UserError
from metarl.fewshot.images import ImageTasks
from metarl.fewshot.picture_files import Files, classes_of, is_hidden, opened, read
from metarl.fewshot.types import Split

_LISTS: dict[Split, str] = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}

LAYOUT = """\
expected a folder or an archive (.zip, .tar, .tar.gz) with
  train.csv, val.csv, test.csv   lines `filename,label` under a header, by Ravi & Larochelle
                                 (github.com/twitter-research/meta-learning-lstm, data/miniImagenet)
  images/<filename>              or the file anywhere else, by that name
The pictures come from ImageNet (image-net.org, ILSVRC 2012), for which one needs an account; the
lists say which."""


def mini_imagenet(*, root: str | Path | None, image_size: int = 84) -> ImageTasks:
    """Training, validation and test tasks. Reading 60 000 pictures takes minutes and 1.3 GB of
    memory.

    Args: root: the folder or archive.
    Raises: UserError, saying what is expected, if there is none, a list or a picture is missing, or
    a class is in two lists.
    """
    if image_size < 1:
        raise SettingError(f"dataset.image_size={image_size}: expected 1 or more pixels")
    if root is None:
        raise UserError(f"dataset.root=null: mini-ImageNet isn't downloaded; {LAYOUT}")
    with opened(root) as files:
        places: dict[str, list[str]] = {}
        for place in files.names():
            if not is_hidden(place):
                places.setdefault(PurePosixPath(place).name, []).append(place)
        lists = {split: _list(files, places, name) for split, name in _LISTS.items()}
        _check_apart(lists, root)
        located = {split: _located(classes, places, root) for split, classes in lists.items()}
        splits = {
            split: classes_of(files, classes, image_size, grey=False)
            for split, classes in located.items()
        }
    return ImageTasks("mini_imagenet", splits, definition={"image_size": image_size})


def _list(files: Files, places: Mapping[str, Sequence[str]], name: str) -> dict[str, list[str]]:
    """A split list: class -> file names."""
    if name not in places:
        raise UserError(f"{files.root} has no {name}; {LAYOUT}")
    place = _only(places[name], files.root)
    try:
        rows = csv.DictReader(io.StringIO(read(files, place).decode("utf-8-sig")))
        columns, entries = rows.fieldnames or (), list(rows)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{files.root}: {place} isn't a list of comma-separated values in UTF-8: {error}"
        ) from error
    if not {"filename", "label"} <= set(columns):
        raise UserError(f"{name} of {files.root} has the columns {columns}; {LAYOUT}")
    classes: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    for line, row in enumerate(entries, start=2):
        if not row["filename"] or not row["label"]:
            raise UserError(
                f"{files.root}: line {line} of {place} has no "
                f"{'label' if row['filename'] else 'filename'}"
            )
        if (before := lines.setdefault(row["filename"], line)) != line:
            raise UserError(
                f"{files.root}: {row['filename']} is in lines {before} and {line} of {place}; "
                "expected each picture once, or it could be a query among its own support"
            )
        classes.setdefault(row["label"], []).append(row["filename"])
    return classes


def _only(places: Sequence[str], root: str | Path) -> str:
    if len(places) > 1:
        name = PurePosixPath(places[0]).name
        raise UserError(
            f"{root}: {name} is there twice, as {places[0]} and {places[1]}; which one is meant?"
        )
    return places[0]


def _check_apart(lists: dict[Split, dict[str, list[str]]], root: str | Path) -> None:
    seen: dict[str, Split] = {}
    for split, classes in lists.items():
        for name in classes:
            if name in seen:
                raise UserError(f"{root}: class {name} is in the lists of {seen[name]} and {split}")
            seen[name] = split
    pictures: dict[str, Split] = {}
    for split, classes in lists.items():
        for name in (name for names in classes.values() for name in names):
            if pictures.setdefault(name, split) != split:
                raise UserError(
                    f"{root}: {name} is in the lists of {pictures[name]} and {split}; expected each "
                    "picture in one split"
                )


def _located(
    classes: Mapping[str, Sequence[str]], places: Mapping[str, Sequence[str]], root: str | Path
) -> dict[str, list[str]]:
    missing = [name for names in classes.values() for name in names if name not in places]
    if missing:
        raise UserError(
            f"{root} lacks {len(missing)} pictures of its lists, {missing[0]} first; {LAYOUT}"
        )
    return {
        label: [_only(places[name], root) for name in names] for label, names in classes.items()
    }
