"""The log-mel front end in JAX; `log_mel.py` says what it is."""

import jax
import jax.numpy as jnp

from algoperf_librispeech.log_mel import (
    FFT_SIZE,
    FRAME_SIZE,
    FRAME_STEP,
    MIN_ENERGY,
    PRE_EMPHASIS,
    SAMPLE_SCALE,
    WINDOW_SIZE,
    mel_weights,
    num_frames,
    statistics,
    window,
)


def log_mel(audio: jax.Array, paddings: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Normalised log-mel energies of each frame.

    A frame is padding if all its samples are. Its energies are those of silence, which is not 0 once normalised.

    Args:
        audio: samples in the range of 16-bit integers, float32 [B, N].
        paddings: 1 where a sample is padding, whatever it is, and else 0; float32 [B, N].

    Returns:
        Features [B, F, NUM_BINS] and paddings [B, F], float32, with F the `num_frames` of N samples.
    """
    frames = jnp.concatenate(_pieces(audio * (1 - paddings) * SAMPLE_SCALE), axis=-1)[..., :WINDOW_SIZE]
    # The window begins with 0: a frame's first sample counts as the one before the second, and no more. Without it, the
    # spectrum has other phases, but the same energies.
    emphasised = frames[..., 1:] - PRE_EMPHASIS * frames[..., :-1]
    spectrum = jnp.fft.rfft(emphasised * window()[1:], FFT_SIZE)
    energies = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    # In full precision, which is not the default on GPUs: a logarithm follows.
    energies = jnp.matmul(energies, mel_weights(), precision=jax.lax.Precision.HIGHEST)
    mean, deviation = statistics()
    features = (jnp.log(jnp.maximum(energies, MIN_ENERGY)) - mean) / deviation
    return features, jnp.stack([piece.min(axis=-1) for piece in _pieces(paddings)]).min(axis=0)


def _pieces(x: jax.Array) -> list[jax.Array]:
    """What frames of [B, N] consist of: [B, F, FRAME_STEP] twice, and the rest.

    A frame is that many blocks of FRAME_STEP samples and a part of one more, so that no sample has to be gathered.
    """
    frames = num_frames(x.shape[1])
    num_blocks, rest = divmod(FRAME_SIZE, FRAME_STEP)
    size = (frames + num_blocks) * FRAME_STEP
    blocks = jnp.pad(x[:, :size], ((0, 0), (0, max(0, size - x.shape[1])))).reshape(x.shape[0], -1, FRAME_STEP)
    pieces = [blocks[:, first : first + frames] for first in range(num_blocks + 1)]
    return [*pieces[:-1], pieces[-1][..., :rest]]
