"""Distributed Shampoo in JAX; the rule and its sources are in `blocks`.

Our own, because optax has none, optax-shampoo 0.0.6 does not run with current JAX, and what packages exist for PyTorch
follows other rules.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from algoperf import jax_sharding_utils, spec
from algoperf_baselines._jax import data_selection, initial_state, update_params, warmup_cosine
from algoperf_baselines.batch_sizes import get_batch_size
from algoperf_baselines.nadamw.jax import scale_by_nadam
from algoperf_baselines.shampoo.blocks import BLOCK_SIZE, EPSILON, ROOT_PERIOD_STEPS, START_STEP, Blocks, devices_of

__all__ = ["data_selection", "get_batch_size", "init_optimizer_state", "inverse_root", "shampoo", "update_params"]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """Shampoo; all parameters decay."""
    optimizer = shampoo(
        learning_rate=warmup_cosine(workload, hyperparameters),
        b1=1.0 - hyperparameters.one_minus_beta1,
        b2=hyperparameters.beta2,
        eps=1e-8,
        weight_decay=hyperparameters.weight_decay,
    )
    return initial_state(optimizer, model_params, hyperparameters)


def shampoo(
    learning_rate: optax.ScalarOrSchedule, b1: float, b2: float, eps: float, weight_decay: float, **options: int
) -> optax.GradientTransformation:
    """Shampoo, with the arguments of `optax.adamw` and the `options` of `scale_by_shampoo`."""
    return optax.chain(
        scale_by_shampoo(b1, b2, eps, **options),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


class ShampooState(NamedTuple):
    """What Shampoo keeps.

    Attributes:
        nadam: the moments of the gradients, and the number of updates.
        statistics: for each parameter a tuple of float32 [blocks, size, size], one for each preconditioned dimension.
        roots: of the statistics, with the same shapes; 0 until there are some.
    """

    nadam: optax.ScaleByAdamState
    statistics: optax.Params
    roots: optax.Params


def scale_by_shampoo(
    b1: float,
    b2: float,
    eps: float,
    block_size: int = BLOCK_SIZE,
    start_step: int = START_STEP,
    root_period_steps: int = ROOT_PERIOD_STEPS,
) -> optax.GradientTransformation:
    """Shampoo's directions, as long as NAdamW's."""
    nadam = scale_by_nadam(b1, b2, eps)

    def zeros(param: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(jnp.zeros(shape) for shape in Blocks.of(param.shape, block_size).statistics)

    def init(params: optax.Params) -> ShampooState:
        # Twice, as arrays that are donated must not be the same.
        return ShampooState(nadam.init(params), jax.tree.map(zeros, params), jax.tree.map(zeros, params))

    def accumulated(grad: jax.Array, old: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        blocks = Blocks.of(grad.shape, block_size)
        rows = [_as_rows(_split(grad, blocks), axis) for axis in blocks.axes]
        return tuple(b2 * x + (1 - b2) * g @ g.mT for x, g in zip(old, rows, strict=True))

    def preconditioned(graft: jax.Array, momentum: jax.Array, roots: tuple[jax.Array, ...]) -> jax.Array:
        if not roots:
            return graft
        blocks = Blocks.of(graft.shape, block_size)
        direction = _split(momentum, blocks)
        for axis, root in zip(blocks.axes, roots, strict=True):
            direction = _multiply(root, direction, axis)
        return _join(_with_norm_of(_split(graft, blocks), direction), blocks).reshape(graft.shape)

    def update(
        grads: optax.Updates, state: ShampooState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, ShampooState]:
        graft, moments = nadam.update(grads, state.nadam)
        momentum = optax.tree.update_moment(grads, moments.mu, b1, 1)
        statistics = jax.tree.map(accumulated, grads, state.statistics)
        steps = moments.count - start_step
        is_due = (steps >= 0) & (steps % root_period_steps == 0)
        roots = jax.lax.cond(is_due, partial(_roots, grads), lambda _: state.roots, statistics)
        directions = jax.tree.map(preconditioned, graft, momentum, roots)
        updates = jax.tree.map(partial(jnp.where, steps >= 0), directions, graft)
        return updates, ShampooState(moments, statistics, roots)

    return optax.GradientTransformation(init, update)


def inverse_root(matrices: jax.Array, p: int) -> jax.Array:
    """(L / largest eigenvalue of L + EPSILON I)^(-1 / p) of symmetric matrices, float32 [..., n, n].

    Of a matrix that is 0, or has entries that are not finite, it is a multiple of I.
    """
    tiny = jnp.finfo(matrices.dtype).tiny
    matrices = jnp.nan_to_num(matrices, nan=0.0, posinf=0.0, neginf=0.0)
    row_sum = jnp.abs(matrices).sum(axis=-1).max(axis=-1)[..., None, None]
    # The EPSILON is taken off again: eigh of some libraries fails where all of a part of a matrix is next to 0.
    shifted = matrices / jnp.maximum(row_sum, tiny) + EPSILON * jnp.eye(matrices.shape[-1])
    values, vectors = jnp.linalg.eigh(shifted)
    values = jnp.maximum(values - EPSILON, 0.0)
    powers = (values / jnp.maximum(values[..., -1:], tiny) + EPSILON) ** (-1 / p)
    return (vectors * powers[..., None, :]) @ vectors.mT


def _roots(grads: optax.Updates, statistics: optax.Params) -> optax.Params:
    """The roots of all statistics, of which each device computes its own; grads tells where the tuples are."""
    stacks, tree = jax.tree.flatten(statistics)
    powers = [2 * len(of_one) for of_one in jax.tree.structure(grads).flatten_up_to(statistics) for _ in of_one]
    mesh = jax_sharding_utils.get_batch_dim_sharding().mesh
    devices = devices_of([stack.shape for stack in stacks], mesh.size)

    def own(device: int, stacks: list[jax.Array]) -> list[jax.Array]:
        return [_roots_on(device, *stack) for stack in zip(devices, stacks, powers, strict=True)]

    def shared(stacks: list[jax.Array]) -> list[jax.Array]:
        # A branch for each device: to divide stacks of one size instead leaves devices idle, where sizes are many.
        of_devices = [partial(own, device) for device in range(mesh.size)]
        return jax.lax.psum(jax.lax.switch(jax.lax.axis_index(mesh.axis_names), of_devices, stacks), mesh.axis_names)

    everywhere = PartitionSpec()
    return tree.unflatten(jax.shard_map(shared, mesh=mesh, in_specs=everywhere, out_specs=everywhere)(stacks))


def _roots_on(device: int, devices: list[int], stack: jax.Array, p: int) -> jax.Array:
    """The roots of a stack [blocks, size, size], of which a device computes its own; 0 in place of the others."""
    pairs = zip(devices, stack, strict=True)
    return jnp.stack([inverse_root(x, p) if owner == device else jnp.zeros_like(x) for owner, x in pairs])


def _split(x: jax.Array, blocks: Blocks) -> jax.Array:
    """The blocks of a parameter, [blocks, *sizes]."""
    padding = [(0, after - before) for before, after in zip(blocks.shape, blocks.padded, strict=True)]
    nested = jnp.pad(x.reshape(blocks.shape), padding).reshape(blocks.nested)
    return nested.transpose(blocks.outside_in).reshape(-1, *blocks.sizes)


def _join(x: jax.Array, blocks: Blocks) -> jax.Array:
    """The inverse of `_split`."""
    nested = x.reshape(*blocks.counts, *blocks.sizes).transpose(blocks.inside_out)
    return nested.reshape(blocks.padded)[tuple(slice(size) for size in blocks.shape)]


def _as_rows(x: jax.Array, axis: int) -> jax.Array:
    """[blocks, *sizes] as matrices whose rows are a dimension of the blocks."""
    moved = jnp.moveaxis(x, axis + 1, 1)
    return moved.reshape(*moved.shape[:2], -1)


def _multiply(root: jax.Array, x: jax.Array, axis: int) -> jax.Array:
    """Multiplies [blocks, *sizes] by a matrix for each block, along a dimension of the blocks."""
    moved = jnp.moveaxis(x, axis + 1, 1).shape
    return jnp.moveaxis((root @ _as_rows(x, axis)).reshape(moved), 1, axis + 1)


def _with_norm_of(graft: jax.Array, direction: jax.Array) -> jax.Array:
    """The direction of each block, as long as the graft; the graft itself where it has none."""
    within = tuple(range(1, graft.ndim))
    length, wanted = (jnp.sqrt(jnp.sum(x * x, axis=within, keepdims=True)) for x in (direction, graft))
    return jnp.where(length > 0, direction * (wanted / length), graft)
