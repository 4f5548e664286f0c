"""The pipeline beyond the conformance kit: what is random, mixup, threads, and the end on the devices."""

import io
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from algoperf import registry
from algoperf.data import DataError, Shards
from algoperf.data.preparation import open_prepared
from algoperf.spec import Framework, Scale, Split
from algoperf.testing.compare import assert_same
from algoperf.testing.frameworks import BOTH, require
from algoperf_imagenet import data
from algoperf_imagenet.normalisation import MEAN, STANDARD_DEVIATION
from algoperf_imagenet.resnet.spec import IMAGENET_RESNET
from algoperf_imagenet.store import StoredImages, finish_split, write_shard
from algoperf_imagenet.vit.spec import IMAGENET_VIT

RESNET, VIT = (spec.at(Scale.MINI) for spec in (IMAGENET_RESNET, IMAGENET_VIT))
NUM_PHOTOS = 12
BATCH = 8


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A split of a few real photos of several sizes."""
    folder = tmp_path_factory.mktemp("photos")
    pictures = load_sample_images().images

    def images():
        for i in range(NUM_PHOTOS):
            buffer = io.BytesIO()
            part = pictures[i % 2][5 * i : 400, 10 * i : 500 + i]
            Image.fromarray(part).save(buffer, "JPEG", quality=92)
            yield buffer.getvalue(), i % 10

    write_shard(folder / "photos.arrayrecord", images())
    finish_split(folder)
    return StoredImages(folder)


def dataset(spec, photos, **options):
    num_threads = options.pop("num_threads", None)
    small = replace(
        spec,
        dataset=replace(spec.dataset, options=replace(spec.dataset.options, **({"image_size": 32} | options))),
        num_train_examples=NUM_PHOTOS,
        num_eval_train_examples=5,
    )
    return data.ImagenetDataset(small, {Split.TRAIN: photos}, num_threads)


def batches(spec, photos, count, batch_size=BATCH, seed=3, shards=None, **options):
    shards = shards or Shards()
    return list(islice(iter(dataset(spec, photos, **options).train(batch_size, shards, seed)), count))


@pytest.mark.parametrize("spec", [RESNET, VIT], ids=lambda spec: spec.name)
def test_batches_do_not_depend_on_the_number_of_threads(spec, photos):
    expected = batches(spec, photos, 4, num_threads=1)
    for num_threads in (2, 5):
        for batch, again in zip(batches(spec, photos, 4, num_threads=num_threads), expected, strict=True):
            assert_same(batch, again)


def test_a_picture_depends_on_seed_epoch_and_index_alone(photos):
    # Whatever the batch size, the pictures are the same ones in the same order.
    small = np.concatenate([b["inputs"] for b in batches(VIT, photos, 12, batch_size=4)])
    large = np.concatenate([b["inputs"] for b in batches(VIT, photos, 4, batch_size=12)])
    np.testing.assert_array_equal(small, large)
    by_epoch = small.reshape(4, NUM_PHOTOS, -1)
    # The same photo looks different in every epoch, and with another seed.
    assert len({picture.tobytes() for picture in by_epoch.reshape(4 * NUM_PHOTOS, -1)}) == 4 * NUM_PHOTOS
    other = np.concatenate([b["inputs"] for b in batches(VIT, photos, 4, batch_size=12, seed=4)])
    assert not {p.tobytes() for p in other} & {p.tobytes() for p in large}


def test_half_of_the_pictures_are_mirrored_where_flips_are_on(photos):
    plain = np.concatenate([b["inputs"] for b in batches(RESNET, photos, 20, flip=False)])
    flipped = np.concatenate([b["inputs"] for b in batches(RESNET, photos, 20, flip=True)])
    same = (plain == flipped).all(axis=(1, 2, 3))
    mirrored = (plain[:, :, ::-1] == flipped).all(axis=(1, 2, 3))
    assert (same | mirrored).all()
    assert abs(mirrored.mean() - 0.5) < 0.15


def test_evaluation_shows_the_middle_of_the_same_photos(photos):
    shown = dataset(RESNET, photos)
    first, second = (list(shown.evaluation(Split.EVAL_TRAIN, 4, Shards())) for _ in range(2))
    for batch, again in zip(first, second, strict=True):
        assert_same(batch, again)
    assert [batch["weights"].tolist() for batch in first] == [[1, 1, 1, 1], [1, 0, 0, 0]]
    photo = np.asarray(Image.open(io.BytesIO(photos.read(np.array([0]))[0])))
    side = int(0.875 * min(photo.shape[:2]))
    top, left = ((length - side + 1) // 2 for length in photo.shape[:2])
    middle = Image.fromarray(photo[top : top + side, left : left + side]).resize((32, 32), Image.Resampling.NEAREST)
    spec = replace(shown._spec, num_validation_examples=NUM_PHOTOS)
    validation = data.ImagenetDataset(spec, {Split.VALIDATION: photos})
    (batch,) = validation.evaluation(Split.VALIDATION, NUM_PHOTOS, Shards())
    assert np.corrcoef(np.asarray(middle).ravel(), batch["inputs"][0].ravel())[0, 1] > 0.8


def mixed_on_host(batch):
    """What a batch becomes on the devices, in float64."""
    pictures, previous = (
        (batch[name].astype(np.float64) - MEAN) / STANDARD_DEVIATION for name in ("inputs", "previous")
    )
    weights = batch["mixup"].astype(np.float64)
    by_shard = pictures.reshape(len(weights), -1, *pictures.shape[1:])
    mixed = [
        weight * part + (1 - weight) * np.concatenate([[before], part[:-1]])
        for weight, part, before in zip(weights, by_shard, previous, strict=True)
    ]
    return np.concatenate(mixed)


@pytest.mark.parametrize("total", [1, 2, 4])
def test_mixup_is_of_the_global_batch(photos, total):
    plain = batches(VIT, photos, 3, mixup_alpha=None)
    for number, (batch, expected) in enumerate(
        zip(batches(VIT, photos, 3, shards=Shards(total, range(total))), plain, strict=True)
    ):
        np.testing.assert_array_equal(batch["inputs"], expected["inputs"])
        weight = float(np.float32(np.random.default_rng((1, 3, number * BATCH)).beta(0.2, 0.2)))
        assert batch["mixup"].tolist() == [weight] * total
        pictures = (expected["inputs"] - np.array(MEAN)) / STANDARD_DEVIATION
        one_hot = np.eye(10)[expected["targets"]]
        np.testing.assert_allclose(
            mixed_on_host(batch), weight * pictures + (1 - weight) * np.roll(pictures, 1, axis=0), atol=1e-6
        )
        np.testing.assert_allclose(
            batch["targets"], weight * one_hot + (1 - weight) * np.roll(one_hot, 1, axis=0), atol=1e-6
        )


@pytest.mark.parametrize("total", [2, 4])
def test_processes_mix_what_one_process_mixes(photos, total):
    whole = batches(VIT, photos, 3, shards=Shards(total, range(total)))
    parts = [batches(VIT, photos, 3, shards=Shards(total, range(rank, rank + 1))) for rank in range(total)]
    for batch, *pieces in zip(whole, *parts, strict=True):
        for name, array in batch.items():
            np.testing.assert_array_equal(np.concatenate([piece[name] for piece in pieces]), array, err_msg=name)


def test_mixup_weights_follow_their_law(photos):
    many = batches(VIT, photos, 2000, batch_size=1, image_size=1, rand_augment=0)
    weights = np.array([batch["mixup"][0] for batch in many])
    # Of Beta(0.2, 0.2): mean 1/2, variance 1/(4 · 1.4); most weights are close to 0 or 1.
    assert abs(weights.mean() - 0.5) < 0.04
    assert abs(weights.var() - 1 / 5.6) < 0.012
    assert abs(np.mean(abs(weights - 0.5) > 0.4) - 0.69) < 0.05


@pytest.mark.parametrize("framework", BOTH)
@pytest.mark.parametrize("spec", [RESNET, VIT], ids=lambda spec: spec.name)
def test_pictures_are_finished_on_the_devices(framework, spec, photos):
    require(framework)
    workload = registry.make_workload(spec, framework)
    batch = batches(spec, photos, 1)[0]
    placed = workload.place_batch(batch)
    assert set(placed) == {"inputs", "targets"}
    expected = mixed_on_host(batch) if "mixup" in batch else (batch["inputs"] - np.array(MEAN)) / STANDARD_DEVIATION
    inputs = workload.backend.to_host(placed["inputs"])
    if framework is Framework.PYTORCH:
        import torch

        assert placed["inputs"].is_contiguous(memory_format=torch.channels_last)
        inputs = inputs.transpose(0, 2, 3, 1)
    assert inputs.dtype == np.float32
    np.testing.assert_allclose(inputs, expected, atol=2e-6)


def test_a_stored_image_that_is_damaged_is_named(tmp_path):
    write_shard(tmp_path / "photos.arrayrecord", iter([(b"nothing", 0)] * NUM_PHOTOS))
    finish_split(tmp_path)
    message = r"Image \d+ of .*photos.arrayrecord cannot be decoded \(no JPEG\); `algoperf-orchestrate data verify`"
    with pytest.raises(DataError, match=message):
        batches(RESNET, StoredImages(tmp_path), 1)


def test_another_number_of_images_is_refused(data_dir):
    for split in ("train", "validation", "test"):
        spec = replace(RESNET, **{f"num_{split}_examples": 999})
        with pytest.raises(DataError, match=rf"{split} has \d+ images instead of 999; delete .* and prepare"):
            open_prepared(spec, data_dir)


def test_an_evaluation_cannot_look_at_more_than_there_is(photos):
    with pytest.raises(ValueError, match="There are 12 training examples; an evaluation cannot look at 13 of them"):
        data.ImagenetDataset(replace(RESNET, num_eval_train_examples=13), {Split.TRAIN: photos}).evaluation(
            Split.EVAL_TRAIN, 4, Shards()
        )
