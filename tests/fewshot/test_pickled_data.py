"""Pickles of arrays, lists, text and numbers are read; what asks for more is refused unrun."""

import io
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from metarl.errors import UserError
from metarl.fewshot.pickled_data import in_short, unpickled
from metarl.fewshot.picture_files import opened


def held(folder: Path, content: bytes):
    (folder / "data.pkl").write_bytes(content)
    with opened(folder) as files:
        return unpickled(files, "data.pkl")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_gives_back_what_was_written(tmp_path, protocol):
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    written = {
        "data": array,
        "turned": np.asfortranarray(array),
        "empty": np.zeros((0, 2)),
        "labels": [1, 2.5, None, True],
        "names": ("a", "é"),
        "encoded": [np.frombuffer(b"png", np.uint8), b"\x00\xff"],
        "rows": OrderedDict(n01=[0, 1]),
    }
    read = held(tmp_path, pickle.dumps(written, protocol))
    assert read.keys() == written.keys()
    for name in ("data", "turned", "empty"):
        np.testing.assert_array_equal(read[name], written[name])
        assert read[name].dtype == written[name].dtype
    for name in ("labels", "names", "rows"):
        assert read[name] == written[name]
    assert bytes(read["encoded"][0]) == b"png" and read["encoded"][1] == b"\x00\xff"


def test_what_python_2_and_an_older_numpy_wrote_is_read(tmp_path):
    """As the pickles of CIFAR-100 and mini-ImageNet are: text and arrays as byte strings."""
    content = (
        b"\x80\x02}q\x01U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\n"
        b"q\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\x07\xfftbs."
    )
    read = held(tmp_path, content)
    assert list(read) == ["data"]
    np.testing.assert_array_equal(read["data"], np.array([7, 255], np.uint8))


class Running:
    def __reduce__(self):
        return print, ("it ran",)


class Own:
    pass


@pytest.mark.parametrize(
    ("content", "asked"),
    [
        (pickle.dumps(Running()), "builtins.print"),
        (pickle.dumps([Running()], 0), "__builtin__.print"),
        (pickle.dumps(Own()), "test_pickled_data.Own"),
        (pickle.dumps(np.float64(1.0)), "numpy._core.multiarray.scalar"),
        (pickle.dumps(np.load), "numpy.load"),
        (b"\x80\x02cnumpy\nload\n.", "numpy.load"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0ccore.os.path\x93.", "numpy.core.os.path"),
        (
            b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00utf8\x86R.",
            "text in utf8",
        ),
    ],
)
def test_what_asks_for_anything_else_is_refused_unrun(tmp_path, capsys, content, asked):
    with pytest.raises(UserError, match=r"data\.pkl isn't a pickle of arrays, .*" + asked):
        held(tmp_path, content)
    assert "it ran" not in capsys.readouterr().out


@pytest.mark.parametrize("cut", [0, 1, 7, -1])
def test_a_damaged_one_is_named(tmp_path, cut):
    content = pickle.dumps({"data": np.arange(9)})
    with pytest.raises(UserError, match=r"data\.pkl isn't a pickle of arrays"):
        held(tmp_path, content[:cut])


def test_an_array_larger_than_memory_is_named(tmp_path):
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, 2)
    pickler.dump(np.zeros(3))
    huge = stream.getvalue().replace(b"K\x00\x85q", b"\x8a\x07\x00\x00\x00\x00\x00\x00\x10\x85q", 1)
    assert huge != stream.getvalue()
    with pytest.raises(UserError, match=r"data\.pkl isn't a pickle"):
        held(tmp_path, huge)


def test_contents_in_words():
    assert in_short({"data": 1, "labels": 2}) == "a dict of data, labels"
    assert in_short({}) == "a dict of nothing"
    assert in_short([1, 2, 3]) == "a list of 3"
    assert in_short(np.zeros((3, 2), np.uint8)) == "an array [3, 2] of uint8"
    assert in_short("text") == "a str"
