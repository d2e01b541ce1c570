"""tiered-ImageNet: 608 classes of ImageNet, 351, 97 and 160 for training, validation and test by what
they are a kind of, with 779 165 pictures of 84 × 84 (Ren et al. 2018, arXiv:1803.00676).

Read as its authors distribute it: a pickle of encoded pictures and one of labels for each split.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metarl.errors import UserError
from metarl.fewshot import picture_pixels
from metarl.fewshot.images import ImageClasses, ImageTasks, check_classes_apart, check_image_size
from metarl.fewshot.pickled_data import in_short, unpickled, whole_numbers
from metarl.fewshot.picture_files import Files, given, only, opened, places
from metarl.fewshot.types import Split

_PREFIX: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}
_KINDS = ("images_png", "labels")

LAYOUT = """\
expected a folder or an archive (.zip, .tar, .tar.gz) with
  train_images_png.pkl, train_labels.pkl    and the same for val and test, as its authors distribute
                                            them (github.com/renmengye/few-shot-ssl-public)
Folders of pictures, train/<class>/<picture> and so on, are for dataset=folder."""


def tiered_imagenet(*, root: str | Path | None, image_size: int = 84) -> ImageTasks:
    """Training, validation and test tasks. By their number, pictures of 84 pixels need 17 GB of
    memory, of 42 a quarter, and the file of the training pictures as much as it is large at first.

    Args: root: the folder or archive.
    Raises: UserError, saying what is expected, if there is none, or a file is missing or damaged;
    ValueError for a size below 1.
    """
    check_image_size(image_size)
    with opened(root := given(root, "tiered-ImageNet", LAYOUT)) as files:
        of_name = places(files)
        for name in (f"{prefix}_{of}.pkl" for prefix in _PREFIX.values() for of in _KINDS):
            if name not in of_name:
                raise UserError(f"{files.root} has no {name}; {LAYOUT}")
        splits = {
            split: _classes(files, of_name, prefix, image_size) for split, prefix in _PREFIX.items()
        }
    check_classes_apart({split: classes.names for split, classes in splits.items()}, root)
    return ImageTasks("tiered_imagenet", splits, definition={"image_size": image_size})


def _classes(
    files: Files, of_name: Mapping[str, Sequence[str]], prefix: str, image_size: int
) -> ImageClasses:
    """The classes of a split, in the order of their numbers."""
    images, labels = (only(of_name[f"{prefix}_{of}.pkl"], files.root) for of in _KINDS)
    of, names = _labels(files, labels)
    encoded = unpickled(files, images)
    if not isinstance(encoded, list) or len(encoded) != len(of):
        raise UserError(
            f"{files.root}: {images} holds {in_short(encoded)}; expected a list of {len(of)} "
            f"pictures, as {labels} has labels"
        )
    pictures = np.empty((len(of), 3, image_size, image_size), np.uint8)
    for row, source in enumerate(np.argsort(of, kind="stable")):
        try:
            content = encoded[source]
            if isinstance(content, np.ndarray) and content.dtype == np.uint8:
                content = content.tobytes()  # as OpenCV encodes
            if not isinstance(content, bytes):
                raise ValueError(f"{in_short(content)}; expected bytes")
            pictures[row], _ = picture_pixels.pixels(content, image_size, grey=False)
        except ValueError as error:
            raise UserError(
                f"{files.root}: entry {source} of {images} can't be read as a picture: {error}"
            ) from error
        encoded[source] = None  # Together both would be half as large again.
    return ImageClasses(
        pictures=torch.from_numpy(pictures), counts=torch.from_numpy(np.bincount(of)), names=names
    )


def _labels(files: Files, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """[M] numbers of the pictures' classes, and the K classes' names."""
    content: Any = unpickled(files, name)
    try:
        labels = content["label_specific"]
        of = whole_numbers(labels.reshape(-1) if isinstance(labels, np.ndarray) else labels)
        names = tuple(content["label_specific_str"])
        if len(of) == 0 or set(of) != set(range(len(names))):
            raise ValueError
        if not all(isinstance(name, str) for name in names):
            raise TypeError
    except (TypeError, LookupError, ValueError, OverflowError) as error:
        raise UserError(
            f"{files.root}: {name} holds {in_short(content)}; expected label_specific, a number "
            "for each picture, and label_specific_str, the name of each number"
        ) from error
    return of, names
