"""Padding in PyTorch: padded frames, samples and utterances change nothing, in training and in evaluation."""

from typing import Any

import pytest

from algoperf.spec import ForwardPassMode, Framework
from algoperf.testing.frameworks import require

require(Framework.PYTORCH)

import torch  # noqa: E402
from speech_models_torch import (  # noqa: E402
    SPECS,
    TRAIN,
    assert_same_gradients,
    logits_of,
    loss_and_gradients,
    make,
    make_batch,
    statistics_of,
)

from algoperf_librispeech import torch_spec_augment  # noqa: E402
from algoperf_librispeech.log_mel import FRAME_STEP  # noqa: E402
from algoperf_librispeech.spec import SpecAugment  # noqa: E402
from algoperf_librispeech.torch_deepspeech import Recurrent  # noqa: E402

every_workload = pytest.mark.parametrize("name", SPECS)
every_mode = pytest.mark.parametrize("mode", ForwardPassMode)

# Some padding is behind each utterance: the convolutions see silence there, and zeros behind the last frame.
BATCH = make_batch(96, [90, 61], [5, 3])


def padded(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with two more rows, the first and the last, and longer ones, where there is noise but no audio."""
    # Of four steps, so that "SAME" pads frames as before.
    audio, paddings = batch["inputs"]
    audio = torch.nn.functional.pad(audio, (0, 8 * FRAME_STEP, 1, 1))
    paddings = torch.nn.functional.pad(paddings, (0, 8 * FRAME_STEP, 1, 1), value=1.0)
    audio = torch.where(paddings > 0, 9000 * torch.randn_like(audio), audio)
    ids, id_paddings = batch["targets"]
    targets = (
        torch.nn.functional.pad(ids, (0, 2, 1, 1)),
        torch.nn.functional.pad(id_paddings, (0, 2, 1, 1), value=1.0),
    )
    weights = torch.nn.functional.pad(batch["weights"], (1, 1))
    return {"inputs": (audio, paddings), "targets": targets, "weights": weights}


def fix_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """SpecAugment hides the same of the two utterances in both batches."""
    draw = torch_spec_augment.draw
    torch.manual_seed(0)
    uniforms = draw(SpecAugment(), 2, BATCH["weights"].device)

    def drawn(spec: Any, batch_size: int, device: Any) -> Any:
        if batch_size == 2:
            return uniforms
        return torch_spec_augment.Uniforms(*(torch.nn.functional.pad(u, (0, 0, 1, 1), value=0.5) for u in uniforms))

    monkeypatch.setattr(torch_spec_augment, "draw", drawn)


@every_workload
@every_mode
def test_padding_changes_nothing(name: str, mode: ForwardPassMode, monkeypatch: pytest.MonkeyPatch) -> None:
    fix_masks(monkeypatch)
    results = []
    for batch in (BATCH, padded(BATCH)):
        case = make(name, spec_augment=SpecAugment())
        logits, paddings = logits_of(case, batch, mode)
        assert (logits[paddings > 0] == 0).all()
        assert paddings.shape == logits.shape[:2]
        loss, gradients = loss_and_gradients(case, batch, mode)
        results.append((logits[paddings == 0], loss, gradients, statistics_of(case[1])))
    (logits, loss, gradients, statistics), (others, other_loss, other_gradients, other_statistics) = results
    # A quarter of the frames, rounded up.
    assert len(logits) == len(others) == 23 + 16
    torch.testing.assert_close(others, logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other_loss, loss, rtol=1e-5, atol=0)
    assert_same_gradients(other_gradients, gradients)
    torch.testing.assert_close(other_statistics, statistics, rtol=1e-4, atol=1e-6)


@every_workload
@every_mode
def test_padding_alone_is_harmless(name: str, mode: ForwardPassMode) -> None:
    case, batch = make(name), make_batch(40, [0, 0], [0, 0])
    logits, paddings = logits_of(case, batch, mode)
    assert (paddings == 1).all()
    assert (logits == 0).all()
    loss, gradients = loss_and_gradients(case, batch, mode)
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients.values())
    assert all(array.isfinite().all() for array in statistics_of(case[1]).values())


@every_workload
def test_utterances_do_not_reach_each_other_in_evaluation(name: str) -> None:
    case, other = make(name), make_batch(96, [90, 61], [5, 3])
    other["inputs"][0][1] *= -0.3
    first, second = (logits_of(case, batch)[0] for batch in (BATCH, other))
    assert torch.equal(first[0], second[0])
    assert abs(first[1] - second[1])[:16].amax(dim=-1).min() > 1e-5


@pytest.mark.parametrize("num_frames", [9, 10, 11, 12])
def test_every_number_of_frames_is_a_quarter_rounded_up(num_frames: int) -> None:
    """The padding of the convolutions, against TensorFlow's rule."""
    _, model = make("librispeech_deepspeech_tanh")
    subsampling, x = model.subsampling, torch.randn(2, num_frames, 80)
    paddings = (torch.arange(num_frames) >= torch.tensor([[num_frames], [4]])).float()
    found, found_paddings = subsampling(x, paddings)
    y = x[:, None]
    for conv in (subsampling.conv1, subsampling.conv2):
        totals = [max((-(-size // 2) - 1) * 2 + 3 - size, 0) for size in y.shape[2:]]
        (top, left), (bottom, right) = [t // 2 for t in totals], [t - t // 2 for t in totals]
        y = torch.nn.functional.conv2d(
            torch.nn.functional.pad(y, (left, right, top, bottom)), conv.weight, conv.bias, stride=2
        )
        paddings = paddings[:, ::2]
        y = torch.tanh(y) * (1 - paddings)[:, None, :, None]
    # Frequencies are the outer axis.
    expected = subsampling.linear(torch.stack([y[:, :, :, k] for k in range(20)], dim=1).flatten(1, 2).transpose(1, 2))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(found_paddings, paddings)
    assert found.shape[1] == -(-num_frames // 4)


@pytest.mark.parametrize("name", ["librispeech_deepspeech", "librispeech_deepspeech_no_resnet"])
def test_packed_and_unpacked_sequences_are_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUs are given the former, and CPUs the latter; with a row of padding, too."""
    batch, results = make_batch(96, [61, 0, 96, 5], [3, 0, 4, 1]), []
    for kind in ("packed", "unpacked"):
        case = make(name)
        for other in ("packed", "unpacked"):
            monkeypatch.setattr(Recurrent, other, getattr(Recurrent, kind))
        results.append((logits_of(case, batch, TRAIN)[0], *loss_and_gradients(case, batch, TRAIN)))
        monkeypatch.undo()
    (logits, loss, gradients), (others, other_loss, other_gradients) = results
    torch.testing.assert_close(others, logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other_loss, loss, rtol=1e-5, atol=0)
    assert_same_gradients(other_gradients, gradients)
