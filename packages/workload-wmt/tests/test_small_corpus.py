"""The mini data: which texts are used, how they are divided, and what is said if they cannot be had."""

import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from wmt_files import contents_of, job, sentences

from algoperf.data import DataError
from algoperf.data.preparation import open_prepared
from algoperf.data.tokenizer import TOKENIZER, Tokenizer
from algoperf.spec import Scale, Split
from algoperf_wmt import debian, mini
from algoperf_wmt.metrics import bleu
from algoperf_wmt.small_corpus import Rules, Text, split_of, write_corpus
from algoperf_wmt.spec import WMT
from algoperf_wmt.store import StoredPairs

RULES = Rules(
    split_sizes={"train": 80, "validation": 5, "test": 5}, share=20, vocab_size=120, max_characters=80, max_shared=0.2
)


def some_texts(number=300):
    pairs = zip(sentences(number, "German"), sentences(number, "English"), strict=True)
    return [Text(f"key {i}", german, english) for i, (german, english) in enumerate(pairs)]


def texts_in(folder, split):
    tokenizer, pairs = Tokenizer.load(folder / TOKENIZER, RULES.vocab_size), StoredPairs.load(folder / split)
    sides = ([side(i).tolist() for i in range(len(pairs))] for side in (pairs.source, pairs.target))
    return list(zip(*map(tokenizer.decode, sides), strict=True))


def test_a_key_decides_about_the_split(tmp_path):
    texts = some_texts()
    write_corpus(job(tmp_path, None), texts, RULES)
    for split, size in RULES.split_sizes.items():
        expected = [text[1:] for text in texts if split_of(text.key, RULES.share) == split]
        if split == "train":
            assert texts_in(tmp_path, split) == expected[:size]
        else:
            assert [found in expected for found in texts_in(tmp_path, split)] == [True] * size


def test_shares_of_splits():
    splits = [split_of(f"key {i}", 15) for i in range(4_000)]
    assert [round(splits.count(split) / 4_000, 2) for split in ("validation", "test")] == pytest.approx(
        [0.15] * 2, abs=0.02
    )


@pytest.mark.parametrize(
    "unwanted",
    [
        ("gleich gleich", "gleich gleich"),
        ("eine\nZeile", "a line"),
        ("siehe http://x", "see that"),
        ("x" * 81, "a text"),
        ("ein Text", "y" * 81),
        ("123 - 45", "a number"),
        ("", "nothing"),
    ],
)
def test_texts_that_are_of_no_use_are_left_out(tmp_path, unwanted):
    texts = some_texts()
    write_corpus(job(tmp_path / "with", None), [Text("key", *unwanted), *texts], RULES)
    write_corpus(job(tmp_path / "without", None), texts, RULES)
    assert contents_of(tmp_path / "with") == contents_of(tmp_path / "without")


def test_of_texts_that_differ_in_digits_and_signs_the_first_is_kept(tmp_path):
    key = next(text.key for text in some_texts() if split_of(text.key, RULES.share) == "train")
    twins = [Text(key, "Kanal 1 aktiv", "channel 1 active"), Text(key, "Kanal 2: Aktiv!", "channel 2 active")]
    write_corpus(job(tmp_path, None), [*twins, *some_texts()], RULES)
    assert [german for german, _ in texts_in(tmp_path, "train")].count("Kanal 1 aktiv") == 1
    assert "channel 2 active" not in {english for _, english in texts_in(tmp_path, "train")}


@pytest.mark.parametrize("text", [("Wetter", "weather"), ("Das Foo der Bar", "Foo of Bar")])
def test_single_words_and_texts_full_of_names_are_not_evaluated(tmp_path, text):
    evaluated = {key for key in (one.key for one in some_texts()) if split_of(key, RULES.share) != "train"}
    rules = replace(RULES, split_sizes={"train": 80, "validation": 3, "test": 3})
    write_corpus(job(tmp_path, None), [*(Text(key, *text) for key in sorted(evaluated)), *some_texts()], rules)
    for split in rules.split_sizes:
        assert text not in texts_in(tmp_path, split)


def test_too_few_texts_are_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"There are \d+ usable texts for the validation split, and 500 are needed; use"
    ):
        write_corpus(
            job(tmp_path, None), some_texts(), replace(RULES, split_sizes=RULES.split_sizes | {"validation": 500})
        )


def test_what_an_interrupted_run_left_of_other_texts_is_not_used(tmp_path):
    write_corpus(job(tmp_path / "straight", None), some_texts(), RULES)
    others = [Text(text.key, text.english, text.german) for text in some_texts()]
    write_corpus(job(tmp_path / "cut", None), others, RULES)
    shutil.rmtree(tmp_path / "cut" / "train")
    write_corpus(job(tmp_path / "cut", None), some_texts(), RULES)
    assert contents_of(tmp_path / "cut") == contents_of(tmp_path / "straight")


def test_what_is_trained_on_is_not_evaluated(tmp_path):
    texts = some_texts()
    trained = next(text for text in texts if split_of(text.key, RULES.share) == "train")
    evaluated = sorted(text.key for text in texts if split_of(text.key, RULES.share) != "train")
    twins = [Text(key, f"Anders {word}", f"{trained.english}!") for key, word in zip(evaluated, "abcdefghij")]
    write_corpus(job(tmp_path, None), [*twins, *texts], RULES)
    for split in ("validation", "test"):
        assert not [english for _, english in texts_in(tmp_path, split) if trained.english in english]


# Home Assistant.


def test_the_wheel_is_checked(tmp_path):
    (tmp_path / "other.whl").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"has 14 bytes and the published homeassistant-2024\.3\.3.* has 35392639; run"):
        mini.prepare_mini(job(tmp_path / "data", tmp_path / "other.whl"))


def test_texts_are_paired_by_component_and_key(tmp_path):
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as wheel:
        for path, tree in {
            "homeassistant/components/light/translations/en.json": {"a": {"b": "on", "only": "x"}, "c": "off"},
            "homeassistant/components/light/translations/de.json": {"a": {"b": "an"}, "c": "aus", "d": "y"},
            "homeassistant/components/fan/translations/en.json": {"a": {"b": "fan"}},
            "homeassistant/other/translations/en.json": {"c": "z"},
            "homeassistant/other/translations/de.json": {"c": "z"},
        }.items():
            wheel.writestr(path, json.dumps(tree))
    with zipfile.ZipFile(tmp_path / "some.whl") as wheel:
        assert sorted(mini._texts(wheel)) == [("a/b", "an", "on"), ("c", "aus", "off")]


def test_the_mini_data_is_no_matter_of_copying(data_dir):
    spec = WMT.at(Scale.MINI)
    dataset = open_prepared(spec, data_dir)
    for split, target in ((Split.VALIDATION, spec.target.validation), (Split.TEST, spec.target.test)):
        pairs = dataset._pairs(split)
        sides = ([side(i).tolist() for i in range(len(pairs))] for side in (pairs.source, pairs.target))
        assert bleu(*map(dataset.decode, sides)) < target / 2
        assert pairs.lengths.max() <= spec.model.max_length


def test_no_text_is_in_two_splits(data_dir):
    dataset = open_prepared(WMT.at(Scale.MINI), data_dir)
    german = []
    for split in (Split.TRAIN, Split.VALIDATION, Split.TEST):
        pairs = dataset._pairs(split)
        german.append({pairs.source(i).tobytes() for i in range(len(pairs))})
        assert len(german[-1]) == len(pairs)
    assert not german[0] & german[1] | german[0] & german[2] | german[1] & german[2]


# Debian.

STANZAS = {
    "en": [
        ("light", "aa", "turns lights on\n It is small. It is fast.\n .\n  * a list\n .\n Only here. Not there."),
        ("other", "bb", "another one\n Not translated."),
    ],
    "de": [
        ("light", "aa", "schaltet Lampen ein\n Es ist klein.\n Es ist schnell.\n .\n  * eine Liste\n .\n Nur hier."),
        ("other", "cc", "ein anderes\n Eines anderen Textes."),
    ],
}


def write_lists(folder):
    folder.mkdir()
    for language, stanzas in STANZAS.items():
        text = "".join(
            f"Package: {name}\nDescription-md5: {md5}\nDescription-{language}: {text}\n\n"
            for name, md5, text in stanzas
        )
        (folder / f"debian_main_i18n_Translation-{language}").write_text(text)
    return folder


def test_sentences_are_paired_where_both_descriptions_have_as_many(tmp_path):
    german, english = (
        debian._descriptions(write_lists(tmp_path / "lists") if language == "de" else tmp_path / "lists", language)
        for language in ("de", "en")
    )
    assert german.keys() & english.keys() == {("light", "aa")}
    assert [text[1:] for text in debian._pairs(("light", "aa"), german, english)] == [
        ("schaltet Lampen ein", "turns lights on"),
        ("Es ist klein.", "It is small."),
        ("Es ist schnell.", "It is fast."),
        ("", ""),
    ]


def test_lists_that_are_not_utf_8_are_named(tmp_path):
    lists = write_lists(tmp_path / "lists")
    (lists / "a_Translation-de").write_bytes(b"Package: \xff")
    with pytest.raises(DataError, match=r"a_Translation-de is not UTF-8 .*; run `apt-get"):
        debian.prepare_debian(job(tmp_path / "data", lists))


def test_lists_without_translations_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"There are no files \*_Translation-de in .*; run `apt-get -o"):
        debian.prepare_debian(job(tmp_path / "data", tmp_path))


def test_without_apt_another_way_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"There is no apt-get here .* with --source"):
        debian.prepare_debian(job(tmp_path / "data", None))


def test_what_apt_says_is_passed_on(tmp_path, monkeypatch):
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\necho 'E: Some index files failed' >&2\nexit 100\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(DataError, match=r"could not fetch the descriptions \(E: Some index files failed\); run"):
        debian.prepare_debian(job(tmp_path / "data", None))


@pytest.mark.timeout(600)
def test_debians_descriptions_become_a_workloads_data(tmp_path):
    if shutil.which("apt-get") is None or not any(Path("/etc/apt").glob("sources.list*")):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no apt here")
    files = debian.prepare_debian(job(tmp_path, None))
    assert {path.relative_to(tmp_path).parts[0] for path in files} == {"train", "validation", "test", TOKENIZER}
    sizes = {split: len(StoredPairs.load(tmp_path / split)) for split in debian.RULES.split_sizes}
    assert sizes == debian.RULES.split_sizes
    assert not (tmp_path / "download").exists()
