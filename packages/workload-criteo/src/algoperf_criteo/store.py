"""Rows of click logs on disk, as the model reads them; numpy only."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np

from algoperf.data.files import writing
from algoperf.data.preparation import DataError
from algoperf_criteo.spec import NUM_COLUMNS

BYTES_PER_ROW = 4 * NUM_COLUMNS + 1
# Inputs [n, 39], float32, and labels [n], uint8.
Block: TypeAlias = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class StoredRows:
    """Rows as they lie on disk. In shapes, N is the number of rows.

    Attributes:
        inputs: dense features and numbers of categories [N, 39], float32; see `algoperf_criteo.click_log.parse`.
        labels: 1 where the advertisement was clicked on, else 0 [N], uint8.
    """

    inputs: np.ndarray
    labels: np.ndarray

    @classmethod
    def load(cls, folder: Path) -> "StoredRows":
        """The rows that `write_rows` wrote, memory-mapped. Raises DataError if the files are not whole."""
        remedy = "delete the folder of the prepared data and prepare it again"
        try:
            inputs, labels = (np.load(path, mmap_mode="r") for path in files_of(folder))
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{folder} holds no rows of click logs ({error}); {remedy}.") from error
        num_rows = len(labels) if labels.ndim else 0
        found = [(array.dtype, array.shape) for array in (inputs, labels)]
        if found != [(np.float32, (num_rows, NUM_COLUMNS)), (np.uint8, (num_rows,))]:
            raise DataError(f"The files in {folder} do not belong together; {remedy}.")
        return cls(inputs, labels)

    def __len__(self) -> int:
        return len(self.labels)


def training_folder(folder: Path, number: int) -> Path:
    """The folder, in that of the prepared data, of a day of training."""
    return folder / f"day_{number:02}"


def training_folders(folder: Path) -> list[Path]:
    """The folders of the days of training, in the order of the rows."""
    return sorted(path for path in folder.glob("day_??") if path.is_dir())


def write_rows(folder: Path, num_rows: int, blocks: Iterable[Block]) -> list[Path]:
    """Writes rows, block after block, into a folder that appears when it is complete.

    Returns:
        Its files.

    Raises:
        DataError: there are more or fewer rows than that, or there is no room.
    """
    write_divided({folder: num_rows}, blocks)
    return files_of(folder)


def write_divided(sizes: Mapping[Path, int], blocks: Iterable[Block]) -> None:
    """`write_rows` into several folders, each with its number of rows, in this order. All appear at the end.

    Raises:
        DataError: there are more or fewer rows than that, or there is no room.
    """
    ends, found = np.cumsum(list(sizes.values())), 0
    with ExitStack() as stack:
        files = [stack.enter_context(_writing_rows(folder, num_rows)) for folder, num_rows in sizes.items()]
        for inputs, labels in blocks:
            # Where in this block the folders' rows end; what is behind the last one is only counted.
            cuts = np.clip(ends - found, 0, len(labels))
            for (inputs_file, labels_file), *parts in zip(files, np.split(inputs, cuts), np.split(labels, cuts)):
                inputs_file.write(np.ascontiguousarray(parts[0], np.float32).data)
                labels_file.write(np.ascontiguousarray(parts[1], np.uint8).data)
            found += len(labels)
        if found != ends[-1]:
            names = " and ".join(map(str, sizes))
            raise DataError(
                f"{names} came out with {found:,} rows instead of {ends[-1]:,}; check what they are made of."
            )


def files_of(folder: Path) -> list[Path]:
    """The files of the rows in `folder`."""
    return [folder / "inputs.npy", folder / "labels.npy"]


def is_written(folder: Path) -> bool:
    """Whether there are all files of the rows in `folder`."""
    return all(path.exists() for path in files_of(folder))


@contextmanager
def _writing_rows(folder: Path, num_rows: int) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Files for the inputs and for the labels of rows, with headers that announce so many."""
    with writing(folder) as temporary:
        temporary.mkdir()
        inputs_path, labels_path = files_of(temporary)
        with inputs_path.open("wb") as inputs_file, labels_path.open("wb") as labels_file:
            _write_header(inputs_file, np.float32, (num_rows, NUM_COLUMNS))
            _write_header(labels_file, np.uint8, (num_rows,))
            yield inputs_file, labels_file


def _write_header(file: BinaryIO, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    description = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(file, {"descr": description, "fortran_order": False, "shape": shape})
