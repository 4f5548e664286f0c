"""Criteo's click logs: rows of text, turned into what the model reads; numpy only.

A row is a line of 40 fields with tabs between them: whether the advertisement was clicked on, 13 integers, and 26
categories of 8 hexadecimal digits. A field that is empty or -1 is missing.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from isal import igzip, isal_zlib

from algoperf.data.preparation import DataError
from algoperf_criteo.farmhash import bucket_ids
from algoperf_criteo.spec import NUM_CATEGORICAL, NUM_COLUMNS, NUM_DENSE

NUM_FIELDS = 1 + NUM_COLUMNS
_TAB, _NEWLINE = 9, 10
# Some 500 rows: all that is made of them stays in the cache.
_CHUNK_BYTES = 2**17
_BLOCK_BYTES = 2**22

# Texts of up to 8 bytes are little-endian numbers of 64 bits: their first byte is the lowest one.
_WORD_BYTES = 8
_EACH_BYTE = 0x0101010101010101
_ZEROS = np.uint64(int.from_bytes(b"00000000", "little"))
_MINUS, _ONE = ord("-"), ord("1")
_MINUS_ONE = int.from_bytes(b"-1", "little")
_MAX_DIGITS = 10
# Far more than a row takes. What has no lines at all must not fill the memory.
_LONGEST_LINE = 2**16

# Of a field, in messages.
_SHOWN = 30

# What each field is not, if it does not match.
_REMEDY = "mend the file or get it again"
_KINDS = (
    [("is neither 0 nor 1", re.compile(rb"0|1"))]
    + [(f"is no integer of up to {_MAX_DIGITS} digits", re.compile(rb"-?[0-9]{1,%d}|" % _MAX_DIGITS))] * NUM_DENSE
    + [("is no category of 8 lowercase hexadecimal digits", re.compile(rb"[0-9a-f]{8}|-1|"))] * NUM_CATEGORICAL
)


def parse(block: bytes, source: str = "the click log", first_line: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a click log.

    Integers become log(max(x, 0) + 1) and categories their numbers within their columns (`farmhash.bucket_ids`). Of
    what is missing, integers are 0 and categories "00000000"; a label must be there.

    Args:
        block: any number of whole lines.
        source: what the click log is called, for messages.
        first_line: the number of the first line in it, for messages.

    Returns:
        Inputs [N, 39], float32, and labels [N], uint8.

    Raises:
        DataError: a line is no such row; names the first one.
    """
    num_rows = np.count_nonzero(np.frombuffer(block, np.uint8) == _NEWLINE)
    inputs, labels = np.empty((num_rows, NUM_COLUMNS), np.float32), np.empty(num_rows, np.uint8)
    start = row = 0
    while start < len(block):
        end = (block.rfind(b"\n", start, start + _CHUNK_BYTES) + 1) or (block.find(b"\n", start) + 1)
        assert end, "The last line has no end."
        chunk = block[start:end]
        columns = _columns(chunk)
        if columns is None:
            raise DataError(_complaint(chunk, source, first_line + row))
        rows = slice(row, row + len(columns[0]))
        labels[rows] = columns[0]
        inputs[rows, :NUM_DENSE] = columns[1].T
        inputs[rows, NUM_DENSE:] = columns[2].T
        start, row = end, rows.stop
    return inputs, labels


def read_click_log(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of a compressed click log, in blocks that `parse` makes.

    Raises:
        DataError: the file is damaged or truncated, or a line is no row. Of a damaged file it says where reading
            stopped, to within a block.
    """
    line, rest = 1, b""
    try:
        with igzip.open(path) as file:
            while data := file.read(_BLOCK_BYTES):
                block = rest + data
                end = block.rfind(b"\n") + 1
                rows = parse(block[:end], str(path), line)
                line, rest = line + len(rows[1]), block[end:]
                if len(rest) > _LONGEST_LINE:
                    raise DataError(f"Line {line:,} of {path} does not end within {_LONGEST_LINE:,} bytes; {_REMEDY}.")
                yield rows
    except (OSError, EOFError, isal_zlib.error) as error:  # type: ignore[misc]  # Its stub says that it is an instance.
        raise DataError(
            f"{path} cannot be read after line {line - 1:,} ({error}); if it is damaged, download it again."
        ) from error
    if rest:
        # The last line lacks its end.
        yield parse(rest + b"\n", str(path), line)


def _columns(chunk: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Labels [n], dense features [13, n] and category numbers [26, n] of some lines; None if any is no row."""
    # With room behind, so that a word can be read from any place.
    text = np.frombuffer(chunk + bytes(_WORD_BYTES), np.uint8)
    # Tabs and newlines alone; bytes below them wrap around.
    ends = np.flatnonzero(text[:-_WORD_BYTES] - np.uint8(_TAB) <= _NEWLINE - _TAB)
    num_rows, left_over = divmod(len(ends), NUM_FIELDS)
    is_newline = text[ends] == _NEWLINE
    if left_over or is_newline.sum() != num_rows or not is_newline[NUM_FIELDS - 1 :: NUM_FIELDS].all():
        return None
    starts = np.append(0, ends[:-1] + 1)
    lengths = np.ascontiguousarray((ends - starts).reshape(num_rows, NUM_FIELDS).T)
    starts = np.ascontiguousarray(starts.reshape(num_rows, NUM_FIELDS).T)
    # The word that begins at each byte.
    words_at = np.ndarray(len(chunk) + 1, "<u8", text, strides=(1,))
    words = words_at[starts]
    dense, categorical = slice(1, 1 + NUM_DENSE), slice(1 + NUM_DENSE, None)
    labels, labels_ok = _labels(words[0], lengths[0])
    features, dense_ok = _dense(words_at, starts[dense], words[dense], lengths[dense])
    ids, categorical_ok = _categorical(words[categorical], lengths[categorical])
    return (labels, features, ids) if labels_ok and dense_ok and categorical_ok else None


def _labels(words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, bool]:
    """Labels [n], and whether all are as they should be."""
    first = words & 0xFF
    are_labels = (lengths == 1) & ((first == _ONE) | (first == ord("0")))
    return first == _ONE, bool(are_labels.all())


def _dense(words_at: np.ndarray, starts: np.ndarray, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, bool]:
    """log(max(x, 0) + 1) of integers, float32, and whether all are integers."""
    is_negative = words & 0xFF == _MINUS
    # The sign as a leading zero.
    words = words ^ is_negative * np.uint64(_MINUS ^ ord("0"))
    values, are_digits = _numbers(words, np.minimum(lengths, _WORD_BYTES))
    is_long = np.nonzero(lengths > _WORD_BYTES)
    if len(is_long[0]):
        lengths_left = lengths[is_long] - _WORD_BYTES
        rest, rest_are_digits = _numbers(words_at[starts[is_long] + _WORD_BYTES], np.minimum(lengths_left, _WORD_BYTES))
        values[is_long] = values[is_long] * 10 ** lengths_left.view(np.uint64) + rest
        are_digits = are_digits and rest_are_digits
    num_digits = lengths - is_negative
    # A sign alone is no number; nothing at all is what is missing.
    fits = (num_digits >= is_negative) & (num_digits <= _MAX_DIGITS)
    values[is_negative] = 0
    # In float64, and then rounded: numpy's logarithm of float32 is not the same on all processors.
    features = np.log(values.view(np.int64).astype(np.float32) + np.float32(1), dtype=np.float64).astype(np.float32)
    return features, are_digits and bool(fits.all())


def _numbers(words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, bool]:
    """The numbers, uint64, that the first `lengths` bytes of words are, and whether these are all digits.

    All 8 digits at once, as in https://lemire.me/blog/2022/01/21/swar-explained-parsing-eight-digits.
    """
    bits = 8 * lengths.view(np.uint64)
    # The last digit in the highest byte, and zeros before the first one.
    digits = words << 64 - bits ^ _ZEROS << 64 - bits
    are_digits = not ((digits | digits + 6 * _EACH_BYTE) & 0xF0 * _EACH_BYTE).any()
    pairs = (digits * 10 + (digits >> 8)) & 0x00FF00FF00FF00FF
    fours = (pairs * 100 + (pairs >> 16)) & 0x0000FFFF0000FFFF
    return (fours * 10_000 + (fours >> 32)) & 0xFFFFFFFF, are_digits


def _categorical(words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, bool]:
    """Numbers of categories [26, n], float32, and whether all are categories."""
    is_missing = _is_missing(words, lengths)
    words = np.where(is_missing, _ZEROS, words)
    fits = (is_missing | (lengths == _WORD_BYTES)).all()
    return bucket_ids(words), bool(fits) and _are_hexadecimal(words)


def _are_hexadecimal(words: np.ndarray) -> bool:
    """Whether all bytes are digits or letters from a to f."""
    is_letter = words >> 6 & _EACH_BYTE
    # Letters follow upon 9, at ":".
    digits = words - is_letter * (ord("a") - ord(":")) ^ _ZEROS
    is_beyond_9 = (digits + 6 * _EACH_BYTE) >> 4 & _EACH_BYTE
    return not (digits & 0xF0 * _EACH_BYTE | is_beyond_9 ^ is_letter).any()


def _is_missing(words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return (lengths == 0) | (lengths == 2) & (words & 0xFFFF == _MINUS_ONE)


def _complaint(chunk: bytes, source: str, first_line: int) -> str:
    """What is wrong with the first line that is no row, and what to do."""
    for number, line in enumerate(chunk[:-1].split(b"\n"), start=first_line):
        fields = line.split(b"\t")
        number_of_fields = f"{len(fields)} field{'s' if len(fields) > 1 else ''}"
        reason = f"has {number_of_fields} instead of {NUM_FIELDS}" if len(fields) != NUM_FIELDS else ""
        for place, (field, (fault, allowed)) in enumerate(zip(fields, _KINDS), start=1):
            if not reason and not allowed.fullmatch(field):
                # Without Python's "b" before it.
                shown = repr(field[:_SHOWN])[1:] + ("..." if len(field) > _SHOWN else "")
                reason = f"has {shown} as field {place}, which {fault}"
        if reason:
            return f"Line {number:,} of {source} {reason}; {_REMEDY}."
    raise AssertionError(f"A line of {source}, from {first_line} on, is no row, and nothing is wrong with it.")
