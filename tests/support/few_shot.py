"""What tests of few-shot learners share: the learners by name, small feature networks, pictures on
the disk."""

import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from metarl.nn.conv import Conv4
from metarl.nn.features import PerceptronFeatures

LEARNERS = (
    *("maml", "fomaml", "anil", "meta_sgd", "reptile", "protonet", "matching", "mann", "lstm"),
    *("imaml", "meta_lstm", "cnp", "maml_memory", "pretrain"),
    *("nearest_neighbour", "nearest_embedding"),
)

PICTURE = (1, 16, 16)

BACKBONES = {
    "conv4": lambda g: Conv4(PICTURE, filters=2, strided=False, generator=g),
    "conv4 strided": lambda g: Conv4(
        PICTURE, filters=2, strided=True, mean_pooled=True, generator=g
    ),
    "mlp with batch norm": lambda g: PerceptronFeatures(
        PICTURE, sizes=[5, 4], batch_norm=True, generator=g
    ),
    "mlp": lambda g: PerceptronFeatures(PICTURE, sizes=[5, 4], batch_norm=False, generator=g),
}
"""A generator -> a network for pictures [1, 16, 16], by name."""


def write_picture(path: Path, value: int, size: tuple[int, int] = (6, 4)) -> None:
    """A picture of one colour, by default 6 pixels wide and 4 high; red is `value`, blue is 7."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (value, 255 - value, 7)
    Image.fromarray(np.full((size[1], size[0], 3), colour, dtype=np.uint8)).save(path)


def packed(root: Path, kind: str) -> Path:
    """The folder as it is, or as an archive of it."""
    if kind == "folder":
        return root
    path = root.parent / f"data.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in root.rglob("*"):
                archive.write(file, f"data/{file.relative_to(root)}")
    else:
        with tarfile.open(path, "w" if kind == "tar" else "w:gz") as archive:
            archive.add(root, "data")
    return path
