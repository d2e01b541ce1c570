"""Pickles of arrays, lists, text and numbers are read; what asks for more is refused unrun."""

import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from metarl.errors import UserError
from metarl.fewshot.pickle_values import Stream
from metarl.fewshot.pickled_data import in_short, unpickled, whole_numbers
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


def test_what_python_2_wrote_as_lines_is_read(tmp_path):
    content = (
        b"(dp0\nS'data'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4"
        b"\nS'b'\np5\ntp6\nRp7\n(I1\n(L2L\ntp8\ncnumpy\ndtype\np9\n(S'u1'\np10\nI0\nI1\ntp11\nRp12\n"
        b"(I3\nS'|'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\nS'\\x07\\xff'\np15\ntp16\nbsS'more'\np16\n(lp17"
        b"\nI01\naF1.5\naVtext\nasccollections\nOrderedDict\np18\n((lp19\n(lp20\nS'a'\naI1\naatp21\nRp22\n."
    )
    assert held(tmp_path, content) == {"a": 1}
    read = held(tmp_path, content[: content.index(b"ccollections")] + b".")
    np.testing.assert_array_equal(read["data"], np.array([7, 255], np.uint8))
    assert read["more"] == [True, 1.5, "text"]


ARRAYS = {
    "order of bytes": np.array([1.5, -2], ">f4"),
    "text": np.array(["ab", "é"]),
    "bytes": np.array([b"ab", b"c"]),
    "bool": np.array([True, False]),
    "single": np.array(3),
    "empty": np.zeros((2, 0, 3), np.int16),
    "transposed": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "every other": np.arange(6)[::2],
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_of_any_numbers_and_text_are_read(tmp_path, kind, protocol):
    read = held(tmp_path, pickle.dumps(ARRAYS[kind], protocol))
    assert type(read) is np.ndarray and read.dtype == ARRAYS[kind].dtype
    np.testing.assert_array_equal(read, ARRAYS[kind])


@pytest.mark.parametrize("core", [b"numpy.core.", b"numpy._core."])
def test_either_name_of_numpys_inner_modules_is_known(tmp_path, core):
    content = pickle.dumps(np.arange(3), 2)
    for written in (b"numpy.core.", b"numpy._core."):
        content = content.replace(written, core)
    assert held(tmp_path, content).tolist() == [0, 1, 2]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_is_there_at_several_places_is_there_once(tmp_path, protocol):
    array = np.arange(3)
    rows = [array, (array, {"again": array})]
    first, second = held(tmp_path, pickle.dumps([rows, rows], protocol))
    assert first is second and first[0] is first[1][0] is first[1][1]["again"]
    assert type(first[0]) is np.ndarray


def test_an_archive_is_read_to_a_multiple_of_its_size(tmp_path):
    def packed(content: bytes) -> Path:
        with zipfile.ZipFile(tmp_path / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("data.pkl", content)
        return tmp_path / "data.zip"

    noise = np.random.default_rng(0).bytes(2 * 2**20)
    with opened(packed(pickle.dumps([noise, bytes(15 * 2**20)]))) as files:
        assert unpickled(files, "data.pkl")[0] == noise
    with (
        opened(packed(pickle.dumps(bytes(17 * 2**20)))) as files,
        pytest.raises(UserError, match=r"data\.pkl isn't .*: it unpacks to more than 16777216 byt"),
    ):
        unpickled(files, "data.pkl")


class Running:
    def __reduce__(self):
        return print, ("it ran",)


class Own:
    pass


class Made:
    """What is pickled as a call, and what to fill the result with."""

    def __init__(self, function: object, values: tuple[object, ...], *state: object) -> None:
        self.reduced = (function, values, *state)

    def __reduce__(self):
        return self.reduced


RECONSTRUCT = np.array(0).__reduce__()[0]
FROM_BUFFER = np.arange(1).__reduce_ex__(5)[0]
BYTES = np.dtype("u1")


def array_of(
    values: object, shape: object, dtype: object = BYTES, version: object = 1
) -> list[Made]:
    state = (version, shape, dtype, False, values)
    return [Made(RECONSTRUCT, (np.ndarray, (0,), b"b"), state)]


def type_of(name: object, *state: object) -> Made:
    return Made(np.dtype, (name, False, True), *state)


def outside(offset: int) -> bytes:
    """Writes a byte before or after those of an array, with what protocol 5 can change."""
    return (
        b"\x80\x05cnumpy\nndarray\n((K\x01t\x8c\x02u1\x96"
        + struct.pack("<Q8xB B q", 8, 0x8A, 8, offset)
        + b"tRK\x00K\x41s."
    )


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


PLAIN = (3, "<", None, None, None, -1, -1, 0)
RECORD = (3, "|", None, ("a",), {"a": (np.dtype("u1"), 0)}, 8, 1, 0)


@pytest.mark.parametrize(
    "content",
    [
        # numpy's own types are never called.
        pickle.dumps(Made(np.ndarray, ((1,), "O", b"A" * 8))),
        pickle.dumps(Made(np.ndarray, ((4,), "u1", b"A" * 8, -1000))),
        pickle.dumps(Made(np.ndarray, ((10**8,), "O"))),
        outside(4096),
        outside(-4096),
        # Arrays of addresses, and types that say what isn't so.
        pickle.dumps(np.array([None, {}])),
        pickle.dumps(np.zeros(2, [("a", "u1")])),
        pickle.dumps(array_of(b"A" * 8, (1,), type_of("O8", PLAIN))),
        pickle.dumps(array_of(b"A" * 8, (1,), type_of("V8", RECORD))),
        pickle.dumps(array_of(b"A" * 8, (1,), type_of("u8", RECORD))),
        pickle.dumps(type_of((np.dtype("u1"), (1,)), PLAIN)),
        pickle.dumps(type_of("u1", (3, "|", (np.dtype("u1"), (1,)), None, None, 8, 1, 0))),
        pickle.dumps(type_of("u1", {"kind": "O"})),
        pickle.dumps(type_of("u1", (None, {"kind": "O"}))),
        pickle.dumps(array_of(b"A" * 8, (1,), "u8")),
        # Shapes that don't go with the bytes.
        pickle.dumps(array_of(b"A" * 8, (9,))),
        pickle.dumps(array_of(b"A" * 8, (10**12,))),
        pickle.dumps(array_of(b"", (2**40, 2**40, 0, -1))),
        pickle.dumps(array_of(b"A" * 8, (-1, -8))),
        pickle.dumps(array_of(b"A" * 8, (8.0,))),
        pickle.dumps(array_of(b"A" * 8, 8)),
        pickle.dumps(array_of([1] * 8, (8,))),
        pickle.dumps(array_of(b"\x02", (1,), np.dtype("b1"))),
        pickle.dumps(array_of(b"\0\x11\0\0", (1,), np.dtype(">U1"))),
        pickle.dumps(Made(FROM_BUFFER, (bytearray(8), BYTES, (9,), "C")), 5),
        pickle.dumps(Made(FROM_BUFFER, (bytearray(8), BYTES, (8,), "K", (3,))), 5),
        pickle.dumps(Made(FROM_BUFFER, (np.zeros(8), BYTES, (64,), "C"))),
        # What isn't filled, is filled twice, or is no such thing.
        pickle.dumps(type_of("u1")),
        pickle.dumps([type_of("u1")]),
        pickle.dumps([Made(RECONSTRUCT, (np.ndarray, (0,), b"b"))]),
        pickle.dumps(array_of(b"A", (1,)))[:-2] + b"}b.",
        pickle.dumps(Made(OrderedDict, (), {"items": 1})),
        b"\x80\x02]}b.",
        b"\x80\x02c_codecs\nencode\n}b.",
        b"\x80\x02c_codecs\nencode\n.",
        # Other ways to make, name and change things.
        b"\x80\x02c__builtin__\nbytes\n)\x81.",
        b"\x80\x04c__builtin__\nbytes\n)}\x92.",
        b"(c__builtin__\nbytes\no.",
        b"(i__builtin__\nbytes\n.",
        b"Pother\n.",
        b"\x80\x02NQ.",
        b"\x80\x02\x82\x01.",
        b"\x80\x05\x97.",
        b"\x80\x02NNR.",
        b"\x80\x02cnumpy\nndarray\n)R.",
        b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",
        b"\x80\x04\x8c\x07_codecs\x8c\x0fencode.__code__\x93.",
        b"\x80\x04)\x8c\x06system\x93.",
        b"\x80\x02)K\x01a.",
        b"\x80\x05\x96\x01\0\0\0\0\0\0\0AK\0K\1s.",
        # More memory, stack or time than there is.
        pickle.dumps(Made(bytes, (4 * 10**8,))),
        b"\x80\x02Nr\xff\xff\xff\x7fh\0.",
        b"\x80\x04\x95" + b"\xff" * 7 + b"\x00.",
        b"\x80\x04\x8e" + b"\xff" * 6 + b"\x00\x00.",
        b"\x80\x05\x96" + b"\xff" * 4 + bytes(4) + b".",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"\x80\x02}" + b")\x85" + b"q\0h\0\x86" * 60 + b"Ns.",
        b"\x80\x02})" + b"\x85" * 10**5 + b"Ns.",
        b"\x80\x02}c_codecs\nencode\nq\0X"
        + struct.pack("<I", 9999)
        + b"A" * 9999
        + b"\x85q\1R"
        # as bytes, again and again
        + b"h\0h\1R" * 9999
        + b".",
    ],
    ids=lambda content: repr(content[:40]),
)
def test_what_reaches_for_memory_is_refused(tmp_path, content):
    with pytest.raises(UserError, match=r"data\.pkl isn't a pickle of arrays, .*: .") as caught:
        held(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_a_list_that_is_in_itself_is_read(tmp_path):
    (inner,) = read = held(tmp_path, b"\x80\x02]q\0h\0a.")
    assert inner is read


def test_too_little_memory_is_no_fault_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(Stream, "take", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        held(tmp_path, pickle.dumps([1]))


def test_an_error_without_words_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(Stream, "take", lambda *_: (_ for _ in ()).throw(EOFError()))
    with pytest.raises(UserError, match="text and numbers: EOFError"):
        held(tmp_path, pickle.dumps([1]))


@pytest.mark.parametrize("cut", [0, 1, 7, -1])
def test_a_damaged_one_is_named(tmp_path, cut):
    content = pickle.dumps({"data": np.arange(9)})
    with pytest.raises(UserError, match=r"data\.pkl isn't a pickle of arrays"):
        held(tmp_path, content[:cut])


@pytest.mark.parametrize("values", [[1, 2], np.array([1, 2], np.uint8), (np.int64(1), 2)])
def test_whole_numbers_of_lists_and_arrays(values):
    numbers = whole_numbers(values)
    assert numbers.dtype == np.int64 and numbers.tolist() == [1, 2]


@pytest.mark.parametrize("values", [["1"], [1.0], np.array([[1]]), [10**30], 1, None])
def test_what_is_no_whole_number_is_refused(values):
    with pytest.raises((TypeError, OverflowError)):
        whole_numbers(values)


def test_contents_in_words():
    assert in_short({"data": 1, "labels": 2}) == "a dict of data, labels"
    assert in_short({}) == "a dict of nothing"
    many = {"a\n\tb" + 50 * "c": 0, **dict.fromkeys(range(20))}
    assert in_short(many) == f"a dict of a b{37 * 'c'}, 0, 1, 2, 3, 4, 5, 6, ..."
    assert in_short([1, 2, 3]) == "a list of 3"
    assert in_short(np.zeros((3, 2), np.uint8)) == "an array [3, 2] of uint8"
    assert in_short("text") == "a str"
