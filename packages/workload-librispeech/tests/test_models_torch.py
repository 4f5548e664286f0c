"""What the goldens leave open, in PyTorch: dropout, errors, evaluation, wrappers, types, initial values."""

import copy
import math
from typing import Any

import numpy as np
import pytest

from algoperf.spec import Framework
from algoperf.testing.frameworks import require

require(Framework.PYTORCH)

import torch  # noqa: E402
from speech_models_torch import (  # noqa: E402
    CONFORMERS,
    EVAL,
    HIDDEN,
    SPECS,
    TRAIN,
    VOCAB,
    WIDTH,
    logits_of,
    loss_and_gradients,
    make,
    make_batch,
    make_workload,
    small_spec,
)

from algoperf_librispeech import torch_layers  # noqa: E402

BATCH = make_batch(64, [60, 33, 8, 0], [5, 3, 5, 0])
every_workload = pytest.mark.parametrize("name", SPECS)
every_model = pytest.mark.parametrize("name", ["librispeech_conformer", "librispeech_deepspeech"])


def watch(model: Any) -> tuple[list[str], Any]:
    """Places of dropout, and what to put in its place to note them."""
    outputs: dict[int, tuple[str, Any]] = {}
    places: list[str] = []

    def after(name: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            outputs[id(output)] = (name, output)

        return hook

    def before(name: str) -> Any:
        def hook(module: Any, args: Any) -> None:
            # What comes out of dropout where no layer's output went in is a seven: who sees it is the next layer.
            if isinstance(args[0], torch.Tensor) and (args[0] == 7).all():
                places.append(f"before {name}")

        return hook

    for name, module in model.named_modules():
        module.register_forward_pre_hook(before(name))
        module.register_forward_hook(after(name))

    def recorded(x: torch.Tensor, rate: float) -> torch.Tensor:
        name, _ = outputs.get(id(x), ("", None))
        kind = "activations" if (x >= 0).all() else "values"
        places.append(f"after {name}" if name else f"{x.shape[-1]} {kind}")
        return torch.full_like(x, 7) if x.shape[-1] == HIDDEN else x

    return places, recorded


@every_workload
def test_places_of_dropout(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place by the layer whose output is dropped, or by the width and the layer that is given what is left."""
    case = make(name)
    places, recorded = watch(case[1])
    monkeypatch.setattr(torch_layers, "dropout", recorded)
    logits_of(case, BATCH, TRAIN, 0.3)
    if SPECS[name] in CONFORMERS:
        expected = [f"{WIDTH} values"]
        for part in ("feed_forward1", "attention.out_proj", "convolution.linear2", "feed_forward2"):
            if part.startswith("feed"):
                expected += [f"{HIDDEN} values", f"before blocks.0.{part}.linear2", f"after blocks.0.{part}.linear2"]
            else:
                expected.append(f"after blocks.0.{part}")
    else:
        kind = "values" if SPECS[name].model.activation == "tanh" else "activations"
        expected = ["after subsampling.linear", f"{WIDTH} {kind}"]
    assert places == expected


@every_model
def test_rates_of_dropout(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr(torch_layers, "dropout", lambda x, rate: rates.append(rate) or x)
    for mode, rate, expected in ((TRAIN, 0.3, {0.3}), (TRAIN, None, {0.1}), (TRAIN, 0, set()), (EVAL, 0.3, set())):
        rates.clear()
        logits_of(make(name), BATCH, mode, rate)
        assert set(rates) == expected


@every_model
def test_mode_decides_on_dropout(name: str) -> None:
    case = make(name)

    def logits(mode: Any, rate: float, seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return logits_of(case, BATCH, mode, rate)[0]

    assert torch.equal(logits(TRAIN, 0.4, 1), logits(TRAIN, 0.4, 1))
    assert case[1].training
    assert abs(logits(TRAIN, 0.4, 1) - logits(TRAIN, 0.4, 2)).max() > 1e-2
    assert torch.equal(logits(EVAL, 0.4, 1), logits(EVAL, 0.0, 2))
    assert not case[1].training


def test_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its probabilities are not dropped, and it sees real frames, or any where there are none."""
    attend, calls = torch.nn.functional.scaled_dot_product_attention, []

    def recorded(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(kwargs)
        return attend(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", recorded)
    logits_of(make("librispeech_conformer"), BATCH, TRAIN, 0.3)
    (options,) = calls
    assert options.keys() == {"attn_mask", "scale"}
    # A quarter of 60, 33, 8 and 0 frames, rounded up; there are 16.
    assert options["attn_mask"].expand(-1, 1, 1, 16).sum(dim=-1).flatten().tolist() == [15, 9, 2, 16]


def evaluated(case: Any, batch: Any) -> dict[str, torch.Tensor]:
    workload, model = case
    return workload.compiled_eval_step(model, None, batch, None)


@every_workload
def test_eval_step(name: str) -> None:
    case = make(name)
    output = evaluated(case, BATCH)
    assert not case[1].training
    logits, paddings = logits_of(case, BATCH)
    loss = case[0].loss_fn(BATCH["targets"], (logits, paddings), BATCH["weights"])
    assert output.keys() == {"losses", "tokens", "predictions", "targets", "weights"}
    torch.testing.assert_close(output["losses"], loss["per_example"])
    # The third has two frames for five tokens, and the fourth is padding.
    assert output["tokens"].tolist() == [5, 3, 0, 0]
    assert (output["losses"] > 0).tolist() == [True, True, False, False]
    expected = logits.argmax(dim=-1) * (paddings == 0)
    assert torch.equal(output["predictions"], expected.int())
    assert (output["predictions"] > 0).any()
    assert torch.equal(output["targets"], BATCH["targets"][0])
    assert torch.equal(output["weights"], BATCH["weights"])
    masked = evaluated(case, BATCH | {"weights": torch.tensor([0.0, 1, 1, 1]).to(paddings)})
    assert masked["tokens"].tolist() == [0, 3, 0, 0]
    assert masked["losses"][0] == 0
    floats = {key: torch.float32 for key in ("losses", "tokens", "weights")}
    assert {k: v.dtype for k, v in output.items()} == floats | dict.fromkeys(("predictions", "targets"), torch.int32)


class Wrapper(torch.nn.Module):
    """As DDP: offers the forward pass of the module inside, and no other method of it."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any) -> Any:
        return self.module(*args)


# PyTorch's compiler asks tensors between two compiled parts for their gradient, and would hide what that warns of.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@every_model
@pytest.mark.parametrize("wrap", [Wrapper, lambda model: torch.compile(model, backend="aot_eager")])
def test_wrapped_models(name: str, wrap: Any) -> None:
    case = make(name)
    wrapped = (case[0], wrap(copy.deepcopy(case[1])))
    for mode, options in ((TRAIN, {"update": True}), (TRAIN, {"use_running_average_bn": True}), (EVAL, {})):
        found, expected = (logits_of(one, BATCH, mode, **options)[0] for one in (wrapped, case))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    found, expected = (dict(one[1].named_buffers()) for one in (wrapped, case))
    for key, buffer in expected.items():
        (same,) = (array for other, array in found.items() if other.endswith(key))
        torch.testing.assert_close(same, buffer, rtol=1e-4, atol=1e-5)
    loss, gradients = loss_and_gradients(case, BATCH, TRAIN)
    found_loss, found_gradients = loss_and_gradients(wrapped, BATCH, TRAIN)
    torch.testing.assert_close(found_loss, loss, rtol=1e-4, atol=0)
    assert len(found_gradients) == len(gradients)
    output = evaluated(wrapped, BATCH)
    for key, value in evaluated(case, BATCH).items():
        torch.testing.assert_close(output[key], value, rtol=1e-4, atol=1e-4, msg=key)


@every_model
def test_parameters_of_a_shorter_type_are_computed_in_it(name: str) -> None:
    workload, model = make(name)
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    for mode in (TRAIN, EVAL):
        logits, paddings = logits_of((workload, model), BATCH, mode, 0.1)
        assert logits.dtype is paddings.dtype is torch.float32
        assert logits.isfinite().all()


@every_model
def test_a_model_may_be_converted(name: str) -> None:
    """With its running statistics."""
    workload, model = make(name)
    model.bfloat16()
    for mode in (TRAIN, EVAL):
        logits, _ = logits_of((workload, model), BATCH, mode, 0.1)
        assert logits.isfinite().all()


@every_model
def test_mixed_precision(name: str) -> None:
    case = make(name)
    logits, _ = logits_of(case, BATCH, EVAL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        short, paddings = logits_of(case, BATCH, EVAL)
        loss = case[0].loss_fn(BATCH["targets"], (short, paddings))["summed"]
    loss.backward()
    assert not torch.equal(short, logits)
    torch.testing.assert_close(short.float(), logits, rtol=0, atol=0.1 * logits.abs().max().item())


@every_model
def test_bad_input_is_refused(name: str) -> None:
    case = make(name)
    audio, paddings = BATCH["inputs"]
    for inputs in ((audio, paddings[:, 1:]), (audio[0], paddings[0]), (audio[:, :400], paddings[:, :400])):
        with pytest.raises(ValueError, match=r"needs audio and paddings of the same shape \[B, at least 401\], not \("):
            logits_of(case, {"inputs": inputs})
    with pytest.raises(ValueError, match="model_state"):
        case[0].model_fn(case[1], BATCH, {}, EVAL, None, False)
    assert logits_of(case, {"inputs": (audio[:, :401], paddings[:, :401])})[0].shape == (4, 1, VOCAB)


@every_workload
def test_output_parameters_are_those_of_the_last_layer(name: str) -> None:
    workload = make_workload(SPECS[name])
    keys = [key for key in workload.param_shapes if workload.is_output_params(key)]
    assert keys == ["output.weight", "output.bias"]


@every_workload
def test_models_of_no_memory(name: str) -> None:
    workload, model = make(name)
    with torch.device("meta"):
        empty = workload.build_model()
    assert {tensor.device.type for tensor in (*empty.parameters(), *empty.buffers())} == {"meta"}
    assert {n: t.shape for n, t in empty.state_dict().items()} == {n: t.shape for n, t in model.state_dict().items()}


def matrices(name: str, array: np.ndarray) -> list[np.ndarray]:
    """The logical matrices that a parameter holds."""
    parts = 3 if "in_proj" in name else 4 if "weight_hh" in name else 1
    return np.split(array, parts)


def check_initial(name: str, matrix: np.ndarray) -> None:
    if "weight_hh" in name:
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-5)
        return
    if "weight_ih" in name:
        # Normal, cut at two sigma.
        deviation, largest = matrix.shape[1] ** -0.5, 2 * matrix.shape[1] ** -0.5 / 0.8796256610342398
    else:
        receptive = math.prod(matrix.shape[2:])
        largest = math.sqrt(6 / (receptive * (matrix.shape[0] + matrix.shape[1])))
        deviation = largest / math.sqrt(3)
    tolerance = 5 / matrix.size**0.5
    assert abs(matrix.mean()) < deviation * tolerance, name
    assert matrix.std() == pytest.approx(deviation, rel=tolerance), name
    assert 0.95 * largest < abs(matrix).max() <= largest * (1 + 1e-6), name


@every_model
def test_initial_values(name: str) -> None:
    # Wide enough for statistics, and no two sizes are equal.
    sizes = {"width": 96, "subsampling_channels": 20, "vocab_size": 150}
    sizes |= {"mlp_dim": 200, "num_heads": 4} if SPECS[name] in CONFORMERS else {}
    workload = make_workload(small_spec(name, **sizes))
    (model, state), (other, _) = (workload.init_model_fn(np.array([0, seed], np.uint32)) for seed in (1, 2))
    assert state is None
    for (key, parameter), changed in zip(model.named_parameters(), other.parameters(), strict=True):
        array = parameter.detach().cpu().numpy()
        if array.ndim == 1:
            # Biases, scales, which are stored less one, and the scale of queries.
            assert (array == 0).all(), key
            continue
        parts = matrices(key, array)
        for matrix in parts:
            check_initial(key, matrix)
        assert len({part.ravel()[0] for part in parts}) == len(parts)
        assert abs(array - changed.detach().cpu().numpy()).max() > 1e-3, key
    for key, buffer in model.named_buffers():
        if "running" in key:
            assert (buffer == float("var" in key)).all()
