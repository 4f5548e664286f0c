"""From files on disk to batches on devices, for all workloads and both frameworks; numpy only.

A pipeline is a function of one integer: `read(position)` returns a batch and the position after it. So its
whole state is that integer, two frameworks read the same examples in the same order, and a resumed run goes on
exactly where it was. grain runs the function in the background (`Batches`, `InputQueue`).
"""

from algoperf.data.batches import Batches, Dataset, Shards, array_batches
from algoperf.data.order import BlockShuffledOrder, ShuffledOrder, fixed_subset
from algoperf.data.padding import pad_batch
from algoperf.data.preparation import DataError

__all__ = [
    "Batches",
    "BlockShuffledOrder",
    "DataError",
    "Dataset",
    "Shards",
    "ShuffledOrder",
    "array_batches",
    "fixed_subset",
    "pad_batch",
]
