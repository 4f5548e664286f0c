"""Compressed tars, read as a stream."""

import io
import tarfile

import pytest

from algoperf.data import DataError
from algoperf.data.tar_gz import stream_tar_gz

FILES = {"a/b.txt": b"some text", "a/empty": b"", "a/c.bin": bytes(range(256)) * 4_000}


@pytest.fixture
def path(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    (tmp_path / "some.tar.gz").write_bytes(buffer.getvalue())
    return tmp_path / "some.tar.gz"


def test_files_come_in_their_order(path):
    assert list(stream_tar_gz(path)) == list(FILES.items())


def test_what_breaks_off_is_named(path):
    content = path.read_bytes()
    for size in (0, 20, len(content) // 2, len(content) - 12):
        path.write_bytes(content[:size])
        with pytest.raises(
            DataError, match=r"some\.tar\.gz cannot be read \(.+\); if it is damaged, download it again"
        ):
            list(stream_tar_gz(path))


@pytest.mark.parametrize("content", [b"no archive", b"\x1f\x8b" + bytes(50)])
def test_what_is_no_archive_is_named(path, content):
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"some\.tar\.gz cannot be read \(.+\)"):
        list(stream_tar_gz(path))
    path.unlink()
    with pytest.raises(DataError, match=r"some\.tar\.gz cannot be read \(.*No such file"):
        list(stream_tar_gz(path))
