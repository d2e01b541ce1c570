"""Handwritten digits, 8×8, small enough to come with the code: few-shot learning in seconds,
without a download.

The data are the test part of Alpaydin & Kaynak's "Optical Recognition of Handwritten Digits" (1998;
UCI Machine Learning Repository, doi:10.24432/C50P49, CC BY 4.0), the same 1797 pictures that
scikit-learn has.
"""

from pathlib import Path

import numpy as np
import torch

from metarl.fewshot.images import ImageClasses, ImageTasks
from metarl.fewshot.types import Split

_FILE = Path(__file__).parent / "assets" / "digits.npz"
_TRAIN, _TEST = range(5), range(5, 10)


def digits(*, rotations: bool = True) -> ImageTasks:
    """Trained on 0–4, tested on 5–9.

    Args: rotations: the training digits turned by 90°, 180° and 270° are classes of their own, 20
    in all instead of 5.
    """
    with np.load(_FILE) as data:
        images, labels = torch.from_numpy(data["images"]), torch.from_numpy(data["labels"])
    everything = ImageClasses(
        pictures=(images.float() * (255 / 16))
        .round()
        .to(torch.uint8)
        .unsqueeze(1),  # Stored as 0..16.
        counts=torch.bincount(labels.long()),
        names=tuple(map(str, range(10))),
    )
    train = everything.choose(_TRAIN)
    splits: dict[Split, ImageClasses] = {
        "train": train.with_rotations() if rotations else train,
        "test": everything.choose(_TEST),
    }
    return ImageTasks("digits", splits, definition={"rotations": rotations})
