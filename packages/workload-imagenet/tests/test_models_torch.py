"""What the goldens leave open, in PyTorch: dropout, labels and masks, errors, evaluation, memory formats."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from algoperf.spec import ForwardPassMode, Framework, Scale
from algoperf.testing.frameworks import require
from algoperf_imagenet.resnet.spec import IMAGENET_RESNET
from algoperf_imagenet.vit.spec import IMAGENET_VIT, IMAGENET_VIT_GLU, IMAGENET_VIT_MAP, IMAGENET_VIT_POST_LN

require(Framework.PYTORCH)

import torch  # noqa: E402

from algoperf.backends.pytorch import TorchBackend  # noqa: E402
from algoperf.backends.pytorch_layers import dropout  # noqa: E402
from algoperf_imagenet.resnet.batch_norm import BatchNorm2d  # noqa: E402
from algoperf_imagenet.resnet.torch_model import ResNetTorch  # noqa: E402
from algoperf_imagenet.vit import torch_model as vit_model  # noqa: E402
from algoperf_imagenet.vit.torch_model import VisionTransformerTorch  # noqa: E402

TRAIN, EVAL = ForwardPassMode.TRAIN, ForwardPassMode.EVAL
VITS = [IMAGENET_VIT, IMAGENET_VIT_GLU, IMAGENET_VIT_POST_LN, IMAGENET_VIT_MAP]
WIDTH, HIDDEN, TOKENS, BATCH, CLASSES = 16, 24, 49, 4, 10


def small_vit(spec: Any) -> VisionTransformerTorch:
    """A variant with a single block."""
    mini = spec.at(Scale.MINI)
    model = replace(mini.model, patch_size=4, width=WIDTH, mlp_dim=HIDDEN, depth=1, num_heads=2)
    return VisionTransformerTorch(replace(mini, model=model), TorchBackend())


def small_resnet() -> ResNetTorch:
    mini = IMAGENET_RESNET.at(Scale.MINI)
    return ResNetTorch(replace(mini, model=replace(mini.model, stage_sizes=(1, 1), width=8)), TorchBackend())


def noisy_model(workload: Any) -> Any:
    """The model with noise on its parameters, so that nothing is zero."""
    model, _ = workload.init_model_fn(np.zeros(2, np.uint32))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module", params=["resnet", "vit"])
def case(request: Any) -> Any:
    """A workload and its model."""
    workload = small_resnet() if request.param == "resnet" else small_vit(IMAGENET_VIT)
    return workload, noisy_model(workload)


@pytest.fixture(scope="module")
def vit() -> Any:
    workload = small_vit(IMAGENET_VIT)
    return workload, noisy_model(workload)


def make_batch(padding: float = 0.0) -> dict[str, Any]:
    """Three images, and one of padding that is filled with `padding`."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((BATCH, 28, 28, 3), np.float32)
    images[3:] = padding
    backend = TorchBackend()
    return {
        "inputs": backend.place_batch(images).permute(0, 3, 1, 2),
        "targets": backend.place_batch(np.array([1, 9, 4, 0], np.int32)),
        "weights": backend.place_batch(np.array([1, 1, 1, 0], np.float32)),
    }


@pytest.mark.parametrize("spec", VITS, ids=lambda spec: spec.name)
def test_places_of_dropout(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place by the layer whose output is dropped, or else the layer that is given what is left."""
    outputs, rates, places = {}, [], []
    workload = small_vit(spec)
    model = noisy_model(workload)

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
        name, _ = outputs.get(id(x), ("", None))
        rates.append(rate)
        if x.shape[-1] == HIDDEN:
            return torch.full_like(x, 7)
        places.append(f"after {name}" if name else f"{tuple(x.shape)}")
        return x

    monkeypatch.setattr(vit_model, "dropout", recorded)
    workload.model_fn(model, make_batch(), None, TRAIN, None, True, dropout_rate=0.3)
    block = "encoder.net.0"
    expected = [f"({BATCH}, {TOKENS}, {WIDTH})", f"after {block}.self_attention1", f"before {block}.mlp3.linear2"]
    expected += [f"after {block}.mlp3", *(["before map.mlp.linear2"] if spec is IMAGENET_VIT_MAP else [])]
    assert places == expected
    assert set(rates) == {0.3}
    rates.clear()
    for mode, rate in ((EVAL, 0.3), (TRAIN, None), (TRAIN, 0.0), (TRAIN, 0)):
        workload.model_fn(model, make_batch(), None, mode, None, False, dropout_rate=rate)
    assert rates == []


def test_mode_and_rate_decide_on_dropout(vit: Any) -> None:
    workload, model = vit

    def logits(mode: ForwardPassMode, **rate: float) -> torch.Tensor:
        torch.manual_seed(5)
        with torch.no_grad():
            return workload.model_fn(model, make_batch(), None, mode, None, True, **rate)[0]

    evaluated = logits(EVAL)
    assert not model.training
    trained = logits(TRAIN, dropout_rate=0.4)
    assert model.training
    assert torch.equal(trained, logits(TRAIN, dropout_rate=0.4))
    assert torch.equal(evaluated, logits(EVAL, dropout_rate=0.4))
    torch.testing.assert_close(evaluated, logits(TRAIN), rtol=0, atol=1e-6)
    assert abs(evaluated - trained).max() > 1e-2


def test_a_resnet_ignores_dropout() -> None:
    workload = small_resnet()
    model = noisy_model(workload)
    first, second = (
        workload.model_fn(model, make_batch(), None, TRAIN, None, False, dropout_rate=rate)[0] for rate in (0.0, 0.9)
    )
    assert torch.equal(first, second)


def test_images_do_not_reach_each_other(case: Any) -> None:
    workload, model = case
    clean, noisy = (workload.compiled_eval_step(model, None, make_batch(p), None) for p in (0.0, 100.0))
    assert clean.keys() == {"loss", "correct", "images"}
    for name, value in clean.items():
        assert value.shape == ()
        assert torch.equal(noisy[name], value)


def test_eval_step_sums_over_real_images(case: Any) -> None:
    workload, model = case
    batch = make_batch()
    with torch.no_grad():
        logits, _ = workload.model_fn(model, batch, None, EVAL, None, False)
    # The first two right, the third wrong, and the padding right, which must not count.
    batch["targets"] = logits.argmax(dim=1).int()
    batch["targets"][2] = (batch["targets"][2] + 1) % CLASSES
    sums = workload.compiled_eval_step(model, None, batch, None)
    log_probabilities = torch.log_softmax(logits, dim=1)
    expected = -sum(log_probabilities[i, batch["targets"][i]] for i in range(3))
    torch.testing.assert_close(sums["loss"], expected, rtol=1e-5, atol=0)
    assert (sums["correct"], sums["images"]) == (2, 3)


LOGITS = torch.tensor([[90.0, -90.0, 3.0, 0.0], [0.1, 0.2, 0.3, 0.4], [-1.0, 1.0, -2.0, 2.0]])
LABELS = torch.tensor([1, 2, 3], dtype=torch.int32)


def test_labels_may_be_probabilities(vit: Any) -> None:
    loss_fn = vit[0].loss_fn
    one_hot = torch.eye(4)[LABELS]
    for smoothing in (0.0, 0.2):
        hard, soft = (loss_fn(y, LOGITS, torch.tensor([1, 0, 0.5]), smoothing) for y in (LABELS, one_hot))
        for name in hard:
            torch.testing.assert_close(hard[name], soft[name], rtol=1e-6, atol=1e-6)
    smooth = loss_fn(0.8 * one_hot + 0.05, LOGITS)
    torch.testing.assert_close(loss_fn(LABELS, LOGITS, None, 0.2)["summed"], smooth["summed"], rtol=1e-6, atol=0)


def test_masks_multiply(vit: Any) -> None:
    loss_fn, mask = vit[0].loss_fn, torch.tensor([0.5, 0, 1])
    whole, masked = loss_fn(LABELS, LOGITS), loss_fn(LABELS, LOGITS, mask)
    torch.testing.assert_close(masked["per_example"], whole["per_example"] * mask)
    torch.testing.assert_close(masked["summed"], masked["per_example"].sum())
    assert (whole["n_valid_examples"], masked["n_valid_examples"]) == (3, 1.5)
    number = loss_fn(LABELS, LOGITS, torch.tensor([1.0, 0, 1]), 0.1)
    boolean = loss_fn(LABELS, LOGITS, torch.tensor([True, False, True]), 0.1, unheard_of=1)
    for name in number:
        assert torch.equal(number[name], boolean[name])
        assert boolean[name].dtype is torch.float32
        assert boolean[name].isfinite().all()


def test_bad_input_is_refused(case: Any) -> None:
    workload, model = case
    for shape in [(3, 28, 28), (2, 1, 28, 28), (2, 28, 28, 3)]:
        with pytest.raises(ValueError, match=r"needs inputs of the shape \[B, 3, .*\], not \("):
            workload.model_fn(model, {"inputs": torch.zeros(shape)}, None, EVAL, None, False)
    with pytest.raises(ValueError, match="model_state"):
        workload.model_fn(model, make_batch(), {}, EVAL, None, False)
    labels, one_hot = LABELS, torch.eye(4)[LABELS]
    for arrays in [(labels[:2], LOGITS), (one_hot[:, :3], LOGITS), (one_hot[0], LOGITS[0]), (labels[0], LOGITS)]:
        with pytest.raises(ValueError, match=r"Labels .* are needed"):
            workload.loss_fn(*arrays)
    for mask in (torch.ones(2), torch.ones(3, 1), torch.ones(3, 4)):
        with pytest.raises(ValueError, match=r"Labels .* are needed"):
            workload.loss_fn(labels, LOGITS, mask)


def test_images_of_another_size_are_refused_by_the_transformer_alone(vit: Any) -> None:
    batch = {"inputs": TorchBackend().place_batch(np.zeros((1, 3, 32, 32), np.float32))}
    with pytest.raises(ValueError, match=r"\[B, 3, 28, 28\], not \(1, 3, 32, 32\)"):
        vit[0].model_fn(vit[1], batch, None, EVAL, None, False)
    workload = small_resnet()
    assert workload.model_fn(noisy_model(workload), batch, None, EVAL, None, False)[0].shape == (1, CLASSES)


def test_convolutions_see_channels_last() -> None:
    """On weights in another order, each convolution would copy what it is given."""
    workload = small_resnet()
    model, seen = copy.deepcopy(noisy_model(workload)), []

    def hook(module: Any, args: Any) -> None:
        formats = (args[0], module.weight)
        seen.append(all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in formats))

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_pre_hook(hook)
    workload.model_fn(model, make_batch(), None, TRAIN, None, True)
    assert seen == [True] * (1 + 2 * 4)


def test_models_of_no_memory(case: Any) -> None:
    with torch.device("meta"):
        model = case[0].build_model()
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"meta"}
    shapes = {name: tensor.shape for name, tensor in case[1].state_dict().items()}
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == shapes


def test_positions_are_no_part_of_a_checkpoint(vit: Any) -> None:
    workload, model = vit
    assert model.state_dict().keys() == dict(model.named_parameters()).keys()
    fresh = workload.build_model().to(workload.backend.device)
    fresh.load_state_dict(model.state_dict())
    first, second = (workload.model_fn(m, make_batch(), None, EVAL, None, False)[0] for m in (model, fresh))
    assert torch.equal(first, second)


def test_compiled_models(case: Any) -> None:
    workload, model = case
    compiled = torch.compile(copy.deepcopy(model), backend="aot_eager")
    for mode in (TRAIN, EVAL):
        logits, found = (
            workload.model_fn(m, make_batch(), None, mode, None, mode is TRAIN)[0] for m in (model, compiled)
        )
        torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-5)
    assert not compiled.training


@pytest.mark.parametrize("spec", [IMAGENET_RESNET, *VITS], ids=lambda spec: spec.name)
def test_output_parameters_are_those_of_the_last_layer(spec: Any) -> None:
    make = ResNetTorch if spec is IMAGENET_RESNET else VisionTransformerTorch
    model = make(spec, TorchBackend())
    layer = "fc" if spec is IMAGENET_RESNET else "head"
    assert [key for key in model.param_shapes if model.is_output_params(key)] == [f"{layer}.weight", f"{layer}.bias"]


def test_statistics_can_be_computed_anew() -> None:
    # `update_bn` takes the momentum away, which means the mean over all batches.
    model = small_resnet().init_model_fn(np.zeros(2, np.uint32))[0]
    batches = [torch.randn(4, 3, 28, 28) for _ in range(3)]
    torch.optim.swa_utils.update_bn(batches, model)
    first = next(module for module in model.modules() if isinstance(module, BatchNorm2d))
    assert first.momentum == 0.1
    means = [model.conv1(batch).mean(dim=(0, 2, 3)) for batch in batches]
    torch.testing.assert_close(first.running_mean, torch.stack(means).mean(dim=0), rtol=1e-4, atol=1e-6)


def test_the_mode_reaches_modules_that_a_submission_changed() -> None:
    model = small_resnet().init_model_fn(np.zeros(2, np.uint32))[0]
    model.bn1.eval()
    small_resnet().set_mode(model, ForwardPassMode.TRAIN)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_sums_of_short_types_count_exactly(dtype: torch.dtype) -> None:
    loss = small_resnet().loss_fn(torch.zeros(257, dtype=torch.int64), torch.zeros(257, 10, dtype=dtype))
    assert loss["n_valid_examples"].item() == 257
    assert loss["summed"].dtype == torch.float32


def test_dropout_keeps_the_type() -> None:
    assert dropout(torch.ones(4, 8, dtype=torch.bfloat16), 0.1).dtype == torch.bfloat16
