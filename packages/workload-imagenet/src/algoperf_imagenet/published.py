"""The published files of ImageNet, and whether a folder holds them."""

import difflib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from algoperf.data.archives import Archive, check_archive
from algoperf.data.preparation import DataError, Preparation

_COMMAND = "algoperf-orchestrate data prepare imagenet_resnet --scale full --source FOLDER"
_LOGIN = (
    "download it from https://image-net.org/challenges/LSVRC/2012/2012-downloads.php (after a login; research only) "
    f"into the folder of the others, and run `{_COMMAND}`"
)
# Files whose contents were found to be the published ones, so that a resumed run need not read them all again.
_CHECKED = ".checked.json"


@dataclass(frozen=True, kw_only=True)
class ImageNetFiles:
    """The published files.

    Attributes:
        train: tar of a tar per class.
        validation: tar of images.
        devkit: names the classes, and the validation images' labels.
        test: ImageNet-v2, matched frequency: tar.gz of a folder per class, whose name is the label.
        num_classes: how many classes there are.
        split_sizes: images per split.
    """

    train: Archive
    validation: Archive
    devkit: Archive
    test: Archive
    num_classes: int
    split_sizes: Mapping[str, int]

    def needed_for(self, splits: Iterable[str]) -> list[Archive]:
        """The files that these splits are made of."""
        sources = {
            "train": [self.train, self.devkit],
            "validation": [self.validation, self.devkit],
            "test": [self.test],
        }
        needed = [archive for split in splits for archive in sources[split]]
        return [archive for archive in (self.train, self.validation, self.devkit, self.test) if archive in needed]


PUBLISHED = ImageNetFiles(
    train=Archive(
        name="ILSVRC2012_img_train.tar",
        obtain=_LOGIN,
        size=147_897_477_120,
        digest="sha256:b08200a27a8e34218a0e58fde36b0fe8f73bc377f4acea2d91602057c3ca45bb",
    ),
    validation=Archive(
        name="ILSVRC2012_img_val.tar",
        obtain=_LOGIN,
        size=6_744_924_160,
        digest="sha256:c7e06a6c0baccf06d8dbeb6577d71efff84673a5dbdd50633ab44f8ea0456ae0",
    ),
    devkit=Archive(
        name="ILSVRC2012_devkit_t12.tar.gz",
        obtain=_LOGIN,
        digest="md5:fa75699e90414af021442c21a62c3abf",
    ),
    test=Archive(
        name="imagenetv2-matched-frequency.tar.gz",
        obtain=(
            "download https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/"
            f"imagenetv2-matched-frequency.tar.gz into the folder of the others, and run `{_COMMAND}`"
        ),
        size=1_264_079_360,
        digest="sha256:f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
    ),
    num_classes=1_000,
    split_sizes={"train": 1_281_167, "validation": 50_000, "test": 10_000},
)


def check_source(source: Path | None, archives: Sequence[Archive]) -> Path:
    """The source, if it is a folder with these files, of the right sizes. Raises DataError, with what to do, if not."""
    names = [archive.name for archive in archives]
    if source is None:
        raise DataError(f"Preparing this data needs a folder with {', '.join(names)}; name it: `{_COMMAND}`.")
    if not source.is_dir():
        raise DataError(f"{source} is not a folder; name the one with {', '.join(names)}: `{_COMMAND}`.")
    for archive in archives:
        path = source / archive.name
        if not path.is_file():
            raise DataError(
                f"There is no {archive.name} in {source}, {_instead(source, archive, names)}; {archive.obtain}."
            )
        size = path.stat().st_size
        if archive.size not in (None, size):
            raise DataError(
                f"{path} has {size} bytes and the published {archive.name} has {archive.size}; {archive.obtain}."
            )
    return source


def check_space(folder: Path, num_bytes: int) -> None:
    """Raises DataError unless so many bytes fit into the folder."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise DataError(
            f"Preparing this data takes {num_bytes / 2**30:.1f} GiB more in {folder}, where {free / 2**30:.1f} GiB "
            "are free; make room or choose another --data-dir."
        )


def check_contents(job: Preparation, source: Path, archives: Sequence[Archive]) -> None:
    """Raises DataError unless the files' contents are the published ones; remembers those that are."""
    memory = job.folder / _CHECKED
    checked = _read(memory)
    for archive in archives:
        path = source / archive.name
        stat = path.stat()
        state = [str(path.resolve()), stat.st_size, stat.st_mtime_ns, archive.digest]
        if checked.get(archive.name) == state:
            continue
        job.report(f"Checking the contents of {archive.name} ({stat.st_size / 2**30:.1f} GiB).")
        check_archive(path, archive)
        checked[archive.name] = state
        temporary = memory.with_name(f"{_CHECKED}.tmp")
        temporary.write_text(json.dumps(checked))
        temporary.replace(memory)


def _read(memory: Path) -> dict[str, list[object]]:
    try:
        checked: dict[str, list[object]] = json.loads(memory.read_bytes())
    except (FileNotFoundError, ValueError):
        # Lost in a power cut; the files are checked again.
        return {}
    return checked


def forget_checks(folder: Path) -> None:
    """Removes what `check_contents` remembered."""
    (folder / _CHECKED).unlink(missing_ok=True)


def _instead(source: Path, archive: Archive, expected: Sequence[str]) -> str:
    """What a folder holds in place of a file."""
    names = sorted(path.name for path in source.iterdir())
    others = [name for name in names if name not in expected]
    similar = difflib.get_close_matches(archive.name, others, n=1, cutoff=0.8)
    if similar:
        return f"but there is {similar[0]}"
    return f"which holds {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else "which is empty"
