"""Loaders of picture files, on small generated data of the layout they expect."""

import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.few_shot import packed, write_picture

from metarl.errors import UserError
from metarl.fewshot import picture_files
from metarl.fewshot.folder import folder
from metarl.fewshot.mini_imagenet import mini_imagenet
from metarl.fewshot.types import TaskSize


@pytest.fixture
def mini(tmp_path):
    """Two classes a split with three pictures each."""
    root, value = tmp_path / "mini", 0
    for name in ("train", "val", "test"):
        lines = ["filename,label"]
        for k in range(2):
            for i in range(3):
                file = f"n{name}{k}0{i}.jpg"
                write_picture(root / "images" / file, value)
                lines.append(f"{file},n{name}{k}")
            value += 40
        (root / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz"])
def test_mini_imagenet_has_the_classes_of_its_lists(mini, kind):
    source = mini_imagenet(root=packed(mini, kind), image_size=8)
    assert source.spec.input_shape == (3, 8, 8)
    for index, (split, name) in enumerate(
        {"train": "train", "validation": "val", "test": "test"}.items()
    ):
        classes = source.classes(split)
        assert classes.names == (f"n{name}0", f"n{name}1") and classes.counts.tolist() == [3, 3]
        # JPEG keeps a constant colour to a few units.
        red = classes.pictures[:, 0].float().mean((1, 2))
        torch.testing.assert_close(
            red, torch.tensor([80.0 * index] * 3 + [80.0 * index + 40] * 3), rtol=0, atol=4
        )


def test_mini_imagenet_without_data_says_where_to_get_it_and_what_is_expected():
    with pytest.raises(
        UserError, match=r"(?s)image-net\.org.*train\.csv|train\.csv.*image-net\.org"
    ):
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
            write_picture(root / f"class{k}" / f"{i}.png", 30 * k)
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
            assert pictures[:, 0].unique().tolist() == [30 * k] and pictures[
                :, 2
            ].unique().tolist() == [7]


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_split_in_the_folders_is_kept(tmp_path, kind):
    tmp_path = tmp_path / "own"
    for split, classes in {"train": ("a", "b"), "test": ("c", "d")}.items():
        for name in classes:
            write_picture(tmp_path / split / name / "0.png", 9)
    source = folder(root=packed(tmp_path, kind), grey=True, image_size=4)
    assert source.classes("train").names == ("a", "b") and source.classes("test").names == (
        "c",
        "d",
    )
    assert source.spec.input_shape == (1, 4, 4)
    for split in ("validation", "test"):
        write_picture(tmp_path / split / "e" / "0.png", 9)
    with pytest.raises(
        UserError, match="class e is in validation and in test; a class may be in one split only"
    ):
        folder(root=tmp_path, grey=True, image_size=4)
    write_picture(tmp_path / "test" / "a" / "0.png", 9)
    with pytest.raises(
        UserError, match="class a is in train and in test; a class may be in one split only"
    ):
        folder(root=tmp_path)


def test_a_class_with_too_few_pictures_is_named(own):
    source = folder(root=own, image_size=5)
    with pytest.raises(
        ValueError, match=r"need 40 pictures of a class: class\d of folder has only \d"
    ):
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
    with pytest.raises(UserError, match=r"broken\.zip is damaged, or no archive") as caught:
        folder(root=broken)
    assert "\n" not in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has 0 folders with pictures"):
        folder(root=tmp_path / "empty")
    for k in range(4):
        (tmp_path / "empty" / f"class{k}").mkdir()
        (tmp_path / "empty" / f"class{k}" / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(
        UserError,
        match=r"has 0 folders.*; files left out: 4 of no kind that Pillow reads \(class0/photo",
    ):
        folder(root=tmp_path / "empty")
    with pytest.raises(ValueError, match="test_share=1"):
        folder(root=own, test_share=1.0)


@pytest.mark.parametrize("seed", [0, 1])
def test_classes_are_drawn_for_validation_where_it_is_asked_for(own, seed):
    of = {"root": own, "image_size": 1, "test_share": 0.34, "split_seed": seed}
    without, source = folder(**of), folder(**of, validation_share=0.1)
    assert source.spec.splits == ("train", "validation", "test")
    assert source.classes("test").names == without.classes("test").names
    train, validation = (set(source.classes(s).names) for s in ("train", "validation"))
    assert not train & validation and len(validation) == 2
    assert train | validation == set(without.classes("train").names)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_for_validation_is_none_or_a_part(own, share):
    with pytest.raises(
        ValueError, match=f"validation_share={share}: expected 0, for none, or a num"
    ):
        folder(root=own, validation_share=share)


def test_validation_leaves_classes_for_training(own):
    told = "has 6 classes, 2 of which are for test; 3 for validation would leave 1 for training"
    with pytest.raises(UserError, match=rf"validation_share=0\.5: .*{told}"):
        folder(root=own, validation_share=0.5)


def counts_of(source) -> dict[str, int]:
    """Of each class how many pictures it has."""
    splits = [source.classes(split) for split in source.spec.splits]
    return {
        name: count
        for one in splits
        for name, count in zip(one.names, one.counts.tolist(), strict=True)
    }


def omniglot_like(root: Path) -> dict[str, int]:
    """3 alphabets with 4 characters of the same names; class -> its shade of red."""
    shades = {f"alphabet{a}/character{c}": 60 * a + 10 * c for a in range(3) for c in range(4)}
    for name, shade in shades.items():
        for i in range(2):
            write_picture(root / name / f"{i}.png", shade)
    return shades


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_characters_of_equal_names_in_several_alphabets_are_several_classes(tmp_path, kind):
    shades = omniglot_like(tmp_path / "own")
    source = folder(root=packed(tmp_path / "own", kind), image_size=3, test_share=0.25)
    assert [len(source.classes(split).names) for split in ("train", "test")] == [9, 3]
    for split in ("train", "test"):
        classes = source.classes(split)
        assert classes.counts.tolist() == [2] * len(classes.names)
        assert classes.pictures[::2, 0, 0, 0].tolist() == [shades[name] for name in classes.names]


def test_classes_of_different_names_have_no_path(tmp_path):
    for name in ("a/x", "a/y", "b/z", "b/w"):
        write_picture(tmp_path / "own" / name / "0.png", 1)
    source = folder(root=tmp_path / "own")
    assert sorted(source.classes("train").names + source.classes("test").names) == [
        "w",
        "x",
        "y",
        "z",
    ]


@pytest.mark.parametrize(
    ("called", "splits"),
    [
        (("train", "val"), ("train", "validation")),
        (("Train", "Test"), ("train", "test")),
        (("TRAINING", "testing", "Valid"), ("train", "validation", "test")),
        (("data/train", "data/test"), ("train", "test")),
    ],
)
def test_a_split_is_kept_whatever_its_folders_are_called(tmp_path, called, splits):
    root = tmp_path / "own"
    for split in called:
        for alphabet in ("x", "y"):
            write_picture(root / split / f"{alphabet}_{split[-4:]}" / "same" / "0.png", 9)
    source = folder(root=root)
    assert source.spec.splits == splits
    name = lambda split: (f"x_{split[-4:]}/same", f"y_{split[-4:]}/same")
    assert {source.classes(split).names for split in splits} == {name(split) for split in called}


def test_what_lies_beside_a_split_is_told_and_half_a_split_refused(tmp_path, capsys):
    root = tmp_path / "own"
    for name in ("train/a", "train/b", "more/c", "more/d"):
        write_picture(root / name / "0.png", 9)
    with pytest.raises(
        UserError, match=r"has a folder for train, beside more/c/0\.png; expected train/<class>"
    ):
        folder(root=root)
    write_picture(root / "val" / "e" / "0.png", 9)
    assert folder(root=root).spec.splits == ("train", "validation")
    assert (
        "files left out: 2 outside of train, validation (more/c/0.png, ...)"
        in capsys.readouterr().err
    )
    shutil.rmtree(root / "train")
    write_picture(root / "test" / "f" / "0.png", 9)
    with pytest.raises(UserError, match="has a folder for validation and test"):
        folder(root=root)


def test_one_folder_around_everything_is_no_split(tmp_path):
    for name in "abcd":
        write_picture(tmp_path / "own" / "train" / name / "0.png", 9)
    source = folder(root=tmp_path / "own")
    assert sorted(source.classes("train").names + source.classes("test").names) == list("abcd")


def test_a_split_within_the_classes_is_refused(tmp_path):
    for name in "abcd":
        for split in ("train", "test"):
            write_picture(tmp_path / "own" / name / split / "0.png", 9)
    with pytest.raises(
        UserError,
        match="the folders test and train split the pictures of a class; expected them around",
    ):
        folder(root=tmp_path / "own")


def hide_things_in(own: Path) -> None:
    write_picture(own / ".ipynb_checkpoints" / "0.png", 1)
    write_picture(own / "class1" / ".ipynb_checkpoints" / "0.png", 1)
    write_picture(own / "__MACOSX" / "class1" / "0.png", 1)
    (own / "class2" / "._0.png").write_bytes(b"a Mac's notes")
    (own / ".DS_Store").write_bytes(b"a Mac's notes")


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_hidden_files_are_no_pictures_and_are_counted_once(own, kind, capsys):
    plain = folder(root=own, image_size=5)
    hide_things_in(own)
    capsys.readouterr()
    root = packed(own, kind)
    for _ in range(2):
        source = folder(root=root, image_size=5)
    assert source.spec.definition == plain.spec.definition
    told = capsys.readouterr().err
    assert told.count("5 hidden (") == 1 and "1 of no kind that Pillow reads (" in told


def test_pictures_are_found_by_suffix_or_content_and_the_rest_is_counted(own, capsys):
    write_picture(own / "class0" / "9.tif", 7)
    write_picture(own / "class0" / "8.PPM", 7)
    write_picture(own / "class0" / "6.png", 7)
    (own / "class0" / "6.png").rename(own / "class0" / "scan")
    (own / "class0" / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic")
    write_picture(own / "cover.png", 7)
    source = folder(root=own, image_size=5)
    assert counts_of(source) == {"class0": 5, **{f"class{k}": 2 + k for k in range(1, 6)}}
    told = capsys.readouterr().err
    assert "files left out: 2 of no kind that Pillow reads (class0/photo.heic, ...)" in told
    assert "1 outside of a class's folder (cover.png)" in told


def test_links_are_followed_but_not_in_circles(own, tmp_path):
    (own / "class5").rename(tmp_path / "elsewhere")
    (own / "class5").symlink_to(tmp_path / "elsewhere")
    (own / "class0" / "linked.png").symlink_to(own / "class1" / "0.png")
    (own / "class1" / "up").symlink_to(own)
    (own / "class2" / "nowhere").symlink_to(tmp_path / "nothing")
    source = folder(root=own, image_size=5)
    assert counts_of(source) == {"class0": 3, **{f"class{k}": 2 + k for k in range(1, 6)}}


def test_a_folder_that_cannot_be_read_is_named(own, monkeypatch):
    listed = Path.iterdir

    def iterdir(path):
        if path.name == "class3":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(
        Path, "iterdir", iterdir
    )  # Whoever runs the tests may be allowed everything.
    with pytest.raises(UserError, match=r"own/class3 can't be read: Permission denied"):
        folder(root=own)


def test_links_to_files_in_a_tar_are_followed(own):
    (own / "class0" / "linked.png").symlink_to("0.png")
    (own / "class0" / "hard.png").hardlink_to(own / "class0" / "1.png")
    source = folder(root=packed(own, "tar"), image_size=5)
    split = next(split for split in ("train", "test") if "class0" in source.classes(split).names)
    classes = source.classes(split)
    assert classes.counts[classes.names.index("class0")] == 4


def test_black_ink_on_transparent_is_read_and_pictures_that_show_nothing_are_told(tmp_path, capsys):
    ink = np.zeros((6, 6), dtype=bool)
    for k in range(5):
        ink[k, k:] = True
        for mode, shade in (("LA", 0), ("RGBA", 0), ("white", 255)):
            image = Image.merge(
                "LA", (Image.new("L", (6, 6), shade), Image.fromarray(ink).convert("L"))
            )
            path = tmp_path / "own" / f"{mode}{k}" / "0.png"
            path.parent.mkdir(parents=True)
            image.convert("RGBA" if mode == "RGBA" else "LA").save(path)
    source = folder(root=tmp_path / "own", image_size=6, grey=True)
    pictures = {
        n: source.classes(s).pictures[i, 0]
        for s in ("train", "test")
        for i, n in enumerate(source.classes(s).names)
    }
    ink[:] = False
    for k in range(5):
        ink[k, k:] = True
        for mode in ("LA", "RGBA"):
            assert np.array_equal(pictures[f"{mode}{k}"].numpy(), np.where(ink, 0, 255))
    assert "pictures of one shade throughout: 5 (" in capsys.readouterr().err


def test_further_frames_are_told(own, capsys):
    frames = [Image.new("L", (4, 4), shade) for shade in (1, 200)]
    frames[0].save(own / "class3" / "moving.gif", save_all=True, append_images=frames[1:])
    folder(root=own, image_size=5)
    assert "the later frames of 1 (class3/moving.gif)" in capsys.readouterr().err


def changed(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def test_an_archive_with_a_password_or_of_another_method_names_the_file(own):
    path = packed(own, "zip")
    with zipfile.ZipFile(path) as archive:
        first = next(entry for entry in archive.infolist() if entry.filename.endswith(".png"))
    content, name = bytearray(path.read_bytes()), first.filename.encode()
    entry = content.rindex(name) - 46  # in the directory at the end; flags at 8, method at 10
    for offset, value, message in (
        (8, 1, "is encrypted; expected"),
        (10, 93, "is packed by method 93"),
    ):
        other = bytearray(content)
        other[entry + offset] = value
        path.write_bytes(other)
        with pytest.raises(UserError, match=rf"data\.zip: {first.filename} {message}") as caught:
            folder(root=path)
        assert "\n" not in str(caught.value)
    content[entry + 6] = 90  # the version of the format that is needed to unpack it, 9.0
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"data\.zip is of a newer kind than Python can unpack: .*9\.0"
    ):
        folder(root=path)


def test_a_damaged_file_in_an_archive_is_named(own):
    path = packed(own, "zip")
    changed(path, b"IDAT", b"IDAX")
    with pytest.raises(
        UserError, match=r"data\.zip: data/class0/\d\.png can't be read: Bad CRC-32"
    ):
        folder(root=path)


def test_folders_of_an_archive_may_be_written_with_backslashes(own):
    path = own.parent / "windows.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in own.rglob("*.png"):
            entry = zipfile.ZipInfo("x")
            entry.filename = str(file.relative_to(own)).replace("/", "\\")
            archive.writestr(entry, file.read_bytes())
    assert folder(root=path).spec.definition == folder(root=own).spec.definition


def test_mini_imagenet_does_not_look_at_hidden_copies(mini):
    (mini / ".old").mkdir()
    for file in ("val.csv", "images/nval001.jpg"):
        shutil.copy(mini / file, mini / ".old")
    assert mini_imagenet(root=mini, image_size=8).classes("validation").names == ("nval0", "nval1")
    shutil.copy(mini / "val.csv", mini / "images")
    with pytest.raises(
        UserError, match=r"val\.csv is there twice, as images/val\.csv and val\.csv"
    ):
        mini_imagenet(root=mini, image_size=8)


def test_mini_imagenet_names_a_list_that_cannot_be_read(mini):
    text = (mini / "val.csv").read_text()
    (mini / "val.csv").write_text(text, encoding="utf-8-sig")  # as Excel writes it
    mini_imagenet(root=mini, image_size=8)
    (mini / "val.csv").write_text(text + "only.jpg\n")
    with pytest.raises(UserError, match=r"line 8 of val\.csv has no label"):
        mini_imagenet(root=mini, image_size=8)
    (mini / "val.csv").write_text(text + "é.jpg,nval0\n", encoding="latin-1")
    with pytest.raises(
        UserError, match=r"val\.csv isn't a list of comma-separated values in UTF-8"
    ):
        mini_imagenet(root=mini, image_size=8)


def test_mini_imagenet_refuses_a_picture_that_is_listed_twice(mini):
    """It could be asked for among the pictures that it was shown with."""
    with (mini / "test.csv").open("a") as file:
        file.write("ntest000.jpg,ntest0\n")
    with pytest.raises(UserError, match=r"ntest000\.jpg is in lines 2 and \d+ of .*test\.csv"):
        mini_imagenet(root=mini, image_size=8)


def test_mini_imagenet_refuses_a_picture_in_two_splits(mini):
    with (mini / "test.csv").open("a") as file:
        file.write("ntrain000.jpg,another\n")
    with pytest.raises(UserError, match=r"ntrain000\.jpg is in the lists of train and test"):
        mini_imagenet(root=mini, image_size=8)


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_files, "_LARGEST", 2**20)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/large.png").write_bytes(b"x" * (2**20 + 1))
    with (
        picture_files.opened(tmp_path) as files,
        pytest.raises(UserError, match=r"a/large.png has more than 1 MiB"),
    ):
        picture_files.read(files, "a/large.png")


@pytest.fixture
def cached(tmp_path):
    """Mini-ImageNet as Ren et al. distribute it: two classes a split with three pictures each."""
    root = tmp_path / "cached"
    root.mkdir()
    for index, name in enumerate(("train", "val", "test")):
        pictures = np.zeros((6, 8, 8, 3), np.uint8)
        pictures[..., 0] = (10 * index + np.arange(6))[:, None, None]
        pictures[..., 2] = 200
        rows = {f"n{name}0": [1, 3, 5], f"n{name}1": [0, 2, 4]}
        content = {"image_data": pictures, "class_dict": rows}
        (root / f"mini-imagenet-cache-{name}.pkl").write_bytes(pickle.dumps(content, 2))
    return root


def test_mini_imagenet_reads_the_pickles_that_it_is_often_shared_as(cached, mini):
    source = mini_imagenet(root=cached, image_size=8)
    for index, (split, name) in enumerate(
        {"train": "train", "validation": "val", "test": "test"}.items()
    ):
        classes = source.classes(split)
        assert classes.names == (f"n{name}0", f"n{name}1") and classes.counts.tolist() == [3, 3]
        red = [10 * index + k for k in (1, 3, 5, 0, 2, 4)]
        assert classes.pictures[:, 0, 0, 0].tolist() == red
        assert (classes.pictures[:, 2] == 200).all()
    # Other pictures, to the pixel: other numbers.
    assert source.spec.spec_hash != mini_imagenet(root=mini, image_size=8).spec.spec_hash
    assert mini_imagenet(root=cached, image_size=4).spec.input_shape == (3, 4, 4)


def test_mini_imagenet_takes_the_lists_where_both_are_there(cached, mini):
    by_lists = mini_imagenet(root=mini, image_size=8).spec.spec_hash
    shutil.copytree(cached, mini, dirs_exist_ok=True)
    assert mini_imagenet(root=mini, image_size=8).spec.spec_hash == by_lists
    (mini / "val.csv").unlink()
    assert mini_imagenet(root=mini, image_size=8).spec.spec_hash != by_lists


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("class_dict"), "holds a dict of image_data; expected image_data, bytes"),
        (lambda c: c["class_dict"].update(ntest0=[float("inf")]), "expected image_data, bytes"),
        (lambda c: c["class_dict"].update(ntest0=[9]), "test.pkl has rows 0 to 9; expected 0 to 5"),
        (lambda c: c["class_dict"].update(ntest0=[1, -5]), "has rows -5 to 4; expected 0 to 5"),
        (lambda c: c.update(class_dict={}), "expected image_data, bytes"),
        (lambda c: c.update(image_data=c["image_data"][:, :0]), "expected image_data, bytes"),
        (lambda c: c.update(image_data=c["image_data"][..., :1]), "expected image_data, bytes"),
        (lambda c: c["class_dict"].update(ntest0=[1, 1]), r"cache-test\.pkl has a row twice"),
        (
            lambda c: c.update(class_dict={"nval0": [1]}),
            "class nval0 is in the lists of validation",
        ),
    ],
)
def test_mini_imagenet_names_a_pickle_that_does_not_fit(cached, change, said):
    path = cached / "mini-imagenet-cache-test.pkl"
    content = pickle.loads(path.read_bytes())
    change(content)
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=said):
        mini_imagenet(root=cached, image_size=8)
