"""Small files that are laid out as the published ones are, for tests."""

import hashlib
import io
import random
import tarfile
from dataclasses import replace

import numpy as np
import scipy.io
import simplejpeg
from PIL import Image
from sklearn.datasets import load_sample_images

from algoperf.data.preparation import Preparation
from algoperf_imagenet.published import PUBLISHED
from algoperf_imagenet.store import StoredImages

PHOTOS = [Image.fromarray(photo) for photo in load_sample_images().images]
# More than ten, so that a label sorts differently as a text. In the order of their tars in the training tar.
CLASSES = [f"n{number:08}" for number in (7, 3, 11, 5, 1, 9, 2, 12, 4, 6, 10, 8)]
CMYK, PNG, GREY = "n00000003_1.JPEG", "n00000001_0.JPEG", "n00000012_1.JPEG"
PER_CLASS = 3
DEVKIT = "ILSVRC2012_devkit_t12"
V2 = "imagenetv2-matched-frequency-format-val"


def silent(_):
    pass


def job(folder, source, **options):
    folder.mkdir(parents=True, exist_ok=True)
    return Preparation(folder=folder, source=source, report=silent, **options)


def encoded(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tar_of(files, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


def damaged(content):
    return content[: len(content) // 2]


class ImageNet:
    """A folder with the four published files, made of a few parts of two photographs."""

    def __init__(self, folder):
        self.folder = folder
        self._rng = np.random.default_rng(0)
        self.train = {name: self._class(name) for name in CLASSES}
        self.validation = {f"ILSVRC2012_val_{number:08}.JPEG": self._photo() for number in range(1, 8)}
        # Their WordNet ids, in the kit's own order.
        self.validation_classes = [CLASSES[index] for index in (4, 4, 0, 11, 7, 2, 10)]
        self.test = {f"{label}/{label:02x}{number}.jpeg": self._photo() for label in range(12) for number in range(2)}
        self.write()

    def _photo(self, kind="JPEG", mode="RGB"):
        left, top = self._rng.integers(0, 400, 2) // (1, 2)
        photo = PHOTOS[self._rng.integers(2)].crop((left, top, left + 96, top + 72)).convert(mode)
        return encoded(photo, kind)

    def _class(self, name):
        files = {f"{name}_{number}.JPEG": self._photo() for number in range(PER_CLASS)}
        special = {CMYK: ("JPEG", "CMYK"), PNG: ("PNG", "RGB"), GREY: ("JPEG", "L")}
        return files | {file: self._photo(*special[file]) for file in special if file in files}

    def write(self):
        """Writes the files, and describes them as the published ones."""
        contents = {
            PUBLISHED.train.name: tar_of({f"{name}.tar": tar_of(files) for name, files in self.train.items()}),
            # Not in the order of their names.
            PUBLISHED.validation.name: tar_of(dict(reversed(self.validation.items()))),
            PUBLISHED.devkit.name: self._devkit(),
            PUBLISHED.test.name: tar_of(
                {V2: None} | {f"{V2}/{name}": content for name, content in self.test.items()}, "w:gz"
            ),
        }
        self.folder.mkdir(exist_ok=True)
        for name, content in contents.items():
            (self.folder / name).write_bytes(content)
        self.describe()

    def describe(self):
        def described(archive):
            content = (self.folder / archive.name).read_bytes()
            return replace(archive, size=len(content), digest=f"sha256:{hashlib.sha256(content).hexdigest()}")

        self.published = replace(
            PUBLISHED,
            train=described(PUBLISHED.train),
            validation=described(PUBLISHED.validation),
            devkit=replace(described(PUBLISHED.devkit), size=None),
            test=described(PUBLISHED.test),
            num_classes=len(CLASSES),
            split_sizes={
                "train": PER_CLASS * len(CLASSES),
                "validation": len(self.validation),
                "test": len(self.test),
            },
        )

    def _devkit(self):
        """Classes are 1 ... 12 in an order that is none of the others; an inner node of the hierarchy follows."""
        order = [*random.Random(1).sample(CLASSES, len(CLASSES)), "n00000000"]
        fields = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height"]
        synsets = np.zeros((len(order), 1), [(field, object) for field in fields])
        for number, name in enumerate(order, start=1):
            inner = number > len(CLASSES)
            children = np.array([1.0, 2.0]) if inner else np.zeros((1, 0))
            synsets[number - 1, 0] = (float(number), name, f"{name}, thing", "a gloss", 2.0 * inner, children, 0.0)
        meta = io.BytesIO()
        scipy.io.savemat(meta, {"synsets": synsets})
        numbers = "".join(f"{1 + order.index(name)}\n" for name in self.validation_classes)
        files = {
            f"{DEVKIT}/readme.txt": b"Read me.",
            f"{DEVKIT}/data/meta.mat": meta.getvalue(),
            f"{DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt": numbers.encode(),
        }
        return tar_of(files, "w:gz")

    def check(self, folder, without=()):
        """Compares what was prepared with what the files were made of."""
        names = sorted(CLASSES)
        expected = {
            "train": [
                (content, label)
                for label, name in enumerate(names)
                for file, content in self.train[name].items()
                if file not in without
            ],
            "validation": list(zip(self.validation.values(), map(names.index, self.validation_classes))),
            "test": [(content, int(name.partition("/")[0])) for name, content in self.test.items()],
        }
        converted = {self.train[name.partition("_")[0]][name] for name in (CMYK, PNG)}
        for split, images in expected.items():
            stored = StoredImages(folder / split)
            assert stored.labels.tolist() == [label for _, label in images]
            for record, (content, _) in zip(stored.read(np.arange(len(stored))), images, strict=True):
                if content in converted:
                    picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
                    assert np.abs(simplejpeg.decode_jpeg(record, "RGB") - picture).mean() < 3
                else:
                    assert record == content


def files_in(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def contents_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in files_in(folder)}
