"""Audio and transcripts of an archive find each other, or it is said which of them did not."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speech_files import tar_gz

from algoperf.data import DataError
from algoperf_librispeech.published import PUBLISHED
from algoperf_librispeech.transcripts import read_recordings

SUBSET = PUBLISHED.subsets["test"][0]
FOLDER = "LibriSpeech/test-clean"
TEXTS = {f"{1 + i // 4}-{10 + i // 2}-{i:04}": f"TEXT {i}" for i in range(7)}


def audio(key):
    return f"{FOLDER}/{key.split('-')[0]}/{key.split('-')[1]}/{key}.flac", key.encode()


def transcripts(chapter, lines=None):
    speaker, number = chapter.split("-")
    lines = lines or [f"{key} {text}" for key, text in TEXTS.items() if key.startswith(f"{chapter}-")]
    return f"{FOLDER}/{speaker}/{number}/{chapter}.trans.txt", "".join(f"{line}\n" for line in lines).encode()


CHAPTERS = sorted({key.rpartition("-")[0] for key in TEXTS})


def members(**changes):
    """Of an archive, by name; None leaves one out."""
    found = dict(map(audio, TEXTS)) | dict(map(transcripts, CHAPTERS)) | {"LibriSpeech/SPEAKERS.TXT": b"1 | M"}
    return {name: content for name, content in (found | changes).items() if content is not None}


def read(tmp_path, contents, number=7):
    path = tmp_path / SUBSET.name
    path.write_bytes(tar_gz(contents))
    return list(read_recordings(path, replace(SUBSET, num_utterances=number)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_every_order_gives_the_same_pairs(tmp_path_factory, seed):
    shuffled = list(members().items())
    random.Random(seed).shuffle(shuffled)
    recordings = read(tmp_path_factory.mktemp("archive"), shuffled)
    expected = [(f"test-clean/{key}", key.encode(), text) for key, text in TEXTS.items()]
    assert sorted(recordings) == expected
    # In the order in which the latter of the two came.
    names = [name for name, _ in shuffled]
    chapter = {key: names.index(transcripts(key.rpartition("-")[0])[0]) for key in TEXTS}
    ready = [max(chapter[key], names.index(audio(key)[0])) for key in (name[11:] for name, _, _ in recordings)]
    assert ready == sorted(ready)


def test_an_id_is_looked_for_in_its_folder(tmp_path):
    elsewhere = {audio("1-10-0001")[0]: None, f"{FOLDER}/1/11/1-10-0001.flac": b"x"}
    with pytest.raises(
        DataError, match=f"{FOLDER}/1/11/1-10-0001.flac has no transcript in .*test-clean.tar.gz; download"
    ):
        read(tmp_path, members(**elsewhere).items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({audio("1-10-0001")[0]: None}, "1/10/1-10-0001 has a transcript and no audio in"),
        (dict([transcripts("1-11", ["1-11-0002 A"])]), r"1/11/1-11-0003\.flac has no transcript in"),
        ({transcripts("1-11")[0]: None}, r"1/11/1-11-0002\.flac has no transcript in"),
        (dict([transcripts("1-11", ["1-11-0002 A", "1-11-0003"])]), r"Line 2 of .*1-11\.trans\.txt has no text in"),
        (dict([transcripts("1-11", ["1-11-0002  ", "1-11-0003 A"])]), r"Line 1 of .*1-11\.trans\.txt has no text in"),
        (
            dict([transcripts("1-11", ["1-11-0002 A", "", "x"])]),
            "Line 2 of .* does not begin with the ID .* of 1-11 in",
        ),
        (dict([transcripts("1-11", ["1-10-0001 A"])]), "Line 1 of .* does not begin with the ID .* of 1-11 in"),
        (dict([transcripts("1-11", ["1-11-0002 A", "1-11-0002 B"])]), "Line 2 of .* second transcript of 1-11-0002 in"),
        ({transcripts("1-11")[0]: b"1-11-0002 A\n1-11-0003 \xff\n"}, "Line 2 of .* is not UTF-8 .* in"),
    ],
)
def test_what_does_not_fit_together_is_named(tmp_path, change, message):
    with pytest.raises(DataError, match=rf"{message} .*test-clean\.tar\.gz; download http.* and run `.*`\.$"):
        read(tmp_path, members(**change).items())


@pytest.mark.parametrize("number", [6, 8, 0])
def test_another_number_of_utterances_is_noticed(tmp_path, number):
    expected = rf"test-clean\.tar\.gz holds 7 utterances and should hold {number}; download"
    with pytest.raises(DataError, match=expected):
        read(tmp_path, members().items(), number)


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_an_archive_that_breaks_off_is_named(tmp_path, share):
    content = tar_gz(members().items())
    (tmp_path / SUBSET.name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"test-clean\.tar\.gz cannot be read \(.*\); if it is damaged, download it"):
        list(read_recordings(tmp_path / SUBSET.name, replace(SUBSET, num_utterances=len(TEXTS))))


def test_blanks_around_texts_are_left_out(tmp_path):
    lines = ["1-11-0002   A  B ", "1-11-0003 C\r"]
    recordings = read(tmp_path, members(**dict([transcripts("1-11", lines)])).items())
    assert {text for name, _, text in recordings if "1-11" in name} == {"A  B", "C"}
