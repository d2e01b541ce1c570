"""The folder that a sweep makes for itself."""

from pathlib import Path

import pytest

from metarl.cli import sweep
from metarl.errors import UserError


def test_sweeps_that_start_in_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = {sweep.new_folder() for _ in range(3)}
    assert len(folders) == 3 and all(folder.is_dir() for folder in folders)


@pytest.mark.parametrize("in_the_way", ["runs", "runs/sweeps"])
def test_a_file_where_its_folder_should_be_is_told(tmp_path, monkeypatch, in_the_way):
    """And doesn't let it look for a free name for ever."""
    monkeypatch.chdir(tmp_path)
    Path(in_the_way).parent.mkdir(exist_ok=True)
    Path(in_the_way).touch()
    with pytest.raises(UserError, match=r"can't make the sweep's folder runs/sweeps/.*: Not a dir"):
        sweep.new_folder()
