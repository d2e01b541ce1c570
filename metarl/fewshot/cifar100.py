"""CIFAR-FS and FC100: the 100 classes of CIFAR-100 (Krizhevsky 2009), 600 pictures each of 32 × 32,
split in two ways into classes for training, validation and test.

Read as the authors of CIFAR-100 distribute it, or as a folder of pictures for each class.
"""

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from metarl.errors import UserError
from metarl.fewshot.images import ImageClasses, ImageTasks, check_image_size, resized
from metarl.fewshot.pickled_data import in_short, unpickled, whole_numbers
from metarl.fewshot.picture_files import (
    Files,
    classes_of,
    given,
    is_picture,
    only,
    opened,
    places,
    read,
)
from metarl.fewshot.types import Split

SUPERCLASSES = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
"""Superclass -> its classes. The files number either in the order of the alphabet."""

CLASSES = tuple(sorted(name for names in SUPERCLASSES.values() for name in names))
_SUPERCLASS = np.array(
    [next(k for k, names in enumerate(SUPERCLASSES.values()) if name in names) for name in CLASSES]
)
_SIDE = 32

# The lists of CIFAR-FS; all the others are for training.
_VALIDATION = (
    *("beaver", "beetle", "butterfly", "camel", "cattle", "crab", "crocodile", "flatfish"),
    *("lamp", "maple_tree", "motorcycle", "otter", "sea", "shark", "television", "tractor"),
)
_TEST = (
    *("baby", "bed", "bicycle", "chimpanzee", "fox", "leopard", "man", "pickup_truck"),
    *("plain", "poppy", "rocket", "rose", "snail", "sweet_pepper", "table", "telephone"),
    *("wardrobe", "whale", "woman", "worm"),
)

# The superclasses of FC100; all the others are for training.
_VALIDATION_SUPERCLASSES = (
    *("large_carnivores", "large_omnivores_and_herbivores"),
    *("non-insect_invertebrates", "small_mammals"),
)
_TEST_SUPERCLASSES = ("aquatic_mammals", "insects", "medium_mammals", "people")

LAYOUT = """\
expected a folder or an archive (.zip, .tar, .tar.gz) with one of
  train and test             of cifar-100-python.tar.gz (www.cs.toronto.edu/~kriz/cifar.html)
  train.bin and test.bin     of cifar-100-binary.tar.gz, from there, too
  <class>/<picture>          for each of the 100 classes, in any folder, as CIFAR-FS has been
                             distributed"""


def cifar_fs(*, root: str | Path | None, image_size: int = _SIDE) -> ImageTasks:
    """64, 16 and 20 classes for training, validation and test, in the split of Bertinetto et al.
    2019 (arXiv:1805.08136), which parts what is alike: a leopard is for test, a lion for training.

    Args: root: the folder or archive.
    Raises: UserError, saying what is expected, if there is none, a class is missing, or a file is
    damaged; ValueError for a size below 1.
    """
    validation, test = set(_VALIDATION), set(_TEST)
    return _tasks("cifar_fs", validation, test, root, image_size)


def fc100(*, root: str | Path | None, image_size: int = _SIDE) -> ImageTasks:
    """60, 20 and 20 classes for training, validation and test, in the split of Oreshkin et al. 2018
    (arXiv:1805.10123), by superclasses: no people, insects or medium mammals in training.

    Args, Raises: as `cifar_fs`.
    """
    validation = {name for of in _VALIDATION_SUPERCLASSES for name in SUPERCLASSES[of]}
    test = {name for of in _TEST_SUPERCLASSES for name in SUPERCLASSES[of]}
    return _tasks("fc100", validation, test, root, image_size)


def _tasks(
    name: str,
    validation: set[str],
    test: set[str],
    root: str | Path | None,
    image_size: int,
) -> ImageTasks:
    check_image_size(image_size)
    with opened(given(root, "CIFAR-100", LAYOUT)) as files:
        classes = _read(files, image_size)
    chosen: Mapping[Split, list[int]] = {
        "train": [k for k, name in enumerate(CLASSES) if name not in validation | test],
        "validation": [k for k, name in enumerate(CLASSES) if name in validation],
        "test": [k for k, name in enumerate(CLASSES) if name in test],
    }
    splits = {split: classes.choose(rows) for split, rows in chosen.items()}
    return ImageTasks(name, splits, definition={"image_size": image_size})


def _read(files: Files, image_size: int) -> ImageClasses:
    """All classes, in the order of `CLASSES`."""
    of_name = places(files)
    for both, part in ((("train", "test"), _of_pickle), (("train.bin", "test.bin"), _of_binary)):
        if of_name.keys() >= set(both):
            return _labelled(
                files, [only(of_name[name], files.root) for name in both], part, image_size
            )
    of_class: dict[str, list[str]] = {name: [] for name in CLASSES}
    for place in (place for of in of_name.values() for place in of):
        if (folder := PurePosixPath(place).parent.name) in of_class and is_picture(files, place):
            of_class[folder].append(place)
    if missing := [name for name, pictures in of_class.items() if not pictures]:
        found = len(CLASSES) - len(missing)
        lack = f"{found} of the 100 classes, not {missing[0]}" if found else "nothing of CIFAR-100"
        raise UserError(f"{files.root} has {lack}; {LAYOUT}")
    return classes_of(files, of_class, image_size, grey=False)


_Part = tuple[np.ndarray, np.ndarray, np.ndarray]  # [M, 3, 32, 32] uint8, [M] class, [M] superclass


def _labelled(
    files: Files, both: list[str], part: Callable[[Files, str], _Part], image_size: int
) -> ImageClasses:
    """What is for training in CIFAR-100 and what is for test there, together by class."""
    found = []
    for place in both:
        pictures, of, above = part(files, place)
        if len(of) == 0 or of.min() < 0 or of.max() >= len(CLASSES):
            labels = f"labels {of.min()} to {of.max()}" if len(of) else "no pictures"
            raise UserError(
                f"{files.root}: {place} has {labels}; expected labels 0 to {len(CLASSES) - 1}"
            )
        if (wrong := np.flatnonzero(above != _SUPERCLASS[of])).size:
            row = wrong[0]
            raise UserError(
                f"{files.root}: picture {row} of {place} is of class {of[row]} ({CLASSES[of[row]]}) "
                f"and of superclass {above[row]}; expected superclass {_SUPERCLASS[of[row]]}, as in "
                "CIFAR-100"
            )
        found.append((pictures, of))
    pictures, of = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    counts = np.bincount(of, minlength=len(CLASSES))
    if not counts.all():
        raise UserError(f"{files.root} has no picture of {CLASSES[counts.argmin()]}; {LAYOUT}")
    order = np.argsort(of, kind="stable")
    return ImageClasses(
        pictures=resized(torch.from_numpy(pictures[order]), image_size),
        counts=torch.from_numpy(counts),
        names=CLASSES,
    )


def _of_pickle(files: Files, name: str) -> _Part:
    content = unpickled(files, name)
    try:
        pictures = content["data"]
        of, above = (whole_numbers(content[key]) for key in ("fine_labels", "coarse_labels"))
        shape = (len(of), 3 * _SIDE * _SIDE)
        if pictures.dtype != np.uint8 or pictures.shape != shape or len(above) != len(of):
            raise ValueError
        return pictures.reshape(-1, 3, _SIDE, _SIDE), of, above
    except (TypeError, LookupError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{files.root}: {name} holds {in_short(content)}; expected data, bytes [M, 3072], "
            "and M fine_labels and coarse_labels, as in cifar-100-python.tar.gz"
        ) from error


def _of_binary(files: Files, name: str) -> _Part:
    content = np.frombuffer(read(files, name), np.uint8)
    row = 2 + 3 * _SIDE * _SIDE
    if len(content) % row:
        raise UserError(
            f"{files.root}: {name} has {len(content)} bytes; expected a multiple of {row}, as in "
            "cifar-100-binary.tar.gz: a part is missing"
        )
    rows = content.reshape(-1, row)
    of, above = rows[:, 1].astype(int), rows[:, 0].astype(int)
    return rows[:, 2:].reshape(-1, 3, _SIDE, _SIDE), of, above
