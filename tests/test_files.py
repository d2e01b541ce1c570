"""A file under its own name is the old one or the new one, on every disk and whatever happens while
it is written."""

import ast
import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from metarl import files

ROOT = Path(__file__).parents[1]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_read_is_what_was_written(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "vorher")
    files.write_text(path, "läuft ±")
    assert path.read_bytes() == "läuft ±".encode()
    assert names(tmp_path) == ["a.txt"]


def test_a_name_that_is_not_utf_8_can_be_written_of(tmp_path):
    files.write_text(tmp_path / "a.txt", os.fsdecode(b"runs/f\xe4"))
    assert (tmp_path / "a.txt").read_bytes() == b"runs/f\xe4"


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_a_writer_that_fails_half_way_leaves_what_was_there(tmp_path, failure):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def write(file):
        file.write(b"half of the n")
        raise failure

    with pytest.raises(type(failure)):
        files.write_atomically(path, write)
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["nowhere/a.txt", "file/a.txt", "folder"])
def test_what_cannot_be_written_is_named_as_the_caller_named_it(tmp_path, monkeypatch, name):
    """And not as the temporary file, which nobody knows."""
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    with pytest.raises(OSError) as told:
        files.write_text(Path(name), "new")
    assert told.value.filename == name and names(tmp_path) == ["file", "folder"]


def test_a_disk_that_is_full_is_named_by_the_file(tmp_path):
    place = tmp_path / "file.json"
    with pytest.raises(OSError, match="No space left") as failed, files.replacing(place):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as write() does
    assert failed.value.filename == str(place)


def test_leftovers_of_some_files_alone_are_removed(tmp_path):
    for name in (".metrics.jsonl.a1.tmp", ".metrics.csv.b2.tmp", ".evaluation.json.c3.tmp"):
        (tmp_path / name).touch()
    files.remove_leftovers(tmp_path, "metrics.*")
    assert [path.name for path in tmp_path.iterdir()] == [".evaluation.json.c3.tmp"]


def test_a_file_where_a_folder_should_be_is_said_to_be_none(tmp_path):
    files.make_folder(tmp_path / "a/b")
    files.make_folder(tmp_path / "a/b")
    (tmp_path / "a/file").touch()
    for place in ("a/file", "a/file/b/c"):
        with pytest.raises(NotADirectoryError) as told:
            files.make_folder(tmp_path / place)
        assert told.value.filename == str(tmp_path / "a/file")


def _fsync_answers(monkeypatch, number: int, *, of_files: bool, of_folders: bool) -> None:
    real = os.fsync

    def fsync(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if of_folders if is_folder else of_files:
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF])
@pytest.mark.parametrize("of_files", [False, True])
def test_a_file_system_that_cannot_flush_is_written_to_all_the_same(
    tmp_path, monkeypatch, number, of_files
):
    _fsync_answers(monkeypatch, number, of_files=of_files, of_folders=True)
    files.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_full_or_broken_disk_that_shows_only_when_flushed_is_an_error(
    tmp_path, monkeypatch, number
):
    files.write_text(tmp_path / "a.txt", "old")
    _fsync_answers(monkeypatch, number, of_files=True, of_folders=False)
    with pytest.raises(OSError, match=os.strerror(number)):
        files.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with files.replacing(path) as one, files.replacing(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # whose turn to rename came last


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "a.txt").symlink_to(tmp_path / "disk" / "a.txt")
    files.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").is_symlink() and (tmp_path / "disk" / "a.txt").read_text() == "new"


def test_a_program_that_opens_files_by_itself_writes_as_well(tmp_path):
    def write(text):
        with files.replacing(tmp_path / "a.mp4") as temporary:
            temporary.write_text(text)
            if text == "half":
                raise ChildProcessError

    with pytest.raises(ChildProcessError):
        write("half")
    assert names(tmp_path) == []
    write("whole")
    assert names(tmp_path) == ["a.mp4"]


WRITERS = {
    "write_text",
    "write_bytes",
    "save",
    "savefig",
    "savez",
    "savez_compressed",
    "imsave",
    "imwrite",
    "tofile",
}
OURS = {"files", "checkpoint"}  # `files.write_text`, `checkpoint.save`
TO_MEMORY_OR_AN_OPEN_FILE = {"buffer", "file", "io"}
APPENDS = {
    "metarl/run/loggers/csv_tables.py",
    "metarl/run/rows.py",
    "metarl/cli/commands/benchmark.py",
    "metarl/cli/outputs.py",
    "metarl/cli/transcript.py",
}
THE_WAY = "metarl/files.py"


def plain_writes(source: str) -> list[str]:
    """Calls that write a file under its own name: open(path, "w"), path.write_text(...),
    figure.savefig(path), ..."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = (
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        )
        owner = node.func.value if isinstance(node.func, ast.Attribute) else ast.Name("files")
        words = [word for argument in [*node.args, *node.keywords] for word in ast.walk(argument)]
        given = {word.id for word in words if isinstance(word, ast.Name)}
        if name == "open":
            modes = [
                word.value
                for word in words
                if isinstance(word, ast.Constant) and isinstance(word.value, str)
            ]
            if any(set(mode) & set("wa+") and set(mode) <= set("rwxab+t") for mode in modes):
                found.append(ast.unparse(node))
        elif (
            name in WRITERS
            and getattr(owner, "id", "") not in OURS
            and not given & TO_MEMORY_OR_AN_OPEN_FILE
        ):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(
    ("source", "is_plain"),
    [
        ('path.write_text("x")', True),
        ('open(path, "w")', True),
        ('with path.open("wb") as f: pass', True),
        ("np.savez_compressed(path, **arrays)", True),
        ('path.open("rb")', False),
        ("write_atomically(path, lambda file: figure.savefig(file))", False),
        ("checkpoint.save(folder, content, keep=1)", False),
    ],
)
def test_plain_writes_are_found(source, is_plain):
    assert bool(plain_writes(source)) == is_plain


def test_every_file_is_written_by_the_one_way():
    """But for those that only grow, a line at a time."""
    for top in ("metarl", "envs", "scripts", "docs"):
        for path in sorted((ROOT / top).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name == THE_WAY:
                continue
            found = plain_writes(path.read_text())
            if name in APPENDS:
                found = [call for call in found if "'a'" not in call and "'ab'" not in call]
            assert not found, f"{name} writes by {found}; see metarl/files.py"


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    """So does /dev/null, which root could replace by a file."""
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    files.write_text(pipe, "numbers")
    reader.join()
    assert got == [b"numbers"] and pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_every_text_is_read_as_utf_8():
    """Whatever the locale says: what we write is UTF-8."""
    for path in sorted((ROOT / "metarl").rglob("*.py")):
        assert ".read_text()" not in path.read_text("utf-8"), path


def test_a_pipe_by_its_number_gets_what_is_written():
    """As /dev/stdout before `| less`: what it leads to has no name."""
    reads, writes = os.pipe()
    files.write_text(Path(f"/dev/fd/{writes}"), "page")
    os.close(writes)
    with os.fdopen(reads) as pipe:
        assert pipe.read() == "page"
