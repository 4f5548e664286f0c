"""Volumes as small as tests need them, laid out as fastMRI's are, and archives of them."""

import io
import lzma
import tarfile
from dataclasses import replace

import h5py
import numpy as np

from algoperf.data.preparation import Preparation
from algoperf_fastmri.published import PUBLISHED, Part
from algoperf_fastmri.spec import FASTMRI
from algoperf_fastmri.volumes import StoredSlices

SIZE = 12
# By split, slices of each volume; the names are in this order, the archives are not.
NUM_SLICES = {"train": (3, 1, 4, 2, 5), "validation": (2, 3, 1), "test": (4, 2)}
_FOLDERS = {"knee_singlecoil_train": "singlecoil_train", "knee_singlecoil_val": "singlecoil_val"}


def measured(number, num_slices, size=SIZE):
    """K-space and images of a volume: noise, of a width that differs from volume to volume."""
    rng = np.random.default_rng(number)
    height, width = size + 8, size + number % 5
    kspace = (rng.normal(size=(num_slices, height, width, 2)) * 1e-5).astype(np.float32)
    return kspace.view(np.complex64)[..., 0], (rng.random((num_slices, size, size)) * 1e-5).astype(np.float32)


def h5(kspace, images, *, chunked=False, **attributes):
    """The contents of a published file."""
    buffer = io.BytesIO()
    options = {"chunks": (1, *kspace.shape[1:]), "compression": "gzip"} if chunked else {}
    with h5py.File(buffer, "w") as file:
        file.create_dataset("ismrmrd_header", data=b"<ismrmrdHeader/>")
        file.create_dataset("kspace", data=kspace, **options)
        if images is not None:
            file.create_dataset("reconstruction_esc", data=images)
            file.create_dataset("reconstruction_rss", data=images + 1)
            attributes = {"max": float(images.max(initial=0)), "norm": float(np.linalg.norm(images))} | attributes
        file.attrs.update({"acquisition": "CORPD_FBK", "patient_id": "0" * 64} | attributes)
    return buffer.getvalue()


def tar_xz(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return lzma.compress(buffer.getvalue(), preset=0)


def silent(_):
    pass


def job(folder, source, report=silent, **options):
    folder.mkdir(parents=True, exist_ok=True)
    return Preparation(folder=folder, source=source, report=report, **options)


def files_in(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def contents_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in files_in(folder)}


class Knees:
    """A folder with the two published archives: `measured` and `contents`, by split and name."""

    def __init__(self, folder):
        self.folder = folder
        names = iter(range(1_000_000, 2_000_000, 7))
        self.measured = {
            split: {f"file{(number := next(names))}.h5": measured(number, size) for size in sizes}
            for split, sizes in NUM_SLICES.items()
        }
        self.contents = {
            split: {name: h5(*arrays) for name, arrays in volumes.items()} for split, volumes in self.measured.items()
        }
        sizes = {split: Part(len(some), sum(some)) for split, some in NUM_SLICES.items()}
        archives = [
            replace(archive, parts={split: sizes[split] for split in archive.parts}, obtain=f"ask for {archive.label}")
            for archive in PUBLISHED.archives
        ]
        largest = max(len(content) for volumes in self.contents.values() for content in volumes.values())
        self.published = replace(PUBLISHED, archives=archives, image_size=SIZE, bytes_per_slice=largest)
        self.write()

    def write(self):
        self.folder.mkdir(exist_ok=True)
        for archive in self.published.archives:
            (self.folder / archive.name).write_bytes(tar_xz(self.members(archive)))

    def members(self, archive):
        """The last volumes first; and what is no volume."""
        folder = _FOLDERS[archive.label]
        yield f"{folder}/README.txt", b"Read me."
        yield f"{folder}/._file1000000.h5", b"What a Mac leaves in an archive."
        for name, content in sorted(self.volumes(archive).items(), reverse=True):
            yield f"{folder}/{name}", content

    def volumes(self, archive):
        return {name: content for split in archive.parts for name, content in self.contents[split].items()}

    def unpack(self, archive, folder):
        """Replaces an archive by a folder."""
        (self.folder / archive.name).unlink()
        (self.folder / folder).mkdir()
        for path, content in self.members(archive):
            (self.folder / folder / path.rpartition("/")[2]).write_bytes(content)

    def spec(self):
        """The workload on them."""
        sizes = {f"num_{split}_examples": sum(some) for split, some in NUM_SLICES.items()}
        options = replace(FASTMRI.dataset.options, image_size=SIZE)
        return replace(FASTMRI, **sizes, num_eval_train_examples=7, dataset=replace(FASTMRI.dataset, options=options))

    def check(self, folder, without=()):
        """Compares what was prepared with what the archives were made of."""
        for split, volumes in self.contents.items():
            kept = {name: content for name, content in volumes.items() if name not in without}
            assert {path.name: path.read_bytes() for path in (folder / split).glob("*.h5")} == kept
            stored = StoredSlices(folder / split)
            assert [volume.name for volume in stored.volumes] == sorted(kept)
            slices = [
                (*arrays, images.max())
                for name in sorted(kept)
                for kspace, images in [self.measured[split][name]]
                for arrays in zip(kspace, images, strict=True)
            ]
            assert len(stored) == len(slices)
            for number, expected in enumerate(slices):
                for found, array in zip(stored.read(number), expected, strict=True):
                    np.testing.assert_array_equal(found, array)
