"""The data pipeline of ImageNet: stored JPEGs to batches of 8-bit pictures. Numpy only.

What is random about a training picture depends on (seed, epoch, index) alone: not on the batch it is in, nor on how
many devices or threads there are. Pictures stay 8-bit until they are on the devices, where they are normalised and
mixed (`jax_images`, `torch_images`).
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from algoperf.data import Batches, DataError, Dataset, Shards, ShuffledOrder, array_batches, fixed_subset
from algoperf.data.batches import Batch
from algoperf.data.processors import PipelineThreads
from algoperf.spec import Split, WorkloadSpec
from algoperf_imagenet.dataset import Pictures
from algoperf_imagenet.images import decode, evaluation_crop, picture_size, resize, training_crop
from algoperf_imagenet.randaugment import rand_augment
from algoperf_imagenet.store import StoredImages, num_skipped

STORED_SPLITS = (Split.TRAIN, Split.VALIDATION, Split.TEST)
# What the seeds of independent draws begin with.
_PICTURE, _MIXUP = 0, 1
# Pictures that a thread takes at once.
_CHUNK = 16


class ImagenetDataset(Dataset):
    """The pictures of ImageNet, or of the mini data.

    A batch is `inputs`, uint8 [B, H, W, 3], and `targets`, int32 [B]; evaluation batches also have `weights`. With
    mixup, training batches have float32 `targets` [B, classes], mixed already, and for each shard what its pictures
    still have to be mixed with: `previous`, uint8 [shards, H, W, 3], the picture before its first one, and `mixup`,
    float32 [shards], the weight of a picture; what is missing to 1 is the weight of the picture before it.

    Args:
        spec: the workload.
        splits: the stored images.
        num_threads: how many decode pictures; None asks for this process's share of the processors.
    """

    def __init__(
        self, spec: WorkloadSpec, splits: Mapping[Split, StoredImages], num_threads: int | None = None
    ) -> None:
        self._spec = spec
        self._options: Pictures = spec.dataset.options
        self._splits = splits
        self._threads = PipelineThreads("pictures", num_threads)

    def train(self, global_batch_size: int, shards: Shards, seed: int) -> Batches:
        """Endless shuffled batches of augmented pictures; the local shards' part of each global batch."""
        images, options = self._splits[Split.TRAIN], self._options
        order = ShuffledOrder(len(images), seed)
        pool = self._threads.pool(shards)
        part = shards.slices(global_batch_size)

        def load(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            indices = order.at(positions)
            epochs = positions // len(images)

            def fill(i: int, jpeg: bytes, out: np.ndarray) -> None:
                key = (_PICTURE, seed, int(epochs[i]), int(indices[i]))
                augment(jpeg, options, np.random.default_rng(key), out)

            return self._pictures(images, indices, fill, pool), images.labels[indices]

        def read(start: int) -> tuple[Batch, int]:
            positions = np.arange(start, start + global_batch_size)
            if options.mixup_alpha is None:
                inputs, labels = load(positions[part])
                return {"inputs": inputs, "targets": labels.astype(np.int32)}, start + global_batch_size
            rng = np.random.default_rng((_MIXUP, seed, start))
            weight = np.float32(rng.beta(options.mixup_alpha, options.mixup_alpha))
            return _mixed(load, positions, shards, weight, options.num_classes), start + global_batch_size

        return Batches(read)

    def evaluation(self, split: Split, global_batch_size: int, shards: Shards) -> Batches:
        """The middle of each picture of a split once, in stored order."""
        images = self._splits[Split.TRAIN if split is Split.EVAL_TRAIN else split]
        number = self._spec.num_examples(split)
        chosen = fixed_subset(len(images), number) if split is Split.EVAL_TRAIN else np.arange(number)
        pool = self._threads.pool(shards)

        def fill(i: int, jpeg: bytes, out: np.ndarray) -> None:
            height, width = picture_size(jpeg)
            box = evaluation_crop(height, width)
            resize(decode(jpeg, box.top + box.height), box, out)

        def load(indices: np.ndarray, _: np.ndarray) -> Batch:
            rows = chosen[indices]
            inputs = self._pictures(images, rows, fill, pool)
            return {"inputs": inputs, "targets": images.labels[rows].astype(np.int32)}

        return array_batches(load, number, global_batch_size, shards)

    def num_stored(self, split: Split) -> int:
        """How many images the stored split has."""
        return len(self._splits[Split.TRAIN if split is Split.EVAL_TRAIN else split])

    def _pictures(
        self,
        images: StoredImages,
        indices: np.ndarray,
        fill: Callable[[int, bytes, np.ndarray], None],
        pool: ThreadPoolExecutor,
    ) -> np.ndarray:
        """The pictures that `fill(i, jpeg, out)` makes of stored images. uint8 [B, H, W, 3]."""
        size = self._options.image_size
        pictures = np.empty((len(indices), size, size, 3), np.uint8)

        def work(start: int) -> None:
            chunk = indices[start : start + _CHUNK]
            for i, jpeg in enumerate(images.read(chunk), start):
                try:
                    fill(i, jpeg, pictures[i])
                except DataError as error:
                    raise DataError(
                        f"{images.place(indices[i])} cannot be decoded ({error}); `algoperf-orchestrate data verify` "
                        "says whether the prepared data was altered."
                    ) from error

        # `list`, so that errors are raised.
        list(pool.map(work, range(0, len(indices), _CHUNK)))
        return pictures


def augment(jpeg: bytes, options: Pictures, rng: np.random.Generator, out: np.ndarray) -> None:
    """Makes a training picture, uint8 [size, size, 3], of a JPEG: crop, flip, RandAugment."""
    height, width = picture_size(jpeg)
    box = training_crop(height, width, options.min_area, rng)
    mirror = rng.random() < 0.5 and options.flip
    resize(decode(jpeg, box.top + box.height), box, out, mirror=mirror)
    if options.rand_augment:
        out[:] = rand_augment(out, options.rand_augment, rng)


def _mixed(
    load: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    positions: np.ndarray,
    shards: Shards,
    weight: np.float32,
    num_classes: int,
) -> Batch:
    """The local shards' part of a batch that mixup is applied to (Zhang et al., https://arxiv.org/abs/1710.09412).

    A picture is mixed with the one before it in the global batch, the first with the last.
    """
    part = shards.slices(len(positions))
    local = positions[part]
    # The first picture of each shard, and the one before it, which only one of the local shards' may have loaded.
    firsts = np.arange(part.start, part.stop, len(positions) // shards.total)
    before = positions[firsts - 1]
    other = before[~np.isin(before, local)]
    wanted = np.concatenate([local, other])
    inputs, labels = load(wanted)
    rows = np.array([np.flatnonzero(wanted == position)[0] for position in before], np.int64)
    one_hot = np.eye(num_classes, dtype=np.float32)[labels]
    targets, rolled = one_hot[: len(local)], np.roll(one_hot[: len(local)], 1, axis=0)
    rolled[firsts - part.start] = one_hot[rows]
    return {
        "inputs": inputs[: len(local)],
        "targets": weight * targets + (1 - weight) * rolled,
        "previous": inputs[rows],
        "mixup": np.full(len(shards.local), weight, np.float32),
    }


def open_dataset(spec: WorkloadSpec, folder: Path) -> ImagenetDataset:
    """Opens prepared data. Raises DataError if a split has not as many images as the workload says."""
    splits = {split: StoredImages(folder / split.value) for split in STORED_SPLITS}
    for split, images in splits.items():
        left_out = num_skipped(folder) if split is Split.TRAIN else 0
        if len(images) + left_out != spec.num_examples(split):
            raise DataError(
                f"{folder / split.value} has {len(images)} images instead of {spec.num_examples(split)}; "
                f"delete {folder} and prepare the data again."
            )
    # Refuses an evaluation on training data that is larger than they are.
    fixed_subset(len(splits[Split.TRAIN]), spec.num_eval_train_examples)
    return ImagenetDataset(spec, splits)
