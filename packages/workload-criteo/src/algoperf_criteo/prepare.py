"""Prepares Criteo 1TB, the full-scale data, from the published files as they are (see `algoperf_criteo.published`)."""

from collections.abc import Sequence
from pathlib import Path

from algoperf.data.files import remove
from algoperf.data.preparation import Preparation
from algoperf.data.sources import check_folder, check_space
from algoperf_criteo.days import is_finished, write_days
from algoperf_criteo.published import COMMAND, PUBLISHED, Day
from algoperf_criteo.store import BYTES_PER_ROW, files_of


def prepare_full(job: Preparation) -> list[Path]:
    """Turns the published files into folders of rows; see `algoperf_criteo.store`.

    About 690 GB are written, a folder for each day of training, `test` and `validation`; nothing is unzipped to disk.
    An interrupted run goes on with the days that are not finished. What is done needs its file no more.

    Returns:
        The files of the prepared data.

    Raises:
        DataError: a file is missing, damaged or not the published one, or there is no room.
    """
    return prepare_files(job, PUBLISHED)


def prepare_files(job: Preparation, published: Sequence[Day]) -> list[Path]:
    """`prepare_full` with any files of that layout."""
    missing = [day for day in published if not is_finished(job.folder, day)]
    if missing:
        source = check_folder(job.source, missing, COMMAND)
        for unfinished in job.folder.glob(".*.tmp"):
            remove(unfinished)
        check_space(job.folder, BYTES_PER_ROW * sum(day.num_rows for day in missing))
        write_days(job, source, published)
    return [path for day in published for part in day.parts for path in files_of(job.folder / part)]
