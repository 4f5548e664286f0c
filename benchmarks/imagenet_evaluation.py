"""Memory of an evaluation over 50,000 pictures of 224 pixels, with a small network. Prints JSON.

`peak_first_tenth_mib` is the largest resident memory until a tenth of the pictures was seen, `peak_mib` that of the
whole evaluation. Each framework has a process of its own; `imagenet_evaluation.py FRAMEWORK` measures one.
"""

import io
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
from PIL import Image
from sklearn.datasets import load_sample_images

from algoperf import registry
from algoperf.seeds import random_key
from algoperf.spec import Framework, Split
from algoperf.testing.frameworks import is_installed
from algoperf_imagenet.data import ImagenetDataset
from algoperf_imagenet.resnet.spec import IMAGENET_RESNET, ResNet
from algoperf_imagenet.store import StoredImages, finish_split, write_shard

NUM_IMAGES, BATCH_SIZE = 50_000, 250
SPEC = replace(
    IMAGENET_RESNET,
    num_validation_examples=NUM_IMAGES,
    eval_batch_size=BATCH_SIZE,
    model=ResNet(stage_sizes=(1,), width=4),
)


def dataset(folder: Path) -> ImagenetDataset:
    """One photo, 50,000 times."""
    buffer = io.BytesIO()
    Image.fromarray(load_sample_images().images[0]).resize((250, 200)).save(buffer, "JPEG", quality=80)
    write_shard(folder / "photos.arrayrecord", ((buffer.getvalue(), i % 1000) for i in range(NUM_IMAGES)))
    finish_split(folder)
    return ImagenetDataset(SPEC, {Split.VALIDATION: StoredImages(folder)})


class Memory(threading.Thread):
    """Watches the resident memory of this process."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, int]] = []

    def run(self) -> None:
        """Until the program ends."""
        process = psutil.Process()
        while True:
            self.samples.append((time.perf_counter(), process.memory_info().rss))
            time.sleep(0.05)


def measure(framework: Framework) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        workload = registry.make_workload(SPEC, framework)
        workload.dataset = dataset(Path(folder))  # Set before it would be opened.
        params, model_state = workload.init_model_fn(random_key(0))
        memory = Memory()
        memory.start()
        start = time.perf_counter()
        workload.evaluate(params, model_state, random_key(1), [Split.VALIDATION])
        end = time.perf_counter()
    early = [rss for moment, rss in memory.samples if moment <= start + (end - start) / 10]
    return {
        "seconds": round(end - start, 1),
        "peak_first_tenth_mib": round(max(early) / 2**20),
        "peak_mib": round(max(rss for _, rss in memory.samples) / 2**20),
    }


def main() -> None:
    if len(sys.argv) == 2:
        print(json.dumps(measure(Framework(sys.argv[1]))))
        return
    result = {}
    for framework in [f for f in Framework if is_installed(f)]:
        done = subprocess.run([sys.executable, __file__, framework.value], check=True, capture_output=True, text=True)
        result[framework.value] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps({"benchmark": "imagenet_evaluation", "images": NUM_IMAGES, "batch_size": BATCH_SIZE, **result}))


if __name__ == "__main__":
    main()
