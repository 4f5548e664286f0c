"""Which JAX parameter and running statistic is which in PyTorch, as a table. Numpy only.

JAX's are named by their path, as `flax.traverse_util.flatten_dict(params, sep="/")` does; PyTorch's as in a state dict.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from algoperf.weight_table import CONV_AXES, WeightRow, dense_rows, norm_rows, to_jax, to_torch
from algoperf_imagenet.resnet.spec import ResNet


def weight_table(model: ResNet) -> list[WeightRow]:
    """One row per parameter, in PyTorch's order."""
    rows: list[WeightRow] = []
    for conv, norm in _layers(model):
        rows.append(WeightRow(f"{conv.jax}/kernel", f"{conv.torch}.weight", CONV_AXES))
        rows += norm_rows(norm.jax, norm.torch)
    return rows + dense_rows("Dense_0", "fc")


def statistics_table(model: ResNet) -> list[WeightRow]:
    """One row per running mean and variance: JAX's by their path in the model state, PyTorch's as buffers."""
    rows: list[WeightRow] = []
    for _, norm in _layers(model):
        rows.append(WeightRow(f"batch_stats/{norm.jax}/mean", f"{norm.torch}.running_mean"))
        rows.append(WeightRow(f"batch_stats/{norm.jax}/var", f"{norm.torch}.running_var"))
    return rows


def _layers(model: ResNet) -> Iterator[tuple[WeightRow, WeightRow]]:
    """Each convolution with its batch norm."""
    yield WeightRow("Conv_init", "conv1"), WeightRow("BatchNorm_init", "bn1")
    # JAX counts blocks through all stages.
    places = [(stage, i) for stage, size in enumerate(model.stage_sizes) for i in range(size)]
    for number, (stage, i) in enumerate(places):
        jax, torch = f"BottleneckResNetBlock_{number}", f"layer{stage + 1}.{i}"
        for k in range(3):
            yield (
                WeightRow(f"{jax}/Conv_{k}", f"{torch}.conv{k + 1}"),
                WeightRow(f"{jax}/BatchNorm_{k}", f"{torch}.bn{k + 1}"),
            )
        if i == 0:
            yield (
                WeightRow(f"{jax}/Conv_proj", f"{torch}.downsample.conv"),
                WeightRow(f"{jax}/BatchNorm_proj", f"{torch}.downsample.bn"),
            )


def jax_to_torch(model: ResNet, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's parameters by name, from JAX's by path. Raises ValueError if they are not this model's."""
    return to_torch(weight_table(model), params)


def torch_to_jax(model: ResNet, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """JAX's parameters by path, from PyTorch's by name. Raises ValueError if they are not this model's."""
    return to_jax(weight_table(model), params)


def statistics_jax_to_torch(model: ResNet, model_state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's running statistics by name, from JAX's model state by path. Raises ValueError for another model's."""
    return to_torch(statistics_table(model), model_state)


def statistics_torch_to_jax(model: ResNet, buffers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """JAX's model state by path, from PyTorch's buffers by name. Raises ValueError for another model's.

    PyTorch also counts batches; JAX has no such number.
    """
    statistics = {name: array for name, array in buffers.items() if not name.endswith("num_batches_tracked")}
    return to_jax(statistics_table(model), statistics)
