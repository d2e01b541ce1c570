"""tiered-ImageNet, on small generated data of the layout it comes in."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.few_shot import packed

from metarl.errors import SettingError, UserError
from metarl.fewshot.tiered_imagenet import tiered_imagenet

NAMES = {"train": ["n01", "n02", "n03"], "val": ["n04", "n05"], "test": ["n06", "n07"]}


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), (value, 0, 255 - value), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write(root: Path) -> Path:
    """Four pictures of each class, not in order; some as arrays, as OpenCV writes them."""
    root.mkdir()
    value = 0
    for split, names in NAMES.items():
        of = np.tile(np.arange(len(names)), 4)
        encoded: list[object] = []
        for k in of:
            array = np.frombuffer(png(value + int(k)), np.uint8)
            encoded.append((array, array[:, None], array.tobytes())[len(encoded) % 3])
        value += 10
        labels = {"label_specific": of, "label_specific_str": names, "label_general": of // 2}
        (root / f"{split}_images_png.pkl").write_bytes(pickle.dumps(encoded))
        (root / f"{split}_labels.pkl").write_bytes(pickle.dumps(labels))
    return root


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_each_class_has_its_pictures(tmp_path, kind):
    source = tiered_imagenet(root=packed(write(tmp_path / "tiered"), kind), image_size=8)
    assert source.spec.name == "tiered_imagenet" and source.spec.input_shape == (3, 8, 8)
    for index, (split, name) in enumerate(
        {"train": "train", "validation": "val", "test": "test"}.items()
    ):
        classes = source.classes(split)
        num = len(NAMES[name])
        assert classes.names == tuple(NAMES[name]) and classes.counts.tolist() == [4] * num
        red = classes.pictures[:, 0, 0, 0].tolist()
        assert red == [10 * index + k for k in range(num) for _ in range(4)]
        assert classes.pictures[:, 2, 0, 0].tolist() == [255 - value for value in red]


def test_without_data_it_says_where_to_get_them(tmp_path):
    with pytest.raises(UserError, match="few-shot-ssl-public"):
        tiered_imagenet(root=None)
    with pytest.raises(UserError, match=r"has no train_images_png\.pkl"):
        tiered_imagenet(root=tmp_path)
    with pytest.raises(SettingError, match="image_size=0"):
        tiered_imagenet(root=tmp_path, image_size=0)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("val_labels", [1, 2], "holds a list of 2; expected label_specific"),
        (
            "val_labels",
            {"label_specific": np.array([0, 2] * 4), "label_specific_str": ["n04", "n05"]},
            "holds a dict of label_specific, label_specific_str; expected",
        ),
        ("val_labels", np.arange(8), r"holds an array \[8\] of int64; expected label_specific"),
        (
            "val_labels",
            {"label_specific": [10**30], "label_specific_str": ["n04"]},
            "holds a dict of label_specific, label_specific_str; expected",
        ),
        (
            "val_labels",
            {"label_specific": [0, 1] * 4, "label_specific_str": [["n04"], "n05"]},
            "holds a dict of label_specific, label_specific_str; expected",
        ),
        ("val_images_png", [png(1)], "holds a list of 1; expected a list of 8 pictures"),
        ("val_images_png", [png(1)] * 7 + [b"no"], "entry 7 of val_images_png.pkl can't be read"),
        ("val_images_png", [png(1)] * 7 + [None], "entry 7 of val_images_png.pkl can't be read"),
        (
            "val_images_png",
            [png(1)] * 7 + [[300, 2]],
            "entry 7 of .* can't be read as a picture: a list of 2; expected bytes",
        ),
        (
            "test_labels",
            {"label_specific": np.array([0, 1] * 4), "label_specific_str": ["n01", "n07"]},
            "class n01 is in the lists of train and test",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, name, content, said):
    root = write(tmp_path / "tiered")
    (root / f"{name}.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=said):
        tiered_imagenet(root=root, image_size=8)
