"""What the goldens leave open, in PyTorch: dropout, packing, padding, masks, errors, evaluation, wrappers."""

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from algoperf.spec import ForwardPassMode, Framework, Scale
from algoperf.testing.frameworks import require
from algoperf_wmt.spec import WMT, WMT_ATTENTION_TEMP, WMT_GLU_TANH, WMT_POST_LN, BeamSearch

require(Framework.PYTORCH)

import torch  # noqa: E402

from algoperf.backends.pytorch import TorchBackend  # noqa: E402
from algoperf_wmt import torch_model  # noqa: E402
from algoperf_wmt.torch_attention import Tokens  # noqa: E402
from algoperf_wmt.torch_beam_search import beam_search  # noqa: E402
from algoperf_wmt.torch_workload import WmtTorch  # noqa: E402

TRAIN, EVAL = ForwardPassMode.TRAIN, ForwardPassMode.EVAL
SPECS = {spec.name: spec for spec in (WMT, WMT_POST_LN, WMT_ATTENTION_TEMP, WMT_GLU_TANH)}
WIDTH, HIDDEN, VOCAB, LENGTH = 16, 24, 40, 10


def small(spec: Any, sentences_at_once: int = 4) -> WmtTorch:
    """A variant with one layer on each side."""
    mini = spec.at(Scale.MINI)
    sizes = {"vocab_size": VOCAB, "width": WIDTH, "num_heads": 2, "mlp_dim": HIDDEN, "max_length": LENGTH}
    search = BeamSearch(sentences_at_once=sentences_at_once)
    model = replace(mini.model, **sizes, num_layers=1, beam_search=search)
    return WmtTorch(replace(mini, model=model), TorchBackend())


@cache
def made(name: str = "wmt") -> Any:
    """A workload, and its model with noise on the parameters, so that nothing is zero."""
    workload = small(SPECS[name])
    model, _ = workload.init_model_fn(np.zeros(2, np.uint32))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return workload, model


@pytest.fixture(params=SPECS)
def case(request: Any) -> Any:
    return made(request.param)


def sentences(*lengths: int, seed: int = 0) -> np.ndarray:
    """Rows of random tokens, padded [len(lengths), LENGTH]."""
    rows = np.random.default_rng(seed).integers(3, VOCAB, (len(lengths), LENGTH)).astype(np.int32)
    return np.where(np.arange(LENGTH) < np.array(lengths)[:, None], rows, 0)


def make_batch() -> dict[str, np.ndarray]:
    """Five sentences and a row of padding."""
    targets = sentences(7, 1, 10, 2, 4, 0, seed=1)
    return {"inputs": sentences(5, 10, 3, 1, 6, 0), "targets": targets, "weights": (targets > 0).astype(np.float32)}


def logits_of(case: Any, batch: Any, mode: ForwardPassMode = EVAL, rate: Any = None, seed: int = 0) -> torch.Tensor:
    workload, model = case
    torch.manual_seed(seed)
    with torch.no_grad():
        return workload.model_fn(model, workload.place_batch(batch), None, mode, None, True, dropout_rate=rate)[0]


def evaluated(case: Any, batch: Any) -> dict[str, torch.Tensor]:
    workload, model = case
    return workload.compiled_eval_step(model, None, workload.place_batch(batch), None)


def watch(model: Any) -> tuple[list[str], Any]:
    """Places of dropout, and what to put in its place to note them."""
    outputs, places = {}, []

    def before(name: str) -> Any:
        def hook(module: Any, args: Any) -> None:
            # What comes out of dropout is a seven: a layer that sees it is the next one.
            if isinstance(args[0], torch.Tensor) and (args[0] == 7).all():
                places.append(f"before {name}")

        return hook

    def after(name: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            outputs[id(output)] = (name, output)

        return hook

    for name, module in model.named_modules():
        module.register_forward_pre_hook(before(name))
        module.register_forward_hook(after(name))

    def recorded(x: torch.Tensor, rate: float) -> torch.Tensor:
        if x.shape[-1] == HIDDEN:
            places.append("inside an MLP")
            return torch.full_like(x, 7)
        name, _ = outputs.get(id(x), ("", None))
        places.append(f"after {name}" if name else f"{tuple(x.shape)}")
        return x

    return places, recorded


def test_places_of_dropout(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place by the layer whose output is dropped, or else the layer that is given what is left."""
    workload, model = case[0], copy.deepcopy(case[1])
    places, recorded = watch(model)
    monkeypatch.setattr(torch_model, "dropout", recorded)
    logits_of((workload, model), make_batch(), TRAIN, 0.3)
    expected = []
    for layer, attentions in (
        ("encoder.encoder.layers.0", ["self_attn"]),
        ("decoder.decoder.layers.0", ["self_attn", "multihead_attn"]),
    ):
        expected += [f"(6, {LENGTH}, {WIDTH})", *(f"after {layer}.{attention}" for attention in attentions)]
        expected += ["inside an MLP", f"before {layer}.linear2", f"after {layer}.linear2"]
    assert places == expected


def test_rates_of_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    monkeypatch.setattr(torch_model, "dropout", lambda x, rate: rates.append(rate) or x)
    for mode, rate, expected in ((TRAIN, 0.3, {0.3}), (TRAIN, None, {0.1}), (TRAIN, 0, set()), (EVAL, 0.3, set())):
        rates.clear()
        logits_of(made(), make_batch(), mode, rate)
        assert set(rates) == expected


def test_attention_is_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    attend, options = torch.nn.functional.scaled_dot_product_attention, []

    def recorded(*args: Any, **kwargs: Any) -> torch.Tensor:
        options.append(kwargs.keys())
        return attend(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", recorded)
    logits_of(made(), make_batch(), TRAIN, 0.3)
    assert options == [{"attn_mask", "scale"}] * 3


def test_mode_and_rate_decide_on_dropout() -> None:
    batch, model = make_batch(), made()[1]
    before = logits_of(made(), batch)
    assert not model.training
    trained = logits_of(made(), batch, TRAIN, 0.4)
    assert model.training
    assert torch.equal(trained, logits_of(made(), batch, TRAIN, 0.4))
    assert torch.equal(before, logits_of(made(), batch, EVAL, 0.4))
    assert torch.equal(before, logits_of(made(), batch, TRAIN, 0.0))
    assert abs(before - trained).max() > 1e-2


def packed(batch: dict[str, np.ndarray], *rows: int) -> dict[str, np.ndarray]:
    """Rows of a batch, one after the other in a row [1, LENGTH] of each side."""
    result = {}
    for side in ("inputs", "targets"):
        parts = [batch[side][row][batch[side][row] > 0] for row in rows]
        arrays = {
            side: np.concatenate(parts),
            f"{side}_position": np.concatenate([np.arange(len(part)) for part in parts]),
            f"{side}_segmentation": np.repeat(np.arange(1, len(parts) + 1), [len(part) for part in parts]),
        }
        result |= {name: np.pad(a, (0, LENGTH - len(a)))[None].astype(np.int32) for name, a in arrays.items()}
    return result


def test_sentences_of_a_row_do_not_see_each_other(case: Any) -> None:
    workload, model = case[0], copy.deepcopy(case[1])
    batch = {"inputs": sentences(4, 5), "targets": sentences(3, 6, seed=1)}
    batch["targets"][0, 2] = 2
    row = packed(batch, 0, 1)
    alone, together = logits_of((workload, model), batch), logits_of((workload, model), row)
    torch.testing.assert_close(together[0, :3], alone[0, :3], rtol=1e-5, atol=1e-5)
    # The second sentence starts with the end of the first ...
    assert abs(together[0, 3:9] - alone[1, :6]).max() > 1e-2
    # ... which is the only difference.
    model.shared_embedding.weight.data[2] = model.shared_embedding.weight.data[0]
    alone, together = logits_of((workload, model), batch), logits_of((workload, model), row)
    torch.testing.assert_close(together[0, 3:9], alone[1, :6], rtol=1e-5, atol=1e-5)


def test_targets_do_not_see_later_ones(case: Any) -> None:
    batch = make_batch()
    # The fourth target is an input of the fifth.
    changed = {**batch, "targets": batch["targets"].copy()}
    changed["targets"][2, 4:] = 3
    before, after = logits_of(case, batch), logits_of(case, changed)
    torch.testing.assert_close(before[2, :5], after[2, :5], rtol=1e-6, atol=1e-6)
    assert abs(before[2, 5:] - after[2, 5:]).amax(dim=-1).min() > 1e-3


def test_padding_does_not_reach_tokens(case: Any) -> None:
    batch = {"inputs": sentences(4), "targets": sentences(6, seed=1)}
    short = {"inputs": batch["inputs"][:, :4], "targets": batch["targets"][:, :6]}
    torch.testing.assert_close(logits_of(case, batch)[:, :6], logits_of(case, short), rtol=1e-5, atol=1e-5)


def test_eval_step(case: Any) -> None:
    workload, model = case
    batch = make_batch()
    output = evaluated(case, batch)
    assert not model.training
    placed = workload.place_batch(batch)
    logits, inputs, targets, weights = logits_of(case, batch), placed["inputs"], placed["targets"], placed["weights"]
    # The same without groups of sentences.
    search = workload.spec.model.beam_search
    with torch.no_grad():
        cache = model.start_decoding(model.encode(Tokens(inputs)), inputs, 4)
        predictions, _ = beam_search(model.decode_step, cache, weights.sum(dim=1) > 0, search, LENGTH)
    losses = workload.loss_fn(targets, logits)["per_example"]
    expected = {
        "losses": (losses * weights).sum(dim=1),
        "correct": ((logits.argmax(dim=2) == targets) * weights).sum(dim=1),
        "tokens": (targets > 0).sum(dim=1).float(),
        "predictions": predictions,
        "targets": targets,
    }
    assert output.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(output[name], value, rtol=1e-5, atol=1e-6, msg=name)
        assert output[name].dtype is (torch.int32 if name in ("predictions", "targets") else torch.float32)
    assert output["predictions"].shape == (6, LENGTH - 1)


def test_right_answers_count_where_there_are_tokens() -> None:
    batch = make_batch()
    # Logits look at earlier targets only, so that one after the other can be made right.
    for position in range(LENGTH):
        batch["targets"][:, position] = logits_of(made(), batch)[:, position].argmax(dim=1).cpu()
    batch["weights"][:] = 0
    batch["weights"][1, :3] = 1
    batch["targets"][1, 2] = (batch["targets"][1, 2] + 1) % VOCAB
    assert (batch["targets"][:, :2] > 0).all()
    assert evaluated(made(), batch)["correct"].tolist() == [0, 2, 0, 0, 0, 0]


@pytest.mark.parametrize("sentences_at_once", [1, 4, 5])
def test_groups_of_sentences_change_nothing(sentences_at_once: int) -> None:
    _, model = made()
    outputs = [evaluated((small(WMT, size), model), make_batch()) for size in (100, sentences_at_once)]
    for name, value in outputs[0].items():
        torch.testing.assert_close(outputs[1][name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_memory_is_that_of_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    workload, model = made()
    decode, sizes = model.decode, []
    monkeypatch.setattr(model, "decode", lambda encoded, *rest: sizes.append(len(encoded)) or decode(encoded, *rest))
    evaluated((workload, model), make_batch())
    assert sizes == [4, 2]


def test_padding_is_not_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(step: Any, cache: Any, is_real: torch.Tensor, *rest: Any) -> Any:
        return is_real[:, None].expand(-1, LENGTH - 1).int(), None

    monkeypatch.setattr("algoperf_wmt.torch_workload.beam_search", search)
    assert evaluated(made(), make_batch())["predictions"][:, 0].tolist() == [1, 1, 1, 1, 1, 0]


def test_parameters_of_a_shorter_type_are_computed_in_it() -> None:
    workload, model = made()
    cast = copy.deepcopy(model)
    # The parameters alone, as some submissions do, and not the table of positions.
    for parameter in cast.parameters():
        parameter.data = parameter.data.bfloat16()
    for shorter in (cast, copy.deepcopy(model).bfloat16()):
        assert logits_of((workload, shorter), make_batch()).dtype == torch.bfloat16
        assert evaluated((workload, shorter), make_batch())["losses"].dtype == torch.float32


def test_sentences_do_not_reach_each_other() -> None:
    batch = make_batch()
    before = evaluated(made(), batch)
    batch["inputs"][5], batch["targets"][5] = 3, 3
    after = evaluated(made(), batch)
    for name, value in before.items():
        assert torch.equal(after[name][:5], value[:5]), name
    assert (after["losses"][5], after["correct"][5], after["tokens"][5]) == (0, 0, 0)


class Wrapper(torch.nn.Module):
    """As DDP: offers the forward pass of the module inside, and no other method of it."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any) -> Any:
        return self.module(*args)


@pytest.mark.parametrize("wrap", [Wrapper, lambda model: torch.compile(model, backend="aot_eager")])
def test_wrapped_models(case: Any, wrap: Any) -> None:
    workload, model = case
    wrapped, batch = wrap(copy.deepcopy(model)), make_batch()
    for mode in (TRAIN, EVAL):
        found = logits_of((workload, wrapped), batch, mode, 0.0)
        torch.testing.assert_close(found, logits_of(case, batch, mode, 0.0), rtol=1e-4, atol=1e-5)
    wrapped.train()
    expected = evaluated(case, batch)
    for name, value in evaluated((workload, wrapped), batch).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=name)


LOGITS = torch.tensor([[[90.0, -90.0, 3.0, 0.0], [0.1, 0.2, 0.3, 0.4]], [[-1.0, 1.0, -2.0, 2.0], [5.0, 5.0, 5.0, 5.0]]])
LABELS = torch.tensor([[1, 2], [3, 0]], dtype=torch.int32)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_losses_are_cross_entropies(smoothing: float) -> None:
    labels = (1 - smoothing) * torch.eye(4)[LABELS] + smoothing / 4
    expected = -(labels * torch.log_softmax(LOGITS, dim=-1)).sum(dim=-1)
    loss = made()[0].loss_fn(LABELS, LOGITS, label_smoothing=smoothing)
    torch.testing.assert_close(loss["per_example"], expected)
    torch.testing.assert_close(loss["summed"], expected.sum())
    assert loss["n_valid_examples"] == 4


def test_masks_multiply() -> None:
    loss_fn, mask = made()[0].loss_fn, torch.tensor([[0.5, 0], [1, 1]])
    whole, masked = loss_fn(LABELS, LOGITS, None, 0.1), loss_fn(LABELS, LOGITS, mask, 0.1)
    torch.testing.assert_close(masked["per_example"], whole["per_example"] * mask)
    torch.testing.assert_close(masked["summed"], masked["per_example"].sum())
    assert (whole["n_valid_examples"], masked["n_valid_examples"]) == (4, 2.5)
    number = loss_fn(LABELS, LOGITS, torch.tensor([[1.0, 0], [1, 1]]))
    boolean = loss_fn(LABELS, LOGITS, torch.tensor([[True, False], [True, True]]), unheard_of=1)
    for name in number:
        assert torch.equal(number[name], boolean[name])
        assert boolean[name].dtype is torch.float32


def test_sums_of_short_types_count_exactly() -> None:
    loss = made()[0].loss_fn(torch.zeros(1, 257, dtype=torch.int32), torch.zeros(1, 257, 10, dtype=torch.bfloat16))
    assert loss["n_valid_examples"].item() == 257
    assert loss["summed"].dtype is torch.float32


def test_bad_input_is_refused() -> None:
    workload, model = made()
    good = make_batch()
    for side in ("inputs", "targets"):
        for rows in (np.ones((2, LENGTH + 1), np.int32), np.ones(3, np.int32)):
            with pytest.raises(ValueError, match=rf"needs {side} of at most {LENGTH} tokens a row, \[B, .*, not \("):
                logits_of(made(), {**good, side: rows})
    with pytest.raises(ValueError, match="model_state"):
        workload.model_fn(model, workload.place_batch(good), {}, EVAL, None, False)
    for arrays in [(LABELS[0], LOGITS), (LABELS[0], LOGITS[0]), (LABELS, LOGITS, torch.ones(2)), (LABELS[:1], LOGITS)]:
        with pytest.raises(ValueError, match=r"Labels \[B, T\], .* are needed"):
            workload.loss_fn(*arrays)


@pytest.mark.parametrize("name", SPECS)
def test_output_parameters_are_the_embedding(name: str) -> None:
    workload = WmtTorch(SPECS[name], TorchBackend())
    assert [key for key in workload.param_shapes if workload.is_output_params(key)] == ["shared_embedding.weight"]


def test_models_of_no_memory(case: Any) -> None:
    with torch.device("meta"):
        model = case[0].build_model()
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"meta"}
    shapes = {name: tensor.shape for name, tensor in case[1].state_dict().items()}
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == shapes


def test_positions_are_no_part_of_a_checkpoint() -> None:
    workload, model = made()
    assert model.state_dict().keys() == dict(model.named_parameters()).keys()
    fresh = workload.build_model().to(workload.backend.device)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(logits_of((workload, fresh), make_batch()), logits_of(made(), make_batch()))
