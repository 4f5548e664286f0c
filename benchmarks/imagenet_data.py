"""Pictures per CPU-second of ImageNet's pipeline, from stored JPEGs to a batch at 224 pixels, on one thread.

The JPEGs are 500 x 375 cuts of two photos at two qualities, about 61 and 92 kB; ImageNet's are about 110 kB. Training
crops are uniform in area from 8 %, pictures are decoded exactly (but no further down than the crop reaches) and resized
by bicubic interpolation without antialiasing. `vit` adds RandAugment of two operations, and mixup's labels.

`tensorflow_per_cpu_s` is what TensorFlow's decode_and_crop_jpeg and bicubic resize take on this machine for the same
files, where TensorFlow is installed; the two are timed in turns. Prints JSON.
"""

import importlib.util
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from algoperf.data import Shards
from algoperf.spec import Split, WorkloadSpec
from algoperf_imagenet.data import ImagenetDataset
from algoperf_imagenet.images import training_crop
from algoperf_imagenet.resnet.spec import IMAGENET_RESNET
from algoperf_imagenet.store import StoredImages, finish_split, write_shard
from algoperf_imagenet.vit.spec import IMAGENET_VIT

QUALITIES = {"61 kB": 92, "92 kB": 96}
NUM_IMAGES = 256
BATCH_SIZE = 128
ROUNDS = 9


def photos(quality: int) -> list[bytes]:
    """Cuts of two real photos, each at another place."""
    pictures, rng, files = load_sample_images().images, np.random.default_rng(0), []
    for i in range(NUM_IMAGES):
        picture = pictures[i % 2]
        top, left = (int(rng.integers(0, side - size + 1)) for side, size in zip(picture.shape, (375, 500)))
        buffer = io.BytesIO()
        Image.fromarray(picture[top : top + 375, left : left + 500]).save(buffer, "JPEG", quality=quality)
        files.append(buffer.getvalue())
    return files


def our_batches(spec: WorkloadSpec, files: Sequence[bytes], folder: Path) -> Callable[[], object]:
    """Makes the next training batch."""
    if not folder.exists():
        write_shard(folder / "photos.arrayrecord", ((jpeg, i % 1000) for i, jpeg in enumerate(files)))
        finish_split(folder)
    images = {Split.TRAIN: StoredImages(folder)}
    dataset = ImagenetDataset(replace(spec, num_train_examples=NUM_IMAGES), images, num_threads=1)
    batches = iter(dataset.train(BATCH_SIZE, Shards(), seed=0))
    return lambda: next(batches)


def tensorflow_batches(files: Sequence[bytes]) -> Callable[[], object]:
    """Decodes, crops and resizes a batch as the public reference's JAX pipeline does, one picture after the other."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rng = np.random.default_rng(0)

    @tf.function(input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([4], tf.int32)])
    def picture(jpeg, window):
        pixels = tf.image.decode_and_crop_jpeg(jpeg, window, channels=3)
        return tf.image.resize(pixels[None], (224, 224), "bicubic")[0]

    def batch() -> None:
        for jpeg in files[:BATCH_SIZE]:
            picture(jpeg, np.array(training_crop(375, 500, 0.08, rng), np.int32))

    return batch


def rates(makers: dict[str, Callable[[], object]]) -> dict[str, int]:
    """Pictures per CPU-second of each, the median of several rounds in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    for make in makers.values():
        make()
    for _ in range(ROUNDS):
        for name, make in makers.items():
            start = time.process_time()
            make()
            seconds[name].append(time.process_time() - start)
    return {name: round(BATCH_SIZE / statistics.median(times)) for name, times in seconds.items()}


def main() -> None:
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for label, quality in QUALITIES.items():
            files = photos(quality)
            makers = {
                f"{name}_per_cpu_s": our_batches(spec, files, Path(folder) / str(quality))
                for name, spec in (("resnet", IMAGENET_RESNET), ("vit", IMAGENET_VIT))
            }
            if importlib.util.find_spec("tensorflow"):
                makers["tensorflow_per_cpu_s"] = tensorflow_batches(files)
            mean_kb = round(statistics.mean(len(jpeg) for jpeg in files) / 1000)
            result[label] = {"mean_kb": mean_kb, **rates(makers)}
    print(json.dumps({"benchmark": "imagenet_data", "image_size": 224, "resize": "bicubic", **result}))


if __name__ == "__main__":
    main()
