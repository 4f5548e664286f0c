"""eSpeak NG (https://github.com/espeak-ng/espeak-ng), a synthesiser by formants, through its C library.

As a program it reads lines, a JSON list of lists, from its input, and writes the audio of each: its size and its
samples. It is run as one because how eSpeak says something depends on all that it has said before in its process.
"""

import ctypes
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

try:
    import espeakng_loader
except ImportError as error:
    raise ImportError(
        "Preparing the mini data of LibriSpeech needs a voice: `pip install 'algoperf-workload-librispeech[mini]'`."
    ) from error

RATE_HZ = 22_050
# Of speak_lib.h: audio is handed to a function, what a text's bytes are, and two parameters.
_SYNCHRONOUS, _UTF8 = 2, 1
_RATE, _PITCH = 1, 3


class Line(NamedTuple):
    """What is to be said, and how.

    Attributes:
        text: the words.
        voice: one of eSpeak's.
        rate: words a minute.
        pitch: 0 to 100.
    """

    text: str
    voice: str
    rate: int
    pitch: int


def speak(lines: Sequence[Line]) -> Iterator[np.ndarray]:
    """The audio of each line, int16 [samples], `RATE_HZ`. Raises ValueError if there is no such voice."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    spoken: list[np.ndarray] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def listen(samples: Any, number: int, events: Any) -> int:
        if samples and number:
            spoken.append(np.ctypeslib.as_array(samples, (number,)).copy())
        return 0

    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    assert rate == RATE_HZ, rate
    library.espeak_SetSynthCallback(listen)
    for line in lines:
        spoken.clear()
        text = line.text.encode()
        if library.espeak_SetVoiceByName(line.voice.encode()):
            raise ValueError(f"eSpeak has no voice {line.voice!r}.")
        library.espeak_SetParameter(_RATE, line.rate, 0)
        library.espeak_SetParameter(_PITCH, line.pitch, 0)
        library.espeak_Synth(text, len(text) + 1, 0, 0, 0, _UTF8, None, None)
        if not spoken:
            raise ValueError(f"eSpeak says nothing for {line.text!r}.")
        yield np.concatenate(spoken)


def main() -> None:
    """See the module."""
    for samples in speak([Line(*line) for line in json.load(sys.stdin)]):
        sys.stdout.buffer.write(np.int64(samples.size).tobytes() + samples.tobytes())


if __name__ == "__main__":
    main()
