"""mini-ImageNet in the split of Ravi & Larochelle (2017): 64, 16 and 20 classes with 600 pictures
each, 84×84.

The pictures are ImageNet's, which one has to get oneself; the split lists are public.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from metarl.errors import UserError
from metarl.fewshot.images import (
    ImageClasses,
    ImageTasks,
    check_classes_apart,
    check_image_size,
    resized,
)
from metarl.fewshot.pickled_data import in_short, unpickled, whole_numbers
from metarl.fewshot.picture_files import Files, classes_of, given, only, opened, places, read
from metarl.fewshot.types import Split

_LISTS: dict[Split, str] = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}

_CACHES: dict[Split, str] = {
    "train": "mini-imagenet-cache-train.pkl",
    "validation": "mini-imagenet-cache-val.pkl",
    "test": "mini-imagenet-cache-test.pkl",
}

LAYOUT = """\
expected a folder or an archive (.zip, .tar, .tar.gz) with
  train.csv, val.csv, test.csv   lines `filename,label` under a header, by Ravi & Larochelle
                                 (github.com/twitter-research/meta-learning-lstm, data/miniImagenet)
  images/<filename>              or the file anywhere else, by that name
or, where these lists aren't, with
  mini-imagenet-cache-train.pkl, -val.pkl and -test.pkl   pictures and classes, by Ren et al.
                                 (github.com/renmengye/few-shot-ssl-public)
The pictures come from ImageNet (image-net.org, ILSVRC 2012), for which one needs an account; the
lists say which."""


def mini_imagenet(*, root: str | Path | None, image_size: int = 84) -> ImageTasks:
    """Training, validation and test tasks. Reading 60 000 pictures takes minutes and 1.3 GB of
    memory.

    Args: root: the folder or archive.
    Raises: UserError, saying what is expected, if there is none, a list or a picture is missing, or
    a class is in two lists.
    """
    check_image_size(image_size)
    with opened(root := given(root, "mini-ImageNet", LAYOUT)) as files:
        of_name = places(files)
        if _has(of_name, _CACHES) and not _has(of_name, _LISTS):
            return _of_caches(files, of_name, image_size)
        lists = {split: _list(files, of_name, name) for split, name in _LISTS.items()}
        _check_apart(lists, root)
        located = {split: _located(classes, of_name, root) for split, classes in lists.items()}
        splits = {
            split: classes_of(files, classes, image_size, grey=False)
            for split, classes in located.items()
        }
    return ImageTasks("mini_imagenet", splits, definition={"image_size": image_size})


def _has(of_name: Mapping[str, Sequence[str]], names: Mapping[Split, str]) -> bool:
    return of_name.keys() >= set(names.values())


def _of_caches(files: Files, of_name: Mapping[str, Sequence[str]], image_size: int) -> ImageTasks:
    """What Ren et al. (2018) made of the same pictures: not ours pixel by pixel, so that results
    don't compare."""
    names: dict[Split, tuple[str, ...]] = {}
    splits: dict[Split, ImageClasses] = {}
    for split, called in _CACHES.items():
        pictures, counts = _cache(files, only(of_name[called], files.root))
        names[split] = tuple(counts)
        splits[split] = ImageClasses(
            pictures=resized(torch.from_numpy(pictures).permute(0, 3, 1, 2), image_size),
            counts=torch.tensor([*counts.values()]),
            names=names[split],
        )
    check_classes_apart(names, files.root)
    return ImageTasks(
        "mini_imagenet", splits, definition={"image_size": image_size, "pictures": "cache"}
    )


def _cache(files: Files, name: str) -> tuple[np.ndarray, dict[str, int]]:
    """[sum of counts, H, W, 3] pictures, class after class, and class -> how many it has."""
    content = unpickled(files, name)
    try:
        pictures, of_class = content["image_data"], content["class_dict"]
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
            raise ValueError
        # Counted first: the same long list could be there for each of many classes.
        if not 0 < sum(map(len, of_class.values())) <= pictures.size:
            raise ValueError
        rows = {str(of): whole_numbers(k).tolist() for of, k in of_class.items()}
    except (TypeError, LookupError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{files.root}: {name} holds {in_short(content)}; expected image_data, bytes "
            "[M, 84, 84, 3], and class_dict, the rows of each class"
        ) from error
    every = [row for of in rows.values() for row in of]
    if min(every) < 0 or max(every) >= len(pictures):
        raise UserError(
            f"{files.root}: class_dict of {name} has rows {min(every)} to {max(every)}; expected 0 "
            f"to {len(pictures) - 1}, as image_data has"
        )
    if len(set(every)) < len(every):
        raise UserError(
            f"{files.root}: class_dict of {name} has a row twice; expected each picture once, or it "
            "could be a query among its own support"
        )
    return pictures[every], {of: len(k) for of, k in rows.items()}


def _list(files: Files, of_name: Mapping[str, Sequence[str]], name: str) -> dict[str, list[str]]:
    """A split list: class -> file names."""
    if name not in of_name:
        raise UserError(f"{files.root} has no {name}; {LAYOUT}")
    place = only(of_name[name], files.root)
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


def _check_apart(lists: dict[Split, dict[str, list[str]]], root: str | Path) -> None:
    check_classes_apart(lists, root)
    pictures: dict[str, Split] = {}
    for split, classes in lists.items():
        for name in (name for names in classes.values() for name in names):
            if pictures.setdefault(name, split) != split:
                raise UserError(
                    f"{root}: {name} is in the lists of {pictures[name]} and {split}; expected each "
                    "picture in one split"
                )


def _located(
    classes: Mapping[str, Sequence[str]], of_name: Mapping[str, Sequence[str]], root: str | Path
) -> dict[str, list[str]]:
    missing = [name for names in classes.values() for name in names if name not in of_name]
    if missing:
        raise UserError(
            f"{root} lacks {len(missing)} pictures of its lists, {missing[0]} first; {LAYOUT}"
        )
    return {
        label: [only(of_name[name], root) for name in names] for label, names in classes.items()
    }
