"""What is PyTorch's own: modes, types of tensors, the table's chunks; and evaluation, errors, the output layer."""

from typing import Any

import numpy as np
import pytest

from algoperf.seeds import random_key
from algoperf.spec import ForwardPassMode, Framework, Scale
from algoperf.testing.frameworks import require
from algoperf_criteo.spec import CRITEO1TB, CRITEO1TB_LAYERNORM, CRITEO1TB_RESNET

require(Framework.PYTORCH)

import torch  # noqa: E402

from algoperf.backends.pytorch import TorchBackend  # noqa: E402
from algoperf_criteo.torch_model import dot_products  # noqa: E402
from algoperf_criteo.torch_workload import CriteoTorch  # noqa: E402

TRAIN, EVAL = ForwardPassMode.TRAIN, ForwardPassMode.EVAL


@pytest.fixture(scope="module")
def workload() -> CriteoTorch:
    return CriteoTorch(CRITEO1TB.at(Scale.MINI), TorchBackend())


@pytest.fixture(scope="module")
def params(workload: CriteoTorch) -> Any:
    return workload.init_model_fn(random_key(0))[0]


def make_batch() -> dict[str, torch.Tensor]:
    """Three examples and one of padding."""
    rng = np.random.default_rng(0)
    inputs = np.concatenate([rng.random((4, 13)), rng.integers(0, 4096, (4, 26))], axis=1)
    arrays = {"inputs": inputs, "targets": [[1], [0], [1], [0]], "weights": [[1], [1], [1], [0]]}
    return {name: torch.tensor(np.asarray(array), dtype=torch.float32) for name, array in arrays.items()}


def test_the_mode_of_each_call_decides(workload: CriteoTorch, params: Any) -> None:
    for mode in (TRAIN, EVAL, TRAIN):
        workload.model_fn(params, make_batch(), None, mode, None, True)
        assert {module.training for module in params.modules()} == {mode is TRAIN}


def test_eval_step_gives_sums_over_real_examples(workload: CriteoTorch, params: Any) -> None:
    batch = make_batch()
    out = workload.compiled_eval_step(params, None, batch, None)
    logits = workload.model_fn(params, batch, None, EVAL, None, False)[0]
    losses = workload.loss_fn(batch["targets"], logits)["per_example"]
    assert out.keys() == {"loss", "examples"}
    assert out["examples"] == 3
    assert out["loss"].item() == pytest.approx(losses[:3].sum().item(), rel=1e-6)
    assert out["loss"].shape == out["examples"].shape == ()


def test_losses_of_large_logits_are_exact(workload: CriteoTorch) -> None:
    logits = torch.tensor([[-90.0], [17], [-17], [90]], requires_grad=True)
    loss = workload.loss_fn(torch.tensor([[1.0], [1], [0], [0]]), logits)
    loss["summed"].backward()
    np.testing.assert_allclose(loss["per_example"].detach(), [90, 4.139938e-08, 4.139938e-08, 90], rtol=1e-6)
    np.testing.assert_allclose(logits.grad[:, 0], [-1, -4.139938e-08, 4.139938e-08, 1], rtol=1e-6)


def test_masks_may_be_fractions_and_options_unknown(workload: CriteoTorch) -> None:
    batch, mask = make_batch(), torch.tensor([1, 0.25, 0, 2])
    logits = torch.tensor([[0.5], [-1], [2], [0]])
    plain = workload.loss_fn(batch["targets"], logits)
    masked = workload.loss_fn(batch["targets"], logits, mask[:, None], label_smoothing=0.3, unheard_of=1)
    np.testing.assert_array_equal(masked["per_example"], plain["per_example"] * mask)
    assert masked["n_valid_examples"] == 3.25
    for entry in (*plain.values(), *masked.values()):
        assert isinstance(entry, torch.Tensor)
        assert entry.dtype == torch.float32


@pytest.mark.parametrize("spec", [CRITEO1TB, CRITEO1TB_LAYERNORM, CRITEO1TB_RESNET])
def test_parameters_of_a_shorter_type_are_computed_in_it(spec: Any) -> None:
    workload, batch = CriteoTorch(spec.at(Scale.MINI), TorchBackend()), make_batch()
    shorter = workload.init_model_fn(random_key(0))[0].bfloat16()
    logits = workload.model_fn(shorter, batch, None, TRAIN, None, True, dropout_rate=0.1)[0]
    assert logits.dtype == torch.bfloat16
    loss, exact = (workload.loss_fn(batch["targets"], x) for x in (logits, logits.float()))
    for key, value in exact.items():
        assert loss[key].dtype == torch.float32
        assert torch.equal(loss[key], value)
    # In such a type 2,064 and 2,065 are one number; as ids they are not. Larger embeddings, to see them in the logits.
    for name, parameter in shorter.named_parameters():
        parameter.data.mul_(128 if name.startswith("embedding_chunk") else 1)
    found, of_others = (
        workload.model_fn(
            shorter, {"inputs": batch["inputs"].index_fill(1, torch.arange(13, 39), id_)}, None, EVAL, None, False
        )[0]
        for id_ in (2_064, 2_065)
    )
    assert (found != of_others).any()


def test_a_model_state_is_refused(workload: CriteoTorch, params: Any) -> None:
    with pytest.raises(ValueError, match="model_state"):
        workload.model_fn(params, make_batch(), {}, EVAL, None, False)


def test_dot_products_are_of_all_pairs_in_rows_of_the_upper_triangle() -> None:
    features = torch.randn(2, 3, 5)
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    expected = torch.stack([(features[:, i] * features[:, j]).sum(-1) for i, j in pairs], dim=1)
    torch.testing.assert_close(dot_products(features), expected)


def test_ids_read_the_rows_of_the_joined_chunks(params: Any) -> None:
    table = torch.cat([p for name, p in params.named_parameters() if name.startswith("embedding_chunk")])
    ids = torch.arange(len(table)).flip(0).reshape(-1, 2)
    assert torch.equal(params.embed(ids), table[ids])


def test_the_bias_of_the_output_deviates_by_one(workload: CriteoTorch) -> None:
    models = (workload.init_model_fn(random_key(seed))[0] for seed in range(100))
    biases = np.array([model.output.bias.item() for model in models])
    assert abs(biases.mean()) < 5 / len(biases) ** 0.5
    assert abs(biases.std() - 1) < 5 / (2 * len(biases)) ** 0.5


@pytest.mark.parametrize("spec", [CRITEO1TB, CRITEO1TB_LAYERNORM, CRITEO1TB_RESNET])
def test_output_parameters_are_those_of_the_last_layer(spec: Any) -> None:
    workload = CriteoTorch(spec, TorchBackend())
    assert [key for key in workload.param_shapes if workload.is_output_params(key)] == ["output.weight", "output.bias"]
