"""Loaders of picture files, on small generated data of the layout they expect."""

import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metarl.errors import UserError
from metarl.fewshot.folder import folder
from metarl.fewshot.mini_imagenet import mini_imagenet
from metarl.fewshot.types import TaskSize


def picture(path: Path, value: int, size=(6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), (value, 255 - value, 7), dtype=np.uint8)).save(path)


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


@pytest.fixture
def mini(tmp_path):
    """Two classes a split with three pictures each."""
    root, value = tmp_path / "mini", 0
    for name in ("train", "val", "test"):
        lines = ["filename,label"]
        for k in range(2):
            for i in range(3):
                file = f"n{name}{k}0{i}.jpg"
                picture(root / "images" / file, value)
                lines.append(f"{file},n{name}{k}")
            value += 40
        (root / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz"])
def test_mini_imagenet_has_the_classes_of_its_lists(mini, kind):
    source = mini_imagenet(root=packed(mini, kind), image_size=8)
    assert source.spec.input_shape == (3, 8, 8)
    for index, (split, name) in enumerate({"train": "train", "validation": "val", "test": "test"}.items()):
        classes = source.classes(split)
        assert classes.names == (f"n{name}0", f"n{name}1") and classes.counts.tolist() == [3, 3]
        # JPEG keeps a constant colour to a few units.
        red = classes.pictures[:, 0].float().mean((1, 2))
        torch.testing.assert_close(red, torch.tensor([80.0 * index] * 3 + [80.0 * index + 40] * 3), rtol=0, atol=4)


def test_mini_imagenet_without_data_says_where_to_get_it_and_what_is_expected():
    with pytest.raises(UserError, match=r"(?s)image-net\.org.*train\.csv|train\.csv.*image-net\.org"):
        mini_imagenet(root=None)


def test_mini_imagenet_names_what_is_missing(mini):
    (mini / "images" / "nval001.jpg").unlink()
    with pytest.raises(UserError, match=r"lacks 1 pictures of its lists, nval001\.jpg first"):
        mini_imagenet(root=mini, image_size=8)
    (mini / "val.csv").unlink()
    with pytest.raises(UserError, match=r"has no val\.csv"):
        mini_imagenet(root=mini, image_size=8)


def test_mini_imagenet_refuses_two_pictures_of_one_name(mini):
    (mini / "other").mkdir()
    shutil.copy(mini / "images" / "nval001.jpg", mini / "other")
    with pytest.raises(UserError, match=r"nval001\.jpg is there twice"):
        mini_imagenet(root=mini, image_size=8)


def test_mini_imagenet_refuses_a_class_in_two_splits(mini):
    with (mini / "test.csv").open("a") as file:
        file.write("ntrain000.jpg,ntrain0\n")
    with pytest.raises(UserError, match="class ntrain0 is in the lists of train and test"):
        mini_imagenet(root=mini, image_size=8)


@pytest.fixture
def own(tmp_path):
    root = tmp_path / "own"
    for k in range(6):
        for i in range(2 + k):
            picture(root / f"class{k}" / f"{i}.png", 30 * k)
    (root / "notes.txt").write_text("not a picture")
    return root


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz"])
def test_folders_of_ones_own_are_classes_and_are_split_without_overlap(own, kind):
    source = folder(root=packed(own, kind), image_size=5, test_share=0.34)
    train, test = source.classes("train"), source.classes("test")
    assert (len(train.names), len(test.names)) == (4, 2) and not set(train.names) & set(test.names)
    for classes in (train, test):
        rows = classes.pictures.split(classes.counts.tolist())
        for name, pictures in zip(classes.names, rows, strict=True):
            k = int(name[-1])
            assert pictures.shape == (2 + k, 3, 5, 5)
            assert pictures[:, 0].unique().tolist() == [30 * k] and pictures[:, 2].unique().tolist() == [7]


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_split_in_the_folders_is_kept(tmp_path, kind):
    tmp_path = tmp_path / "own"
    for split, classes in {"train": ("a", "b"), "test": ("c", "d")}.items():
        for name in classes:
            picture(tmp_path / split / name / "0.png", 9)
    source = folder(root=packed(tmp_path, kind), grey=True, image_size=4)
    assert source.classes("train").names == ("a", "b") and source.classes("test").names == ("c", "d")
    assert source.spec.input_shape == (1, 4, 4)
    for split in ("validation", "test"):
        picture(tmp_path / split / "e" / "0.png", 9)
    with pytest.raises(UserError, match="class e is in validation and in test; a class may be in one split only"):
        folder(root=tmp_path, grey=True, image_size=4)
    picture(tmp_path / "test" / "a" / "0.png", 9)
    with pytest.raises(UserError, match="class a is in train and in test; a class may be in one split only"):
        folder(root=tmp_path)


def test_a_class_with_too_few_pictures_is_named(own):
    source = folder(root=own, image_size=5)
    with pytest.raises(ValueError, match=r"need 40 pictures of a class: class\d of folder has only \d"):
        source.sample(1, TaskSize(ways=2, shots=20, queries=20), torch.Generator())


def test_a_compressed_archive_whose_checksum_does_not_fit_is_refused(own):
    path = packed(own, "tar.gz")
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # Its last 8 bytes are the checksum and the size of what was compressed.
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"data\.tar\.gz is damaged.*CRC"):
        folder(root=path)


def test_an_archive_cut_between_two_files_is_refused(own):
    path = packed(own, "tar")
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset])
    with pytest.raises(UserError, match=r"data\.tar is damaged.*a part is missing"):
        folder(root=path)


def test_bad_input_is_named(own, tmp_path):
    (own / "class1" / "0.png").write_bytes(b"\x89PNG but no more")
    with pytest.raises(UserError, match=r"class1/0\.png can't be read as a picture"):
        folder(root=own)
    with pytest.raises(UserError, match="no such folder or archive"):
        folder(root=tmp_path / "nowhere")
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04 half a download")
    with pytest.raises(UserError, match=r"broken\.zip is damaged, or no archive"):
        folder(root=broken)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has 0 folders with pictures"):
        folder(root=tmp_path / "empty")
    with pytest.raises(ValueError, match="test_share=1"):
        folder(root=own, test_share=1.0)
