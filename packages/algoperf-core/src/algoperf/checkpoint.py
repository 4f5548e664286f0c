"""What a trial saves so that a killed run continues as if it had not been.

A checkpoint is one safetensors file per process: arrays, and in the header, as JSON, how they make up the state.
The name holds the step and the SHA-256 of the contents. A file gets that name when it is complete and on disk, so
whatever moment a process or a machine dies, the newest file whose contents match its name is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from algoperf.backends import Backend
from algoperf.data.preparation import file_sha256
from algoperf.state_tree import Decoder, Encoder, StateError

NUM_KEPT = 2
_HASH_DIGITS = 16
_NATIVE_DTYPES = frozenset("bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 float32 float64".split())


@dataclass(frozen=True)
class _File:
    path: Path
    step: int
    digest: str

    @property
    def is_whole(self) -> bool:
        return file_sha256(self.path).startswith(self.digest)


class Checkpoints:
    """The checkpoints of one trial.

    Args:
        folder: where they lie; made when the first is saved.
        backend: takes the framework's tensors apart; several processes save one file each.
    """

    def __init__(self, folder: Path, backend: Backend) -> None:
        self._folder = folder
        self._backend = backend

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Saves `state`, and removes all but the newest two checkpoints.

        Raises:
            OSError: the disk is full or gone. The earlier checkpoints stay as they are.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".rank{self._backend.rank}.tmp"
        try:
            _write(temporary, self._backend, state)
            digest = file_sha256(temporary)[:_HASH_DIGITS]
            name = f"step_{step:012d}.rank{self._backend.rank}.{digest}.safetensors"
            temporary.replace(self._folder / name)
            _sync(self._folder)
        finally:
            temporary.unlink(missing_ok=True)
        others = [file for file in self._files() if file.path.name != name]
        for old in others[NUM_KEPT - 1 :]:
            old.path.unlink()

    def load(self, template: Mapping[str, Any]) -> dict[str, Any] | None:
        """The newest state that is whole for every process; None if there is none.

        Args:
            template: the state of a fresh start, which says where arrays go and supplies what no file can hold.

        Raises:
            StateError: there are checkpoints, and none that all processes can restore; the message says why.
        """
        files = self._files()
        whole = {file.step: file for file in reversed(files) if file.is_whole}
        # Every process must go on from the same step, so only those that all of them have count.
        steps = self._backend.gather(list(whole))
        common = [step for step in whole if steps.count(step) == self._backend.num_processes]
        if not common:
            if any(self._backend.gather([bool(files)])):
                raise StateError(
                    f"None of the checkpoints in {self._folder} is whole for all processes; run the trial on as many "
                    "devices as before, or delete its folder to start anew."
                )
            return None
        chosen = whole[max(common)]
        # What a damaged or an abandoned run left must not count as newer than what comes now.
        for file in files:
            if file.step > chosen.step or (file.step == chosen.step and file != chosen):
                file.path.unlink()
        return _read(chosen.path, self._backend, template)

    def load_some(self, template: Mapping[str, Any]) -> dict[str, Any] | None:
        """Those entries of the newest whole checkpoint of this process that `template` has; None if there is none.

        Nothing is removed: for those who only look.
        """
        whole = next((file for file in self._files() if file.is_whole), None)
        return None if whole is None else _read(whole.path, self._backend, template, only=template)

    def _files(self) -> list[_File]:
        """This process's files, newest first."""
        pattern = f"step_*.rank{self._backend.rank}.*.safetensors"
        found = []
        for path in sorted(self._folder.glob(pattern), reverse=True):
            step, _, digest, _ = path.name.split(".")
            found.append(_File(path, int(step.removeprefix("step_")), digest))
        # Of two files of one step the younger is the one that a resumed run wrote.
        return sorted(found, key=lambda file: (file.step, file.path.stat().st_mtime_ns), reverse=True)


def _write(path: Path, backend: Backend, state: Mapping[str, Any]) -> None:
    encoder = Encoder(backend)
    tree = encoder.encode(dict(state))
    arrays, dtypes = {}, []
    for i, array in enumerate(encoder.arrays):
        dtypes.append([array.dtype.name, list(array.shape)])
        if array.dtype.name not in _NATIVE_DTYPES:
            # bfloat16 and its like: numpy knows them, safetensors does not.
            array = np.frombuffer(array.tobytes(), np.uint8)
        arrays[str(i)] = np.require(array, requirements="C")
    try:
        header = json.dumps({"tree": tree, "arrays": dtypes})
    except (TypeError, ValueError) as error:
        raise StateError(f"The state cannot be written as JSON: {error}.") from error
    try:
        save_file(arrays, path, metadata={"algoperf": header})
    except SafetensorError as error:
        # safetensors reports a full disk as an error of its own.
        raise OSError(f"{path} cannot be written: {error}.") from error
    _sync(path)


def _read(
    path: Path, backend: Backend, template: Mapping[str, Any], only: Collection[str] | None = None
) -> dict[str, Any]:
    """The state in a file, or `only` some entries of it."""
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["algoperf"])
        arrays = [_as_dtype(file.get_tensor(str(i)), dtype, shape) for i, (dtype, shape) in enumerate(header["arrays"])]
    tree = header["tree"]
    if only is not None:
        tree = tree | {"items": [[name, node] for name, node in tree["items"] if name in only]}
    state: dict[str, Any] = Decoder(backend, arrays).decode(tree, dict(template))
    return state


def _as_dtype(array: np.ndarray, dtype: str, shape: list[int]) -> np.ndarray:
    if array.dtype.name == dtype:
        return array.reshape(shape)
    return np.frombuffer(array.tobytes(), np.dtype(dtype)).reshape(shape)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
