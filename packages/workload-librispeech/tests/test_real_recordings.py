"""Real recordings in the published layout: five utterances of LibriVox, of which LibriSpeech is made.

They come with a Debian package.
"""

import os
import re
import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest
from speech_files import LibriSpeech, job

from algoperf_librispeech.prepare import prepare_files


def without(reason):
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.mark.timeout(600)
def test_real_recordings_are_prepared_and_read_back_bit_for_bit(tmp_path):
    if shutil.which("apt-get") is None or not any(Path("/etc/apt").glob("sources.list*")):
        without("there is no apt here")
    command = ["apt-get", "download", "pocketsphinx-testdata"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if result.returncode:
        without(f"apt-get could not fetch it: {result.stderr}")
    (package,) = tmp_path.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, tmp_path / "package"], check=True)
    folder = tmp_path / "package" / "usr" / "share" / "pocketsphinx" / "test" / "data" / "librivox"
    speech = LibriSpeech(tmp_path / "downloads")
    speech.max_samples, speech.max_characters, speech.max_tokens = 320_000, 256, 256
    for number, line in enumerate((folder / "transcription").read_text().splitlines()):
        text, name = re.fullmatch(r"<s> (.*) </s> \((.*)\)", line).groups()
        with wave.open(str(folder / f"{name}.wav")) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        # In place of noise.
        speech.add(speech.key("train-clean-100", number), samples, text.upper())
    assert number == 4
    assert sum(speech.num_samples[speech.key("train-clean-100", i)] for i in range(5)) == 395_680
    speech.write()
    prepare_files(job(tmp_path / "full", speech.folder), speech.published)
    speech.check(tmp_path / "full")
