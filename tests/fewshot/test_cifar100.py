"""CIFAR-FS and FC100, on small generated data of the layouts they come in."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from support.few_shot import packed, write_picture

from metarl.errors import SettingError, UserError
from metarl.fewshot.cifar100 import CLASSES, SUPERCLASSES, cifar_fs, fc100
from metarl.fewshot.types import TaskSize

SIZES = {cifar_fs: (64, 16, 20), fc100: (60, 20, 20)}
SPLITS = ("train", "validation", "test")


def drawn(of: np.ndarray) -> np.ndarray:
    """[M, 3, 32, 32]: red tells the class, green the row, blue is brighter to the right."""
    pictures = np.zeros((len(of), 3, 32, 32), np.uint8)
    pictures[:, 0] = of[:, None, None]
    pictures[:, 1] = (np.arange(len(of)) // 100)[:, None, None]
    pictures[:, 2] = np.arange(32)
    return pictures


def above(of: np.ndarray) -> np.ndarray:
    names = list(SUPERCLASSES.values())
    return np.array([next(k for k, n in enumerate(names) if CLASSES[c] in n) for c in of])


PARTS = {"train": np.tile(np.arange(100)[::-1], 3), "test": np.arange(100)}


def write(root: Path, kind: str) -> Path:
    root.mkdir(exist_ok=True)
    for part, of in PARTS.items():
        if kind == "pickle":
            content = {
                "filenames": [f"{k}.png" for k in range(len(of))],
                "batch_label": "1 of 1",
                "fine_labels": of.tolist(),
                "coarse_labels": above(of).tolist(),
                "data": drawn(of).reshape(len(of), -1),
            }
            (root / part).write_bytes(pickle.dumps(content, 2))
            (root / "meta").write_bytes(pickle.dumps({"fine_label_names": list(CLASSES)}, 2))
        elif kind == "binary":
            labels = np.stack([above(of), of], 1).astype(np.uint8)
            rows = np.concatenate([labels, drawn(of).reshape(len(of), -1)], 1)
            (root / f"{part}.bin").write_bytes(rows.tobytes())
        else:
            for k, name in enumerate(CLASSES):
                for i in range(4):
                    write_picture(root / "data" / name / f"{i}.png", k, (32, 32))
            (root / "splits").mkdir(exist_ok=True)
            (root / "splits" / "train.txt").write_text("\n".join(CLASSES))
    return root


@pytest.mark.parametrize("make", SIZES)
@pytest.mark.parametrize("kind", ["pickle", "binary", "pictures"])
def test_each_class_has_its_pictures_and_is_in_one_split(tmp_path, make, kind):
    source = make(root=write(tmp_path / "cifar", kind))
    assert source.spec.input_shape == (3, 32, 32) and source.spec.name == make.__name__
    assert source.spec.splits == SPLITS
    names: list[str] = []
    for split, num in zip(SPLITS, SIZES[make], strict=True):
        classes = source.classes(split)
        assert len(classes.names) == num and classes.counts.tolist() == [4] * num
        names += classes.names
        red = classes.pictures[:, 0].flatten(1)
        expected = torch.tensor([CLASSES.index(n) for n in classes.names]).repeat_interleave(4)
        assert (red == expected[:, None]).all()
        if kind != "pictures":
            # What is for test in CIFAR-100 comes last; rows are from left to right.
            assert classes.pictures[:4, 1, 0, 0].tolist() == [0, 1, 2, 0]
            assert classes.pictures[0, 2, 5].tolist() == list(range(32))
    assert sorted(names) == list(CLASSES)


def test_classes_are_numbered_as_in_the_files():
    """Some that their authors list: apple is 0, and worm 99; fish is superclass 1."""
    assert [CLASSES[k] for k in (0, 1, 47, 52, 56, 58, 95, 99)] == [
        *("apple", "aquarium_fish", "maple_tree", "oak_tree", "palm_tree", "pickup_truck"),
        *("whale", "worm"),
    ]
    assert list(SUPERCLASSES) == sorted(SUPERCLASSES) and len(CLASSES) == len(set(CLASSES)) == 100
    assert all(len(names) == 5 and list(names) == sorted(names) for names in SUPERCLASSES.values())


def test_splits_are_the_published_ones(tmp_path):
    root = write(tmp_path / "cifar", "binary")
    split_of = {
        make: {name: split for split in SPLITS for name in make(root=root).classes(split).names}
        for make in SIZES
    }
    # CIFAR-FS parts superclasses; FC100 keeps each together.
    assert [split_of[cifar_fs][name] for name in ("lion", "leopard", "camel")] == [
        *("train", "test", "validation")
    ]
    of_superclass = {
        key: {split_of[fc100][name] for name in names} for key, names in SUPERCLASSES.items()
    }
    assert all(len(splits) == 1 for splits in of_superclass.values())
    assert [of_superclass[k] for k in ("people", "insects", "small_mammals", "trees")] == [
        *({"test"}, {"test"}, {"validation"}, {"train"})
    ]


def test_archives_and_other_sizes(tmp_path):
    root = write(tmp_path / "cifar-100-python", "pickle")
    source = cifar_fs(root=packed(root, "tar.gz"), image_size=16)
    assert source.spec.input_shape == (3, 16, 16)
    tasks = source.sample(
        2, TaskSize(ways=5, shots=1, queries=2), torch.Generator().manual_seed(0), "test"
    )
    assert tasks.support.x.shape == (2, 5, 3, 16, 16)
    assert source.spec.spec_hash != cifar_fs(root=root).spec.spec_hash
    assert source.spec.spec_hash != fc100(root=root, image_size=16).spec.spec_hash


def test_without_data_it_says_where_to_get_them_and_what_is_expected(tmp_path):
    for make in SIZES:
        with pytest.raises(UserError, match=r"(?s)isn't downloaded.*cifar-100-python\.tar\.gz"):
            make(root=None)
    with pytest.raises(UserError, match="has nothing of CIFAR-100"):
        cifar_fs(root=tmp_path)
    with pytest.raises(SettingError, match="image_size=0"):
        cifar_fs(root=tmp_path, image_size=0)


def test_a_class_without_pictures_is_named(tmp_path):
    root = write(tmp_path / "cifar", "pictures")
    for path in (root / "data" / "otter").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="99 of the 100 classes, not otter"):
        cifar_fs(root=root)
    root = write(tmp_path / "binary", "binary")
    for part in PARTS:
        content = np.frombuffer((root / f"{part}.bin").read_bytes(), np.uint8).reshape(-1, 3074)
        kept = content[content[:, 1] != CLASSES.index("otter")]
        (root / f"{part}.bin").write_bytes(kept.tobytes())
    with pytest.raises(UserError, match="has no picture of otter"):
        cifar_fs(root=root)


def test_damaged_files_are_named(tmp_path):
    root = write(tmp_path / "cifar", "binary")
    whole = (root / "test.bin").read_bytes()
    (root / "test.bin").write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"test\.bin has \d+ bytes; expected a multiple of 3074"):
        cifar_fs(root=root)
    (root / "test.bin").write_bytes(bytes([5]) + whole[1:])
    with pytest.raises(
        UserError, match=r"picture 0 of test\.bin is of class 0 \(apple\) and of superclass 5; expe"
    ):
        cifar_fs(root=root)
    (root / "test.bin").write_bytes(whole[:1] + bytes([100]) + whole[2:])
    with pytest.raises(UserError, match=r"test\.bin has labels 1 to 100; expected labels 0 to 99"):
        cifar_fs(root=root)
    (root / "test.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"test\.bin has no pictures"):
        cifar_fs(root=root)
    (root / "more").mkdir()
    (root / "more" / "train.bin").write_bytes(whole)
    with pytest.raises(UserError, match=r"train\.bin is there twice"):
        cifar_fs(root=root)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("fine_labels"), "holds a dict of filenames, batch_label, coarse_labels"),
        (lambda c: c.update(data=c["data"][1:]), "expected data, bytes"),
        (lambda c: c.update(data=c["data"][:, 1:]), "expected data, bytes"),
        (lambda c: c.update(data=c["data"].astype(float)), "expected data, bytes"),
        (lambda c: c.update(data=np.tile(c["data"], 3)), "expected data, bytes"),
        (lambda c: c.update(fine_labels=["apple"] * 100), "expected data, bytes"),
        (lambda c: c.update(fine_labels=[10**30] * 100), "expected data, bytes"),
        (lambda c: c.update(fine_labels=np.arange(100)[:, None]), "expected data, bytes"),
        (
            lambda c: c.update(
                data=c["data"].repeat(3, 0)[:, :1024],
                **{k: np.tile(c[k], 3) for k in ("fine_labels", "coarse_labels")},
            ),
            "expected data, bytes",
        ),
    ],
)
def test_a_pickle_of_something_else_is_named(tmp_path, change, said):
    root = write(tmp_path / "cifar", "pickle")
    content = pickle.loads((root / "test").read_bytes())
    change(content)
    (root / "test").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=f"test .*{said}"):
        cifar_fs(root=root)
