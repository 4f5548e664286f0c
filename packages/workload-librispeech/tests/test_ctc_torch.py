"""The CTC loss in PyTorch: against sums over all alignments, and what does not count."""

import itertools
from typing import Any

import numpy as np
import pytest

from algoperf.spec import Framework
from algoperf.testing.frameworks import require

require(Framework.PYTORCH)

import torch  # noqa: E402
from speech_models_torch import SPECS, make_workload  # noqa: E402

from algoperf_librispeech.torch_ctc import ctc_losses  # noqa: E402

NUM_FRAMES, VOCAB = 5, 4
# Of frames and tokens: a usual one, equal neighbours with a frame between them, one token per frame, no token, nothing.
LENGTHS = [(5, 2), (5, 3), (4, 3), (2, 2), (3, 0), (0, 0)]
IDS = [[1, 3, 0], [2, 2, 1], [3, 1, 2], [1, 2, 0], [0, 0, 0], [0, 0, 0]]
# Those which do not fit: too few frames, or none between equal neighbours, or none at all.
UNFIT_LENGTHS = [(2, 3), (2, 2), (0, 1)]
UNFIT_IDS = [[1, 2, 3], [2, 2, 0], [1, 0, 0]]


def padded(lengths: list[int], size: int) -> torch.Tensor:
    return (torch.arange(size) >= torch.tensor(lengths)[:, None]).float()


def examples(lengths: list[tuple[int, int]], ids: list[list[int]]) -> tuple[Any, Any]:
    frames, tokens = zip(*lengths, strict=True)
    torch.manual_seed(0)
    logits = torch.randn(len(lengths), NUM_FRAMES, VOCAB)
    return (torch.tensor(ids, dtype=torch.int32), padded(tokens, 3)), (logits, padded(frames, NUM_FRAMES))


LABELS, LOGITS = examples(LENGTHS, IDS)
ALL_LABELS, ALL_LOGITS = examples(LENGTHS + UNFIT_LENGTHS, IDS + UNFIT_IDS)


def plain_loss(logits: np.ndarray, tokens: list[int]) -> float:
    """Minus the logarithm of the sum over all ways to say the tokens, [T, V]."""
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    total = 0.0
    for path in itertools.product(range(VOCAB), repeat=len(logits)):
        said = [token for token, _ in itertools.groupby(path) if token != 0]
        if said == tokens:
            total += np.prod([row[token] for row, token in zip(probabilities, path, strict=True)])
    return -np.log(total)


def loss_fn(*arrays: Any, **options: Any) -> dict[str, torch.Tensor]:
    workload: Any = make_workload(SPECS["librispeech_conformer"])
    loss: dict[str, torch.Tensor] = workload.loss_fn(*arrays, **options)
    return loss


def test_losses_are_sums_over_alignments() -> None:
    loss = loss_fn(LABELS, LOGITS)
    expected = [
        plain_loss(logits[:frames].double().numpy(), ids[:tokens])
        for (frames, tokens), ids, logits in zip(LENGTHS, IDS, LOGITS[0], strict=True)
    ]
    np.testing.assert_allclose(loss["per_example"], expected, rtol=1e-5, atol=1e-7)
    assert expected[-1] == 0
    torch.testing.assert_close(loss["summed"], loss["per_example"].sum())
    assert loss["n_valid_examples"] == 2 + 3 + 3 + 2
    assert {value.dtype for value in loss.values()} == {torch.float32}


def test_gradients_are_those_of_the_sums() -> None:
    labels, (logits, paddings) = LABELS, LOGITS
    logits = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ctc_losses(labels, (x, paddings))[0], logits)


def gradient(labels: Any, logits: Any, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Of the mean loss of a token."""
    array = logits[0].clone().requires_grad_()
    loss = loss_fn(labels, (array, logits[1]), mask)
    (loss["summed"] / loss["n_valid_examples"]).backward()
    assert array.grad is not None
    return array.grad


def test_what_does_not_fit_does_not_count() -> None:
    usual, loss = loss_fn(LABELS, LOGITS), loss_fn(ALL_LABELS, ALL_LOGITS)
    assert loss["n_valid_examples"] == usual["n_valid_examples"]
    assert loss["per_example"][len(LENGTHS) :].tolist() == [0, 0, 0]
    number = len(LENGTHS)
    found = gradient(ALL_LABELS, ALL_LOGITS)
    assert (found[number:] == 0).all()
    fitting = ((ALL_LABELS[0][:number], ALL_LABELS[1][:number]), (ALL_LOGITS[0][:number], ALL_LOGITS[1][:number]))
    torch.testing.assert_close(found[:number], gradient(*fitting))


def test_no_utterance_is_without_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """What PyTorch makes of those depends on the kind of device."""
    ctc_loss, lengths = torch.nn.functional.ctc_loss, []

    def recorded(*args: Any, **options: Any) -> torch.Tensor:
        lengths.extend(args[2].tolist())
        return ctc_loss(*args, **options)

    monkeypatch.setattr(torch.nn.functional, "ctc_loss", recorded)
    loss_fn(ALL_LABELS, ALL_LOGITS)
    assert lengths == [5, 5, 4, 2, 3, 1, 1, 1, 1]


def test_padding_does_not_count() -> None:
    """Neither ids behind a transcript, equal neighbours though they be, nor logits behind the real frames."""
    ids, (array, paddings) = LABELS[0].clone(), LOGITS
    for row, (frames, tokens) in enumerate(LENGTHS):
        ids[row, tokens:] = ids[row, tokens - 1] if tokens else 3
        array = array.clone()
        array[row, frames:] = 100.0
    found = loss_fn((ids, LABELS[1]), (array, paddings))
    torch.testing.assert_close(found["per_example"], loss_fn(LABELS, LOGITS)["per_example"])
    assert found["n_valid_examples"] == 10


def test_nothing_counts_as_one() -> None:
    labels, logits = (LABELS[0][-2:], torch.ones(2, 3)), (LOGITS[0][-2:], torch.ones(2, NUM_FRAMES))
    loss = loss_fn(labels, logits)
    assert (loss["summed"], loss["n_valid_examples"]) == (0, 1)
    assert (gradient(labels, logits) == 0).all()


@pytest.mark.parametrize("kind", [torch.float32, torch.bool])
def test_masked_examples_do_not_count_whatever_they_hold(kind: torch.dtype) -> None:
    mask = torch.tensor([1, 0, 0, 1, 1, 1]).to(kind)
    ids, array = LABELS[0].clone(), LOGITS[0].clone()
    ids[1], array[1] = 1_000_000, float("nan")
    ids[2], array[2] = -5, float("inf")
    labels, logits = (ids, LABELS[1]), (array, LOGITS[1])
    loss, whole = loss_fn(labels, logits, mask), loss_fn(LABELS, LOGITS)
    torch.testing.assert_close(loss["per_example"], whole["per_example"] * mask)
    assert loss["n_valid_examples"] == 4
    found = gradient(labels, logits, mask)
    assert (found[1:3] == 0).all()
    torch.testing.assert_close(found[0], gradient(LABELS, LOGITS)[0] * 10 / 4)


def test_masks_multiply_losses_and_tokens() -> None:
    mask = torch.tensor([0.5, 1, 0, 2, 1, 1])
    loss, whole = loss_fn(LABELS, LOGITS, mask), loss_fn(LABELS, LOGITS)
    torch.testing.assert_close(loss["per_example"], whole["per_example"] * mask)
    assert loss["n_valid_examples"] == 1 + 3 + 4


def test_label_smoothing_and_unknown_options_change_nothing() -> None:
    loss, other = loss_fn(LABELS, LOGITS), loss_fn(LABELS, LOGITS, None, label_smoothing=0.3, unheard_of=1)
    for name, value in loss.items():
        assert torch.equal(value, other[name])


def test_short_types_are_computed_in_float32() -> None:
    array = LOGITS[0].bfloat16()
    loss = loss_fn(LABELS, (array, LOGITS[1]))
    assert {value.dtype for value in loss.values()} == {torch.float32}
    expected = loss_fn(LABELS, (array.float(), LOGITS[1]))
    torch.testing.assert_close(loss["per_example"], expected["per_example"], rtol=0, atol=0)


def test_what_does_not_fit_together_is_refused() -> None:
    (ids, id_paddings), (logits, paddings) = LABELS, LOGITS
    wrong = [
        ((ids, id_paddings[:, :2]), LOGITS),
        ((ids[0], id_paddings[0]), LOGITS),
        ((ids[:2], id_paddings[:2]), LOGITS),
        (LABELS, (logits, paddings[:, :2])),
        (LABELS, (logits[..., 0], paddings)),
        (LABELS, LOGITS, torch.ones(5)),
        (LABELS, LOGITS, torch.ones(6, 3)),
    ]
    for arrays in wrong:
        with pytest.raises(ValueError, match=r"Labels and paddings \[B, L\], logits .* are needed; they have the"):
            loss_fn(*arrays)
