"""What the goldens leave open, in PyTorch: dropout, padding, masks, errors, evaluation."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from algoperf.spec import ForwardPassMode, Framework, Scale
from algoperf.testing.frameworks import require
from algoperf_ogbg.graphs import GraphsTuple
from algoperf_ogbg.spec import OGBG, OGBG_MODEL_SIZE

require(Framework.PYTORCH)

import torch  # noqa: E402
from torch.utils import _pytree as pytree  # noqa: E402

from algoperf.backends.pytorch import TorchBackend  # noqa: E402
from algoperf_ogbg.torch_model import OgbgTorch, dropout  # noqa: E402

# With the rate of full scale: at mini scale it is 0.
MINI = replace(OGBG.at(Scale.MINI), dropout_rate=OGBG.dropout_rate)


@pytest.fixture(scope="module")
def workload() -> OgbgTorch:
    return OgbgTorch(MINI, TorchBackend())


@pytest.fixture(scope="module")
def params(workload: OgbgTorch) -> Any:
    return workload.init_model_fn(np.zeros(2, np.uint32))[0]


def make_batch(padding: float = 0.0) -> dict[str, Any]:
    """Two graphs of 3 and 2 nodes, and one of padding: 3 nodes filled with `padding`, and 2 edges."""
    rng = np.random.default_rng(0)
    nodes, edges = rng.normal(size=(8, 9)), rng.normal(size=(8, 3))
    nodes[5:], edges[6:] = padding, padding
    graph = GraphsTuple(
        nodes=nodes.astype(np.float32),
        edges=edges.astype(np.float32),
        receivers=np.array([1, 2, 0, 1, 4, 3, 5, 5], np.int32),
        senders=np.array([0, 1, 1, 2, 3, 4, 5, 5], np.int32),
        globals={},
        n_node=np.array([3, 2, 3], np.int32),
        n_edge=np.array([4, 2, 2], np.int32),
    )
    weights = (rng.random((3, 128)) < 0.5) * np.array([[1], [1], [0]])
    targets = (rng.random((3, 128)) < 0.3).astype(np.float32)
    is_real = np.array([True, True, False])
    batch = {"inputs": graph, "targets": targets, "weights": weights.astype(np.float32), "is_real": is_real}
    return pytree.tree_map(torch.from_numpy, batch)


@pytest.mark.parametrize("width", [64, 33])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.997])
def test_dropout_keeps_the_mean_and_scales(rate: float, width: int) -> None:
    torch.manual_seed(3)
    x = torch.ones(4000, width)
    y = dropout(x, rate).numpy()
    assert set(np.unique(y)) == {0.0, np.unique(y)[-1]}
    assert y.max() == pytest.approx(1 / (1 - rate), rel=1e-6)
    # Five standard errors of a share of `y.size` independent elements, and of each column's.
    error = 5 * (rate * (1 - rate)) ** 0.5
    assert abs((y == 0).mean() - rate) < error / y.size**0.5
    assert (abs((y == 0).mean(axis=0) - rate) < error / len(y) ** 0.5).all()


def test_dropout_draws_neighbours_independently() -> None:
    torch.manual_seed(4)
    y = dropout(torch.ones(4000, 64), 0.5).numpy() > 0
    for shifted in (np.roll(y, 1, axis=0), np.roll(y, 1, axis=1), np.roll(y, 2, axis=1), np.roll(y, 32, axis=1)):
        assert abs((y == shifted).mean() - 0.5) < 5 * 0.5 / y.size**0.5


def test_dropout_of_nothing_is_the_identity() -> None:
    x = torch.randn(1000, 50)
    assert torch.equal(dropout(x, 0.0), x)


def test_mode_and_rate_decide_on_dropout(workload: OgbgTorch, params: Any) -> None:
    def logits(mode: ForwardPassMode, **rate: float) -> torch.Tensor:
        torch.manual_seed(5)
        with torch.no_grad():
            return workload.model_fn(params, make_batch(), None, mode, None, True, **rate)[0]

    evaluated = logits(ForwardPassMode.EVAL)
    default = logits(ForwardPassMode.TRAIN)
    assert params.training
    assert torch.equal(default, logits(ForwardPassMode.TRAIN, dropout_rate=MINI.dropout_rate))
    assert torch.equal(evaluated, logits(ForwardPassMode.EVAL, dropout_rate=0.9))
    torch.testing.assert_close(evaluated, logits(ForwardPassMode.TRAIN, dropout_rate=0.0), rtol=0, atol=1e-5)
    assert abs(evaluated - default).max() > 1e-2


def test_dropout_depends_on_the_seed(workload: OgbgTorch, params: Any) -> None:
    logits = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        logits.append(workload.model_fn(params, make_batch(), None, ForwardPassMode.TRAIN, None, True)[0])
    assert torch.equal(logits[0], logits[1])
    assert abs(logits[0] - logits[2]).max() > 1e-2


def test_padding_does_not_reach_real_graphs(workload: OgbgTorch, params: Any) -> None:
    clean, noisy = (workload.compiled_eval_step(params, None, make_batch(p), None) for p in (0.0, 100.0))
    np.testing.assert_array_equal(clean["logits"][:2], noisy["logits"][:2])
    np.testing.assert_array_equal(clean["losses"], noisy["losses"])
    assert (noisy["losses"][2] == 0).all()


def test_real_graphs_do_not_reach_each_other(workload: OgbgTorch, params: Any) -> None:
    batch = make_batch()
    nodes = batch["inputs"].nodes.clone()
    nodes[:3] += 1
    changed = {**batch, "inputs": batch["inputs"]._replace(nodes=nodes)}
    before, after = (workload.compiled_eval_step(params, None, b, None)["logits"] for b in (batch, changed))
    np.testing.assert_array_equal(before[1:], after[1:])
    assert abs(before[0] - after[0]).max() > 1e-3


def test_eval_step_gives_what_the_metrics_need(workload: OgbgTorch, params: Any) -> None:
    batch = make_batch()
    out = workload.compiled_eval_step(params, None, batch, None)
    loss = workload.loss_fn(batch["targets"], out["logits"], batch["weights"])
    assert out.keys() == {"logits", "labels", "weights", "losses", "num_graphs"}
    assert out["num_graphs"] == 2
    np.testing.assert_array_equal(out["losses"], loss["per_example"])
    np.testing.assert_array_equal(out["labels"], batch["targets"])
    np.testing.assert_array_equal(out["weights"], batch["weights"])


def test_masks_may_be_boolean_and_options_unknown(workload: OgbgTorch) -> None:
    logits, batch = torch.linspace(-90, 90, 3 * 128).reshape(3, 128), make_batch()
    number = workload.loss_fn(batch["targets"], logits, batch["weights"])
    boolean = workload.loss_fn(batch["targets"], logits, batch["weights"] > 0, unheard_of=1)
    for key in number:
        np.testing.assert_array_equal(number[key], boolean[key])
        assert isinstance(boolean[key], torch.Tensor)
        assert boolean[key].dtype == torch.float32
    assert np.isfinite(number["per_example"]).all()


def test_bad_input_is_refused(workload: OgbgTorch, params: Any) -> None:
    with pytest.raises(ValueError, match="model_state"):
        workload.model_fn(params, make_batch(), {}, ForwardPassMode.EVAL, None, False)
    x = torch.ones(3, 128)
    for arrays in [(x, x[:2]), (x[0], x[0]), (x, x, x[:, :1])]:
        with pytest.raises(ValueError, match="one shape"):
            workload.loss_fn(*arrays)


@pytest.mark.parametrize("spec", [OGBG, OGBG_MODEL_SIZE])
def test_output_parameters_are_the_decoder(spec: Any) -> None:
    model = OgbgTorch(spec, TorchBackend())
    assert [key for key in model.param_shapes if model.is_output_params(key)] == ["decoder.weight", "decoder.bias"]
