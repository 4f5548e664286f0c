"""The front end in PyTorch: what is heard of audio, which frames are real, and how batches get there."""

from typing import Any

import numpy as np
import pytest
from speech_goldens import GOLDEN, golden_inputs

from algoperf.spec import Framework
from algoperf.testing.frameworks import require
from algoperf_librispeech import log_mel

require(Framework.PYTORCH)

import torch  # noqa: E402

from algoperf.backends.pytorch import TorchBackend  # noqa: E402
from algoperf_librispeech import torch_log_mel  # noqa: E402
from algoperf_librispeech.torch_audio import finish  # noqa: E402


def heard(audio: np.ndarray, paddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    features, frame_paddings = torch_log_mel.log_mel(torch.from_numpy(audio), torch.from_numpy(paddings))
    assert features.dtype is frame_paddings.dtype is torch.float32
    return features.numpy(), frame_paddings.numpy()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-9000, 9000, shape).astype(np.float32)


def test_features_are_those_of_the_public_implementation() -> None:
    features, paddings = heard(*golden_inputs()["inputs"])
    with np.load(GOLDEN / "log_mel.npz") as expected:
        np.testing.assert_allclose(features.ravel()[::37], expected["features"], rtol=0, atol=2e-5)
        np.testing.assert_array_equal(paddings, expected["paddings"])


def test_features_are_those_of_librosa() -> None:
    import librosa

    audio = noise(1, 5000)
    emphasised = librosa.effects.preemphasis(audio[0] / 2**15, coef=0.97)
    # librosa puts a window into the middle of the 512 samples.
    centred = np.pad(emphasised, (56, 512))
    spectrum = librosa.stft(centred, n_fft=512, hop_length=160, win_length=400, center=False)
    energies = log_mel.mel_weights().T @ np.abs(spectrum) ** 2
    mean, deviation = log_mel.statistics()
    expected = (np.log(np.maximum(energies.T, 1e-5)) - mean) / deviation
    features, _ = heard(audio, np.zeros_like(audio))
    np.testing.assert_allclose(features[0], expected[: features.shape[1]], rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", [401, 560, 561, 720, 721, 4000])
def test_frames_lie_in_the_audio_as_a_whole(size: int) -> None:
    features, paddings = heard(noise(1, size), np.zeros((1, size), np.float32))
    assert features.shape == (1, log_mel.num_frames(size), 80)
    assert paddings.shape == (1, log_mel.num_frames(size))


def test_a_frame_is_real_if_a_sample_of_it_is() -> None:
    lengths, size = np.array([0, 1, 160, 161, 1439, 1440, 1441, 2000]), 2000
    paddings = (np.arange(size) >= lengths[:, None]).astype(np.float32)
    _, found = heard(noise(len(lengths), size), paddings)
    num_frames = log_mel.num_frames(size)
    assert (found == 0).sum(axis=1).tolist() == [min(num_frames, -(-length // 160)) for length in lengths]
    assert (np.diff(found, axis=1) >= 0).all()
    assert set(np.unique(found)) == {0, 1}


def test_padded_samples_are_not_heard() -> None:
    paddings = (np.arange(3000) >= np.array([[1234], [3000]])).astype(np.float32)
    quiet, loud = noise(2, 3000) * (1 - paddings), noise(2, 3000)
    np.testing.assert_array_equal(heard(quiet, paddings)[0], heard(loud, paddings)[0])
    # Silence is not zero: the mean over LibriSpeech is.
    mean, deviation = log_mel.statistics()
    silence = np.broadcast_to((np.log(np.float32(1e-5)) - mean) / deviation, (5, 80))
    np.testing.assert_allclose(heard(loud, paddings)[0][0, -5:], silence, rtol=1e-5)


def test_the_last_sample_of_a_frame_is_not_used() -> None:
    audio, paddings = noise(1, 401), np.zeros((1, 401), np.float32)
    features, _ = heard(audio, paddings)
    for sample, is_used in ((400, False), (399, True), (1, True)):
        changed = audio.copy()
        changed[0, sample] += 5000
        assert (heard(changed, paddings)[0] != features).any() == is_used, sample


def test_mixed_precision_does_not_reach_the_front_end() -> None:
    audio, paddings = (torch.from_numpy(array) for array in golden_inputs()["inputs"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, _ = torch_log_mel.log_mel(audio, paddings)
    assert torch.equal(features, torch_log_mel.log_mel(audio, paddings)[0])


def test_batches_are_finished_on_the_device() -> None:
    audio = np.array([[-32768, 32767, 5, 6], [1, 2, 3, 4], [0, 0, 0, 0]], np.int16)
    # The unknown token has the number of padding. What is behind the end does not count.
    ids = np.array([[5, 0, 7, 2], [2, 2, 9, 0], [0, 0, 0, 0]], np.int32)
    batch = {
        "inputs": audio,
        "lengths": np.array([4, 3, 0], np.int32),
        "targets": ids,
        "weights": np.array([1, 1, 0.0]),
    }
    placed = TorchBackend().place_batch(batch)
    finished: dict[str, Any] = finish(placed)
    assert finished.keys() == {"inputs", "targets", "weights"}
    (samples, paddings), (tokens, token_paddings) = finished["inputs"], finished["targets"]
    assert samples.dtype is paddings.dtype is token_paddings.dtype is torch.float32
    np.testing.assert_array_equal(samples.cpu(), audio)
    assert paddings.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]]
    assert tokens is placed["targets"]
    assert token_paddings.tolist() == [[0, 0, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1]]
    assert finished["weights"] is placed["weights"]
    # The batch itself stays as it was.
    assert placed["inputs"].dtype is torch.int16
