"""What the user can mend is told in a sentence; all else is a bug and keeps its traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

# Exit codes, besides 0 for a result.
FAILED = 1
BAD_INPUT = 2
INFRASTRUCTURE = 3
INTERRUPTED = 130


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turns an error that the user can mend into its sentence on stderr and exit code 2."""
    try:
        yield
    except Exception as error:
        if not _can_be_mended(error):
            raise
        typer.echo(sentence(error), err=True)
        sys.exit(BAD_INPUT)


def _can_be_mended(error: Exception) -> bool:
    if isinstance(error, (ValueError, ImportError, OSError)):
        return True
    # Imported only now, because they are slow.
    from algoperf.data import DataError
    from algoperf.records import RecordsError
    from algoperf.submission import SubmissionError

    return isinstance(error, (DataError, RecordsError, SubmissionError))


def sentence(error: Exception) -> str:
    """What a user reads of an error."""
    if isinstance(error, ModuleNotFoundError) and str(error) == f"No module named {error.name!r}":
        package = str(error.name).partition(".")[0]
        return f"{package} is not installed; install it with `uv pip install {package}`."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; mend that and run the same command again."
    return " ".join(str(error).split())
