from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from shared.whole_file import write_whole


def test_text_and_bytes_replace_what_stood_there(tmp_path):
    write_whole(tmp_path / "a", "größer")
    assert (tmp_path / "a").read_bytes() == "größer".encode()
    write_whole(tmp_path / "a", b"less")
    assert (tmp_path / "a").read_bytes() == b"less"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    write_whole(tmp_path / "a", "old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_pipe_is_written_to_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    heard = []
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()))
    reader.start()
    write_whole(pipe, "page")
    reader.join(10)
    assert heard == ["page"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full on this machine")
def test_a_device_is_not_replaced_and_a_full_one_is_told():
    with pytest.raises(OSError, match="No space"):
        write_whole(Path("/dev/full"), "page")
    assert Path("/dev/full").is_char_device()
