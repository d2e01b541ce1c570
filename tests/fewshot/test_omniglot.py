"""Omniglot: its splits, its compact file, and downloads that go wrong. On generated drawings; the
real set is looked at if METARL_OMNIGLOT names its folder."""

import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metarl.errors import UserError
from metarl.fewshot import omniglot_archives
from metarl.fewshot.omniglot import omniglot
from metarl.fewshot.omniglot_archives import DRAWERS, FILE_NAME, SHA256, SIDE
from metarl.fewshot.types import TaskSize

PARTS = ("train", "validation")


def drawing(alphabet: int, character: int, drawer: int) -> np.ndarray:
    """[105, 105] bool: a bar whose place tells the character and whose length tells the drawer."""
    ink = np.zeros((SIDE, SIDE), dtype=bool)
    ink[10 * character : 10 * character + 8, 20 * alphabet : 20 * alphabet + 4 * drawer] = True
    return ink


def compact(folder: Path) -> Path:
    """omniglot.npz with 3 + 2 characters."""
    arrays = {}
    for alphabet, (part, count) in enumerate({"background": 3, "evaluation": 2}.items()):
        pictures = [drawing(alphabet, k, d) for k in range(count) for d in range(1, DRAWERS + 1)]
        arrays[f"images_{part}"] = np.packbits(np.stack(pictures).reshape(-1, SIDE * SIDE), axis=1)
        arrays[f"alphabet_{part}"] = np.array([f"Alphabet{alphabet}"] * count)
        arrays[f"character_{part}"] = np.array([f"character{k:02}" for k in range(count)])
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / FILE_NAME, **arrays)
    return folder


def archives(folder: Path, monkeypatch: pytest.MonkeyPatch, drawers: int = DRAWERS) -> Path:
    """The authors' two archives in small, and their checksums in place of the real ones."""
    folder.mkdir(exist_ok=True)
    for alphabet, (part, count) in enumerate({"background": 3, "evaluation": 2}.items()):
        path = folder / f"images_{part}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for k in range(count):
                for d in range(1, drawers + 1):
                    png = io.BytesIO()
                    Image.fromarray(~drawing(alphabet, k, d)).save(png, "PNG")
                    archive.writestr(
                        f"images_{part}/Alphabet{alphabet}/character{k:02}/{k:04}_{d:02}.png",
                        png.getvalue(),
                    )
        monkeypatch.setitem(SHA256, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    return folder


def test_test_characters_are_turned_where_it_is_asked_for(tmp_path):
    of = {"data_dir": compact(tmp_path / "d"), "split": "background"}
    upright, turned = omniglot(**of), omniglot(**of, test_rotations=True)
    classes = [len(source.classes("test").names) for source in (upright, turned)]
    assert classes == [2, 8] and upright.spec.spec_hash != turned.spec.spec_hash
    assert len(turned.classes("train").names) == 12


def test_training_characters_are_set_aside_for_validation_where_it_is_asked_for(tmp_path):
    """Those for test stay the same, and a character is of one part, with all ways it is turned."""
    folder = compact(tmp_path / "d")
    for words, turned in (({}, 1), ({"test_rotations": True}, 4)):
        of = {"data_dir": folder, "split": "background", **words}
        without, source = omniglot(**of), omniglot(**of, num_validation=1)
        assert source.spec.splits == ("train", "validation", "test")
        assert without.spec.splits == ("train", "test")
        assert source.spec.spec_hash != without.spec.spec_hash
        assert source.classes("test").names == without.classes("test").names
        kept, aside = ({name.split()[0] for name in source.classes(part).names} for part in PARTS)
        assert not kept & aside
        assert kept | aside == {name.split()[0] for name in without.classes("train").names}
        assert [len(source.classes(part).names) for part in PARTS] == [8, turned]


@pytest.mark.parametrize("number", [-1, 3, 100])
def test_some_characters_must_be_left_for_training(tmp_path, number):
    with pytest.raises(
        ValueError, match=rf"dataset\.num_validation={number}: expected 0 to 2, for"
    ):
        omniglot(data_dir=compact(tmp_path / "d"), split="background", num_validation=number)


def test_background_split_is_the_authors(tmp_path):
    source = omniglot(
        data_dir=compact(tmp_path / "d"), split="background", rotations=False, image_size=SIDE
    )
    train, test = source.classes("train"), source.classes("test")
    assert train.names == tuple(f"Alphabet0/character{k:02}" for k in range(3))
    assert test.names == tuple(f"Alphabet1/character{k:02}" for k in range(2))
    expected = torch.from_numpy(drawing(1, 1, 7)) * 255
    assert torch.equal(
        test.pictures[DRAWERS + 6, 0], expected.to(torch.uint8)
    )  # character 1, drawer 7


def test_training_characters_are_turned_and_test_characters_are_not(tmp_path):
    source = omniglot(data_dir=compact(tmp_path / "d"), split="background")
    assert len(source.classes("train").names) == 12 and len(source.classes("test").names) == 2
    assert source.spec.input_shape == (1, 28, 28)


def test_small_pictures_keep_the_ink(tmp_path):
    folder = compact(tmp_path / "d")
    large, small = (
        omniglot(data_dir=folder, split="background", image_size=size)
        .classes("test")
        .pictures.float()
        .mean()
        for size in (SIDE, 28)
    )
    assert small == pytest.approx(large.item(), rel=0.02)


def test_archives_become_the_same_file(tmp_path, monkeypatch):
    from_archives = omniglot(data_dir=archives(tmp_path / "a", monkeypatch), split="background")
    from_file = omniglot(data_dir=compact(tmp_path / "d"), split="background")
    for split in ("train", "test"):
        one, other = from_archives.classes(split), from_file.classes(split)
        assert one.names == other.names and torch.equal(one.pictures, other.pictures)
    assert (tmp_path / "a" / FILE_NAME).exists()  # converted once


def test_an_archive_cut_short_is_named_with_its_checksum_and_leaves_nothing(tmp_path, monkeypatch):
    folder = archives(tmp_path / "a", monkeypatch)
    path = folder / "images_evaluation.zip"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        UserError, match=rf"images_evaluation\.zip is damaged.*expected {SHA256[path.name]}"
    ):
        omniglot(data_dir=folder)
    assert sorted(file.name for file in folder.iterdir()) == [
        "images_background.zip",
        "images_evaluation.zip",
    ]


def test_a_character_that_lacks_drawings_is_named(tmp_path, monkeypatch):
    folder = archives(tmp_path / "a", monkeypatch, drawers=19)
    with pytest.raises(UserError, match="Alphabet0/character00 has 19 drawings, expected 20"):
        omniglot(data_dir=folder)


def test_a_drawing_that_cannot_be_read_is_named_and_a_macs_own_files_are_not_looked_at(
    tmp_path, monkeypatch
):
    folder = archives(tmp_path / "a", monkeypatch)
    for name, content in {
        "__MACOSX/a/b/._0000_01.png": b"notes",
        "a/b/0000_01.png": b"no picture",
    }.items():
        path = folder / "images_evaluation.zip"
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, content)
        monkeypatch.setitem(SHA256, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        if "MACOSX" in name:
            assert omniglot(data_dir=folder, split="background").spec.name == "omniglot"
            (folder / FILE_NAME).unlink()
    with pytest.raises(
        UserError,
        match=r"images_evaluation\.zip.*a/b/0000_01\.png: it is of no kind that Pillow reads",
    ):
        omniglot(data_dir=folder)


def test_a_folder_without_the_data_says_what_is_expected(tmp_path):
    with pytest.raises(UserError, match=r"expected omniglot\.npz, or images_background\.zip"):
        omniglot(data_dir=tmp_path)


def test_a_folder_that_does_not_exist_is_not_made(tmp_path):
    with pytest.raises(UserError, match="no Omniglot in"):
        omniglot(data_dir=tmp_path / "typo")
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("damage", ["cut short", "bytes changed"])
def test_a_damaged_compact_file_is_named(tmp_path, damage):
    path = compact(tmp_path / "d") / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(
        whole[:300] if damage == "cut short" else whole[:120] + b"\xff" * 64 + whole[184:]
    )
    with pytest.raises(UserError, match=r"can't read .*omniglot\.npz"):
        omniglot(data_dir=path.parent)


class Server:
    """Stands in for `requests`, which pooch downloads with: answers with bytes or an error."""

    def __init__(self, monkeypatch, answer):
        requests = pytest.importorskip("requests")

        class Response:
            headers = {}

            def raise_for_status(self):
                pass

            def iter_content(self, chunk_size):
                yield answer(self.url)

        def get(url, **kwargs):
            response = Response()
            response.url = url
            return response

        self.error = requests.ConnectionError
        monkeypatch.setattr(requests, "get", get)


def test_a_download_is_checked_converted_and_kept(tmp_path, monkeypatch):
    pytest.importorskip("pooch")
    there = archives(tmp_path / "there", monkeypatch)
    Server(monkeypatch, lambda url: (there / url.split("/")[-1]).read_bytes())
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "cache"))
    source = omniglot(split="background")
    monkeypatch.setattr(omniglot_archives, "_download", lambda *_: pytest.fail("downloaded again"))
    assert (
        source.classes("test").names
        == omniglot(split="background", image_size=20).classes("test").names
    )


def test_a_download_that_fails_its_checksum_is_named_and_not_kept(tmp_path, monkeypatch):
    pytest.importorskip("pooch")
    Server(monkeypatch, lambda url: b"an error page")
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "cache"))
    digest = hashlib.sha256(b"an error page").hexdigest()
    with pytest.raises(
        UserError, match=f"images_background.zip is damaged and wasn't kept.*{digest}"
    ):
        omniglot()
    assert list((tmp_path / "cache" / "omniglot").iterdir()) == []


def test_without_network_it_says_how_to_do_without(tmp_path, monkeypatch):
    pytest.importorskip("pooch")
    requests = pytest.importorskip("requests")

    def get(url, **kwargs):
        raise requests.ConnectionError("no route to host")

    monkeypatch.setattr(requests, "get", get)
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"can't download https://.*dataset\.data_dir=<folder>"):
        omniglot()
    assert list((tmp_path / "cache" / "omniglot").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"can't write Omniglot to .*METARL_CACHE=<folder>"):
        omniglot()


@pytest.mark.skipif(
    "METARL_OMNIGLOT" not in os.environ,
    reason="METARL_OMNIGLOT doesn't name a folder with Omniglot",
)
def test_the_real_set_has_its_characters():
    folder = os.environ["METARL_OMNIGLOT"]
    for split, (train, test) in {"vinyals": (4 * 1200, 423), "background": (4 * 964, 659)}.items():
        source = omniglot(data_dir=folder, split=split)
        assert (len(source.classes("train").names), len(source.classes("test").names)) == (
            train,
            test,
        )
        seen = {name.split(" turned")[0] for name in source.classes("train").names}
        assert not seen & set(source.classes("test").names) and len(seen) == train // 4
    episodes = source.sample(
        2, TaskSize(ways=5, shots=1, queries=1), torch.Generator().manual_seed(0)
    )
    assert 0.03 < episodes.support.x.mean() < 0.2  # ink is 1, and there is little of it
