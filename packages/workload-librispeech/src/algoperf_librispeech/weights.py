"""Which JAX parameter and running statistic is which in PyTorch, as a table. Numpy only.

JAX's are named by their path, as `flax.traverse_util.flatten_dict(params, sep="/")` does; PyTorch's as in a state dict.
An LSTM has one bias in JAX and two in PyTorch, which are added to each other. The second one holds JAX's.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from algoperf.weight_table import CONV_AXES, DENSE_AXES, WeightRow, dense_rows, to_jax, to_torch
from algoperf_librispeech.spec import Conformer, DeepSpeech

# Input, forget, cell and output, in PyTorch's order.
_GATES = "ifgo"
_DIRECTIONS = {"forward": "", "backward": "_reverse"}


def weight_table(model: Conformer | DeepSpeech) -> list[WeightRow]:
    """One row per JAX parameter, in the order of PyTorch's parameters."""
    rows: list[WeightRow] = []
    for number in range(2):
        rows += dense_rows(f"Subsample_0/Conv2dSubsampling_{number}", f"subsampling.conv{number + 1}", CONV_AXES)
    rows += dense_rows("Subsample_0/Dense_0", "subsampling.linear")
    rows += _conformer_blocks(model) if isinstance(model, Conformer) else _deepspeech_layers(model)
    if isinstance(model, Conformer) or model.norm == "batch":
        rows += _norm_rows("LayerNorm_0", "norm")
    return rows + dense_rows("output", "output")


def statistics_table(model: Conformer | DeepSpeech) -> list[WeightRow]:
    """One row per running mean and variance: JAX's by their path in the model state, PyTorch's as buffers."""
    rows: list[WeightRow] = []
    for jax, torch in _batch_norms(model):
        rows.append(WeightRow(f"batch_stats/{jax}/mean", f"{torch}.running_mean"))
        rows.append(WeightRow(f"batch_stats/{jax}/var", f"{torch}.running_var"))
    return rows


def _batch_norms(model: Conformer | DeepSpeech) -> list[tuple[str, str]]:
    if isinstance(model, Conformer):
        numbers = range(model.num_blocks)
        return [
            (f"ConformerBlock_{i}/ConvolutionBlock_0/BatchNorm_0", f"blocks.{i}.convolution.batch_norm")
            for i in numbers
        ]
    return [(f"{jax}/BatchNorm_0", f"{torch}.norm") for jax, torch in _layers(model) if model.norm == "batch"]


def _layers(model: DeepSpeech) -> Iterator[tuple[str, str]]:
    for i in range(model.num_lstm_layers):
        yield f"BatchRNN_{i}", f"recurrent.{i}"
    for i in range(model.num_mlp_layers):
        yield f"FeedForwardModule_{i}", f"feed_forward.{i}"


def _deepspeech_layers(model: DeepSpeech) -> Iterator[WeightRow]:
    norm = "BatchNorm_0" if model.norm == "batch" else "LayerNorm_0"
    for jax, torch in _layers(model):
        yield from _norm_rows(f"{jax}/{norm}", f"{torch}.norm")
        if torch.startswith("recurrent"):
            yield from _lstm(f"{jax}/LSTM_0", f"{torch}.lstm")
        else:
            yield from dense_rows(f"{jax}/Dense_0", f"{torch}.linear")


def _lstm(jax: str, torch: str) -> Iterator[WeightRow]:
    """In JAX each gate has its own arrays; PyTorch has them one below the other."""
    for direction, suffix in _DIRECTIONS.items():
        for kind, name, axes in (
            ("i{}/kernel", "weight_ih", DENSE_AXES),
            ("h{}/kernel", "weight_hh", DENSE_AXES),
            ("h{}/bias", "bias_hh", None),
        ):
            for part, gate in enumerate(_GATES):
                path = f"{jax}/{direction}/{kind.format(gate)}"
                yield WeightRow(path, f"{torch}.{name}_l0{suffix}", axes, part=part, parts=len(_GATES))


def _conformer_blocks(model: Conformer) -> Iterator[WeightRow]:
    for i in range(model.num_blocks):
        jax, torch = f"ConformerBlock_{i}", f"blocks.{i}"
        yield from _feed_forward(f"{jax}/FeedForwardModule_0", f"{torch}.feed_forward1")
        yield from _attention(model, f"{jax}/MultiHeadedSelfAttention_0", f"{torch}.attention")
        yield from _convolution(f"{jax}/ConvolutionBlock_0", f"{torch}.convolution")
        yield from _feed_forward(f"{jax}/FeedForwardModule_1", f"{torch}.feed_forward2")
        if model.block_norm:
            yield from _norm_rows(f"{jax}/LayerNorm_0", f"{torch}.norm")


def _feed_forward(jax: str, torch: str) -> Iterator[WeightRow]:
    yield from _norm_rows(f"{jax}/LayerNorm_0", f"{torch}.norm")
    for number in range(2):
        yield from dense_rows(f"{jax}/Dense_{number}", f"{torch}.linear{number + 1}")


def _attention(model: Conformer, jax: str, torch: str) -> Iterator[WeightRow]:
    """In JAX an axis counts the heads; PyTorch has matrices of width x width, three of them in one array."""
    width, heads = model.width, (model.num_heads, model.width // model.num_heads)
    matrix, names = (width, width), ("query", "key", "value")
    yield from _norm_rows(f"{jax}/LayerNorm_0", f"{torch}.norm")
    for part, name in enumerate(names):
        path, shapes = f"{jax}/{name}/kernel", ((width, *heads), matrix)
        yield WeightRow(path, f"{torch}.in_proj.weight", DENSE_AXES, shapes, part, len(names))
    for part, name in enumerate(names):
        path = f"{jax}/{name}/bias"
        yield WeightRow(path, f"{torch}.in_proj.bias", None, (heads, (width,)), part, len(names))
    yield WeightRow(f"{jax}/out/kernel", f"{torch}.out_proj.weight", DENSE_AXES, ((*heads, width), matrix))
    yield WeightRow(f"{jax}/out/bias", f"{torch}.out_proj.bias")
    yield WeightRow(f"{jax}/QueryScaler_0/scale", f"{torch}.query_scaler.scale")


def _convolution(jax: str, torch: str) -> Iterator[WeightRow]:
    yield from _norm_rows(f"{jax}/LayerNorm_0", f"{torch}.norm")
    yield from dense_rows(f"{jax}/Dense_0", f"{torch}.linear1")
    yield from dense_rows(f"{jax}/Dense_1", f"{torch}.gate")
    yield WeightRow(f"{jax}/Conv_0/kernel", f"{torch}.depthwise.weight", (2, 1, 0))
    yield from _norm_rows(f"{jax}/BatchNorm_0", f"{torch}.batch_norm")
    yield from dense_rows(f"{jax}/Dense_2", f"{torch}.linear2")


def _norm_rows(jax: str, torch: str) -> list[WeightRow]:
    """Both scales are stored less one."""
    return [WeightRow(f"{jax}/{name}", f"{torch}.{name}") for name in ("scale", "bias")]


def jax_to_torch(model: Conformer | DeepSpeech, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's parameters by name, from JAX's by path. Raises ValueError if they are not this model's."""
    arrays = to_torch(weight_table(model), params)
    return arrays | {_first(name): np.zeros_like(array) for name, array in arrays.items() if "bias_hh" in name}


def jax_gradients_to_torch(model: Conformer | DeepSpeech, gradients: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same for gradients, of which both biases of an LSTM have JAX's."""
    arrays = to_torch(weight_table(model), gradients)
    return arrays | {_first(name): array for name, array in arrays.items() if "bias_hh" in name}


def torch_to_jax(model: Conformer | DeepSpeech, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """JAX's parameters by path, from PyTorch's by name. Raises ValueError if they are not this model's."""
    arrays = {name: array for name, array in params.items() if "bias_ih" not in name}
    sums = {name: array + params[_first(name)] for name, array in arrays.items() if "bias_hh" in name}
    return to_jax(weight_table(model), arrays | sums)


def _first(second: str) -> str:
    """An LSTM's first bias, by its second one."""
    return second.replace("bias_hh", "bias_ih")
