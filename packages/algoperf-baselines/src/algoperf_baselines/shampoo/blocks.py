"""The rule of Distributed Shampoo, its constants, and how parameters are divided into blocks, for both frameworks.

Sources: Gupta et al., "Shampoo: Preconditioned Stochastic Tensor Optimization", arXiv 1802.09568, algorithm 2; Anil et
al., "Scalable Second Order Optimization for Deep Learning", arXiv 2002.09018, for grafting, and for roots that are
computed now and then; Shi et al., "A Distributed Data-Parallel PyTorch Implementation of the Distributed Shampoo
Optimizer", arXiv 2309.06497, for blocks, and for momentum of the gradients rather than of the updates.

Step t = 1, 2, … with gradient g of a parameter w:

    m <- b1 m + (1 - b1) g
    v <- b2 v + (1 - b2) g²
    u  = b1 m + (1 - b1) g                                     # Nesterov momentum, up to its bias
    a  = u / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)         # the direction of NAdamW
    L_i <- b2 L_i + (1 - b2) G_i G_iᵀ                          # for each preconditioned dimension i
    R_i <- (L_i / max eigenvalue of L_i + EPSILON I)^(-1 / 2k) # at START_STEP, and every ROOT_PERIOD_STEPS after it
    d  = R_1 ... R_k u, each along its dimension, scaled to the norm of a
    w <- w - lr (d + weight_decay w)

G_i is the gradient as a matrix with dimension i as its rows. k is the number of preconditioned dimensions: those of a
parameter that has at least two of a size above 1, except those of LARGE_DIMENSION, such as a vocabulary. Before
START_STEP, and where k is 0, d = a: vectors and scalars follow NAdamW. L, R and the norms are those of single blocks.

As d is scaled, neither the bias of u and L nor the scale of L matters. Neighbouring dimensions are not merged into one,
as other implementations do where they are small: which ones are neighbours differs between the frameworks' kernels.

The roots that are due are divided among the devices, matrix by matrix. Each device has 0 in place of what the others
compute; the sum over all devices is all roots, bit for bit the same on each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["BLOCK_SIZE", "EPSILON", "LARGE_DIMENSION", "ROOT_PERIOD_STEPS", "START_STEP", "Blocks", "devices_of"]

# A preconditioner has at most this many rows.
BLOCK_SIZE = 1024
# From this size on a dimension has no preconditioner: that of an embedding would need many times its memory.
LARGE_DIMENSION = 4096
# Above the rounding errors of small eigenvalues in float32.
EPSILON = 1e-6
# So rarely that the roots take a small part of the time at full scale.
ROOT_PERIOD_STEPS = 100
START_STEP = 100


@dataclass(frozen=True)
class Blocks:
    """How a parameter is divided into blocks that are equally large, because zeros fill up the last ones.

    Attributes:
        shape: of the parameter, without dimensions of size 1.
        counts: the number of blocks along each dimension.
        sizes: the size of a block along each dimension.
        axes: the dimensions that have preconditioners.
    """

    shape: tuple[int, ...]
    counts: tuple[int, ...]
    sizes: tuple[int, ...]
    axes: tuple[int, ...]

    @classmethod
    def of(cls, shape: Sequence[int], block_size: int = BLOCK_SIZE) -> "Blocks":
        """The blocks of a parameter; a dimension without a preconditioner is not divided."""
        shape = tuple(size for size in shape if size > 1)
        axes = tuple(i for i, size in enumerate(shape) if len(shape) > 1 and size < LARGE_DIMENSION)
        counts = tuple(math.ceil(size / block_size) if i in axes else 1 for i, size in enumerate(shape))
        sizes = tuple(math.ceil(size / count) for size, count in zip(shape, counts, strict=True))
        return cls(shape, counts, sizes, axes)

    @property
    def padded(self) -> tuple[int, ...]:
        """The shape that the blocks fill."""
        return tuple(count * size for count, size in zip(self.counts, self.sizes, strict=True))

    @property
    def nested(self) -> tuple[int, ...]:
        """The same with two dimensions for each: which block, and where in it."""
        return tuple(n for pair in zip(self.counts, self.sizes, strict=True) for n in pair)

    @property
    def outside_in(self) -> tuple[int, ...]:
        """The order of the nested dimensions in which all that say which block come first."""
        return (*range(0, 2 * len(self.shape), 2), *range(1, 2 * len(self.shape), 2))

    @property
    def inside_out(self) -> tuple[int, ...]:
        """The inverse order."""
        num = len(self.shape)
        return tuple(n for pair in zip(range(num), range(num, 2 * num), strict=True) for n in pair)

    @property
    def statistics(self) -> list[tuple[int, int, int]]:
        """The shapes [blocks, size, size] of the preconditioners."""
        return [(math.prod(self.counts), self.sizes[axis], self.sizes[axis]) for axis in self.axes]


def devices_of(statistics: Sequence[Sequence[int]], num_devices: int) -> list[list[int]]:
    """Which device computes the root of each matrix, for each shape [blocks, size, size] of statistics.

    A root takes time as size³. The largest come first, each to the device that has the least to do until then, which
    takes at most a third longer than the best division (Graham, "Bounds on Multiprocessing Timing Anomalies", 1969).
    """
    loads, devices = [0] * num_devices, [[0] * blocks for blocks, *_ in statistics]
    largest_first = sorted(range(len(statistics)), key=lambda i: statistics[i][1], reverse=True)
    for i in largest_first:
        blocks, size, _ = statistics[i]
        for block in range(blocks):
            devices[i][block] = loads.index(min(loads))
            loads[devices[i][block]] += size**3
    return devices
