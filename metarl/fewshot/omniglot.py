"""Omniglot: 1623 handwritten characters by 20 drawers each (Lake et al. 2015,
doi:10.1126/science.aab3050, MIT licence).

Found as one compact file, omniglot.npz: all pictures as packed bits with their characters' names.
Where there is none, it is made once from the two archives of the authors' repository, which are
downloaded if need be (omniglot_archives.py).
"""

import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from metarl.choices import expected
from metarl.errors import SettingError, UserError
from metarl.fewshot.images import ImageClasses, ImageTasks, check_image_size, resized
from metarl.fewshot.omniglot_archives import DRAWERS, FILE_NAME, SIDE, cache_folder, converted
from metarl.fewshot.types import Split

NUM_TRAIN = 1200  # characters of the `vinyals` split's training part; the other 423 are for test

CharacterSplit = Literal["vinyals", "background"]
_PARTS = ("background", "evaluation")


def omniglot(
    *,
    split: CharacterSplit = "vinyals",
    image_size: int = 28,
    rotations: bool = True,
    test_rotations: bool = False,
    num_validation: int = 0,
    data_dir: str | Path | None = None,
) -> ImageTasks:
    """Training and test tasks of characters, ink 1 on paper 0; validation tasks where they are
    asked for.

    Args:
      split: `vinyals`: 1200 characters drawn from all for training, the other 423 for test, as in
        Vinyals et al. 2016 (arXiv:1606.04080); which ones they drew isn't known, ours are fixed.
        `background`: the authors' own 964 and 659, which share no alphabet.
      rotations: the training characters turned by 90°, 180° and 270° are classes of their own.
      test_rotations: so are the test characters, as in the lists of classes that Snell et al. 2017
        (arXiv:1703.05175) published with their split, and those for validation.
      num_validation: so many of the training characters are for validation instead, so that a
        choice between states or settings needs no test characters; 172 in the lists of Snell et al.
      data_dir: a folder with omniglot.npz or the authors' archives; None: the cache, filled by a
        download if empty.
    Raises: ValueError for an unknown split, a size below 1 or more validation characters than there
    are for training; UserError if the data can't be had or are damaged.
    """
    if split not in get_args(CharacterSplit):
        raise SettingError(f"dataset.split={split}: {expected(split, get_args(CharacterSplit))}")
    check_image_size(image_size)
    characters = _characters(locate(data_dir), image_size)
    train, test = _split(characters, split)
    num_train = len(train.names)
    if not 0 <= num_validation < num_train:
        raise SettingError(
            f"dataset.num_validation={num_validation}: expected 0 to {num_train - 1}, for the "
            f"{split} split has {num_train} characters for training"
        )
    definition: dict[str, Any] = {
        "split": split,
        "image_size": image_size,
        "rotations": rotations,
    }
    if test_rotations:  # Else unsaid, as in the definitions of before there was such a setting.
        definition["test_rotations"] = True
    parts: dict[Split, ImageClasses] = {"train": train, "test": test}
    if num_validation:
        definition["num_validation"] = num_validation
        order = torch.randperm(num_train, generator=torch.Generator().manual_seed(0))
        validation, train = (
            train.choose(order[:num_validation]),
            train.choose(order[num_validation:]),
        )
        parts = {"train": train, "validation": validation, "test": test}
    turned = {part: rotations if part == "train" else test_rotations for part in parts}
    splits = {part: c.with_rotations() if turned[part] else c for part, c in parts.items()}
    return ImageTasks("omniglot", splits, definition=definition)


def locate(data_dir: str | Path | None) -> Path:
    """Finds the compact file, in `data_dir` or in the cache; makes it from the archives where it
    isn't there yet."""
    if data_dir is None:
        folder = cache_folder()
        return folder / FILE_NAME if (folder / FILE_NAME).exists() else converted(folder)
    folder = Path(data_dir).expanduser()
    if folder.is_file():
        return folder
    if (folder / FILE_NAME).exists():
        return folder / FILE_NAME
    return converted(folder, download=False)


def _split(
    characters: Mapping[str, ImageClasses], split: CharacterSplit
) -> tuple[ImageClasses, ImageClasses]:
    background, evaluation = (characters[part] for part in _PARTS)
    if split == "background":
        return background, evaluation
    everything = ImageClasses(
        pictures=torch.cat([background.pictures, evaluation.pictures]),
        counts=torch.cat([background.counts, evaluation.counts]),
        names=background.names + evaluation.names,
    )
    order = torch.randperm(len(everything.names), generator=torch.Generator().manual_seed(0))
    return everything.choose(order[:NUM_TRAIN]), everything.choose(order[NUM_TRAIN:])


@lru_cache(maxsize=2)
def _characters(file: Path, image_size: int) -> dict[str, ImageClasses]:
    """The characters of both parts of the compact file. Cached: a sweep's runs need the same
    ones."""
    try:
        with np.load(file) as data:
            arrays = dict(data)
        return {part: _part(arrays, part, image_size) for part in _PARTS}
    except (
        OSError,
        KeyError,
        ValueError,
        EOFError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(
            f"can't read {file} ({error}): expected the arrays images_, alphabet_ and character_ "
            "of background and "
            "evaluation; delete it to have it made anew"
        ) from error


def _part(data: Mapping[str, np.ndarray], part: str, image_size: int) -> ImageClasses:
    bits = data[f"images_{part}"]
    pixels = np.unpackbits(bits, axis=1)[:, : SIDE * SIDE].reshape(-1, 1, SIDE, SIDE)
    names = [
        f"{a}/{c}" for a, c in zip(data[f"alphabet_{part}"], data[f"character_{part}"], strict=True)
    ]
    if len(pixels) != DRAWERS * len(names):
        raise ValueError(
            f"{len(pixels)} pictures of {len(names)} characters; expected {DRAWERS} of each"
        )
    return ImageClasses(
        pictures=resized(torch.from_numpy(pixels) * 255, image_size),
        counts=torch.full((len(names),), DRAWERS),
        names=tuple(names),
    )
