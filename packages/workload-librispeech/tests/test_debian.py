"""The second set of mini data: a person's prompts, from Debian's packages."""

import os
import shutil
import subprocess
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
import soundfile
from speech_files import files_in, job

from algoperf import registry
from algoperf.data import DataError
from algoperf.data.tokenizer import TOKENIZER, Tokenizer
from algoperf.spec import Scale, Split
from algoperf_librispeech import debian
from algoperf_librispeech.data import STORED_SPLITS, open_dataset
from algoperf_librispeech.debian import OPTIONS, prepare_debian, split_of, words_of
from algoperf_librispeech.spec import DEBIAN, DEEPSPEECH
from algoperf_librispeech.store import SPLITS, StoredUtterances


def test_it_is_there_at_mini_scale_only():
    assert (DEEPSPEECH.scales, DEBIAN.scales) == ((Scale.FULL, Scale.MINI), (Scale.MINI,))
    assert registry.workload_spec("librispeech_debian").at(Scale.MINI) is DEBIAN
    assert DEBIAN.base is None
    assert DEBIAN.dataset.options == OPTIONS
    assert DEBIAN.model.vocab_size == OPTIONS.vocab_size
    assert resolve_name(DEBIAN.dataset.prepare) is prepare_debian
    assert {split.value: DEBIAN.num_examples(split) for split in STORED_SPLITS} == debian.SPLIT_SIZES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Please press 1, or 2.", "PLEASE PRESS ONE OR TWO"),
        ("...that's not a valid extension!", "THAT'S NOT A VALID EXTENSION"),
        ("inter-asterisk", "INTER ASTERISK"),
        ("i", "I"),
        ("press 12", None),
        ("[this is a simple beep tone]", None),
        ("(1 second of silence)", None),
        ("<beep ascending>", None),
        ("press *", None),
        ("...", None),
    ],
)
def test_texts_become_words(text, words):
    assert words_of(text) == words


def write_packages(folder, prompts):
    """Debian packages as Asterisk's are laid out; `prompts` are texts by name."""
    for package in debian.PACKAGES:
        control = folder / "build" / package / "DEBIAN" / "control"
        control.parent.mkdir(parents=True)
        control.write_text(
            f"Package: {package}\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.org>\nDescription: sounds\n"
        )
    doc = folder / "build" / debian.PACKAGES[0] / "usr/share/doc/asterisk-core-sounds-en"
    doc.mkdir(parents=True)
    (doc / "core-sounds-en.txt").write_text("; a comment\n" + "".join(f"{n}: {t}\n" for n, t in prompts.items()))
    subprocess.run(["gzip", doc / "core-sounds-en.txt"], check=True)
    sounds = folder / "build" / debian.PACKAGES[1] / "usr/share/asterisk/sounds/en_US_f_Allison"
    for number, name in enumerate(prompts):
        path = sounds / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(-3_000, 3_000, 16_000).astype(np.int16)
        soundfile.write(path, noise, 8_000, "PCM_16")
    for package in debian.PACKAGES:
        target = folder / f"{package}_1_all.deb"
        command = ["dpkg-deb", "--build", "--root-owner-group", folder / "build" / package, target]
        subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(folder / "build")


needs_dpkg = pytest.mark.skipif(
    shutil.which("dpkg-deb") is None and not os.environ.get("CI"), reason="there is no dpkg"
)


@pytest.fixture
def packages(tmp_path, monkeypatch):
    monkeypatch.setattr(debian, "VOICES", debian.VOICES[:2])
    # All letters, so that the tokenizer has its size.
    letters = "THE QUICK BROWN FOX JUMPS OVER A LAZY DOG'S"
    words = letters.split()
    prompts = {f"a/{i}": " ".join(words[i % 9 :][:3]) + f" {words[i % 7]}" for i in range(40)}
    folder = tmp_path / "packages"
    folder.mkdir()
    write_packages(folder, {**prompts, "letters": letters, "beep": "[a beep]", "long/one": "A " * 50})
    texts = [*prompts.values(), letters]
    sizes = {split: sum(split_of(text) == split for text in texts) for split in SPLITS}
    spoken = {text for text in texts if split_of(text) == "train"}
    monkeypatch.setattr(debian, "SPLIT_SIZES", {**sizes, "train": sizes["train"] + 2 * len(spoken)})
    return folder


@needs_dpkg
def test_packages_become_three_splits(packages, tmp_path):
    folder = tmp_path / "data"
    files = prepare_debian(job(folder, packages))
    assert set(files) == files_in(folder)
    texts = {}
    for split in SPLITS:
        stored = StoredUtterances.load(folder / split)
        texts[split] = {text for _, text in stored.transcripts()}
        assert {split_of(text) for text in texts[split]} == {split}
        names = [name for name, _ in stored.transcripts()]
        assert any(name.startswith("spoken-") for name in names) == (split == "train")
        # Twice the samples of 8 kHz.
        recorded = [n for n, name in zip(stored.num_samples, names) if not name.startswith("spoken-")]
        assert set(recorded) == {32_000}
    assert not texts["train"] & (texts["validation"] | texts["test"])
    # What no row has room for, and what is no speech, is nowhere.
    assert not any("BEEP" in text or len(text) > 60 for split in SPLITS for text in texts[split])


@needs_dpkg
def test_preparing_again_does_nothing(packages, tmp_path):
    folder = tmp_path / "data"
    prepare_debian(job(folder, packages))
    before = {path: path.stat().st_mtime_ns for path in files_in(folder)}
    shutil.rmtree(packages)
    prepare_debian(job(folder, packages))
    assert {path: path.stat().st_mtime_ns for path in files_in(folder)} == before


@needs_dpkg
def test_what_an_interrupted_run_has_left_is_made_anew(packages, tmp_path, monkeypatch):
    """It may be of other packages."""
    folder = tmp_path / "data"
    with monkeypatch.context() as context:
        context.setattr(debian, "SPLITS", ("test",))
        context.setattr(debian, "prepared_files", lambda _: [])
        prepare_debian(job(folder, packages))
    (folder / TOKENIZER).write_bytes(b"another one")
    prepare_debian(job(folder, packages))
    tokenizer = Tokenizer.load(folder / TOKENIZER, OPTIONS.vocab_size)
    for split in SPLITS:
        stored = StoredUtterances.load(folder / split)
        decoded = [tokenizer.decode([stored.tokens(np.array([i])).tolist()])[0] for i in range(len(stored))]
        assert decoded == [text for _, text in stored.transcripts()]


@needs_dpkg
def test_packages_of_another_version_are_refused(packages, tmp_path, monkeypatch):
    monkeypatch.setattr(debian, "SPLIT_SIZES", {**debian.SPLIT_SIZES, "validation": 1_000})
    with pytest.raises(DataError, match=r"validation split .* in place of 1000: these are not the packages of version"):
        prepare_debian(job(tmp_path / "data", packages))


@needs_dpkg
def test_packages_that_are_missing_or_damaged_are_named(packages, tmp_path):
    sounds = packages / "asterisk-core-sounds-en-wav_1_all.deb"
    sounds.write_bytes(sounds.read_bytes()[:1_000])
    with pytest.raises(DataError, match=r"asterisk-core-sounds-en-wav_1_all.deb cannot be unpacked .*; run `apt-get"):
        prepare_debian(job(tmp_path / "data", packages))
    sounds.unlink()
    with pytest.raises(DataError, match=r"There is no package asterisk-core-sounds-en-wav in .*packages; run `apt-get"):
        prepare_debian(job(tmp_path / "data", packages))


def test_without_apt_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(DataError, match=r"There is no apt-get here .*apt-get download .* folder with --source"):
        prepare_debian(job(tmp_path / "data", None))


@pytest.mark.timeout(600)
def test_apt_fetches_the_recordings(tmp_path):
    if shutil.which("apt-get") is None or not any(Path("/etc/apt").glob("sources.list*")):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no apt here")
    folder = tmp_path / "data"
    prepare_debian(job(folder, None))
    dataset = open_dataset(DEBIAN, folder)
    assert dataset.num_stored(Split.TRAIN) == DEBIAN.num_train_examples
    assert not (folder / "download").exists()
