"""Small archives that are laid out as the published ones are, for tests."""

import hashlib
import io
import random
import tarfile
from dataclasses import replace

import numpy as np
import soundfile

from algoperf.data.preparation import Preparation
from algoperf.data.tokenizer import TOKENIZER, Tokenizer, train_tokenizer
from algoperf_librispeech.published import PUBLISHED
from algoperf_librispeech.spec import SAMPLE_RATE
from algoperf_librispeech.store import StoredUtterances, read_transcripts

VOCAB_SIZE, MAX_SAMPLES, MAX_CHARACTERS, MAX_TOKENS = 50, 2_000, 60, 64
NUM_UTTERANCES = {
    "train-clean-100": 23,
    "train-clean-360": 12,
    "train-other-500": 10,
    "dev-clean": 5,
    "dev-other": 4,
    "test-clean": 6,
}
# By subset, the numbers of utterances with too many samples, and with too many characters.
TOO_LONG = {"train-clean-100": (4, 7), "train-other-500": (9, 2), "dev-clean": (4, 0), "test-clean": (1, 1)}
PER_CHAPTER = 4


def silent(_):
    pass


def job(folder, source, report=silent, **options):
    folder.mkdir(parents=True, exist_ok=True)
    return Preparation(folder=folder, source=source, report=report, **options)


def encoded(samples, rate=SAMPLE_RATE, subtype="PCM_16"):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC", subtype=subtype)
    return buffer.getvalue()


def noise(num_samples, seed=0):
    return np.random.default_rng(seed).integers(-3_000, 3_000, num_samples).astype(np.int16)


def decoded(flac):
    return soundfile.read(io.BytesIO(flac), dtype="int16")[0]


def empty_flac():
    """A FLAC file with its head and no sound; libsndfile does not write such a one."""
    content = bytearray(encoded(noise(100)))
    # Of 36 bits, the number of samples; then comes their digest.
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    return bytes(content[:42]).replace(b"fLaC\x00", b"fLaC\x80")


def sentence(rng):
    words = ["".join(rng.choices("ABDEIKLMNORSTU'", k=rng.randint(1, 5))) for _ in range(rng.randint(2, 6))]
    return " ".join(words).strip("' ") or "A"


def sentences(number, seed):
    rng = random.Random(seed)
    return [sentence(rng) for _ in range(number)]


def write_tokenizer(path, vocab_size=VOCAB_SIZE, texts=None):
    """A tokenizer that is none of those that come of the small files."""
    train_tokenizer(texts or sentences(400, "other"), path, vocab_size)


def tar_gz(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class LibriSpeech:
    """A folder with the six published archives, made of noise: audio and `texts` by subset and ID."""

    def __init__(self, folder):
        self.folder = folder
        self.flacs, self.num_samples, self.texts = {}, {}, {}
        self.max_samples, self.max_characters, self.max_tokens = MAX_SAMPLES, MAX_CHARACTERS, MAX_TOKENS
        for subset, number in NUM_UTTERANCES.items():
            rng = random.Random(subset)
            for i in range(number):
                key = f"{subset}/{19 + i // 8}-{198 + i // PER_CHAPTER}-{i:04}"
                self.add(key, noise(rng.randint(500, MAX_SAMPLES), rng.randrange(2**31)), sentence(rng))
        for subset, (samples, characters) in TOO_LONG.items():
            self.add(self.key(subset, samples), noise(MAX_SAMPLES + 1), "A")
            self.texts[self.key(subset, characters)] = "A" * (MAX_CHARACTERS + 1)
        # As long as it may be.
        self.add(self.key("train-clean-360", 0), noise(MAX_SAMPLES), "A " * (MAX_CHARACTERS // 2 - 1) + "AB")
        self.write()

    def add(self, key, samples, text):
        self.flacs[key], self.num_samples[key], self.texts[key] = encoded(samples), len(samples), text

    def key(self, subset, number):
        return sorted(key for key in self.flacs if key.startswith(f"{subset}/"))[number]

    def write(self):
        """Writes the archives, and describes them as the published ones."""
        self.folder.mkdir(exist_ok=True)
        for subset in NUM_UTTERANCES:
            (self.folder / f"{subset}.tar.gz").write_bytes(tar_gz(self.members(subset)))
        self.describe()

    def members(self, subset):
        """Chapters in no order; transcripts before, between and behind their utterances."""
        yield "LibriSpeech/README.TXT", b"Read me."
        rng = random.Random(subset)
        # Of what there is a transcript, or audio, or both.
        keys = sorted(key for key in self.flacs | self.texts if key.startswith(f"{subset}/"))
        chapters = sorted({key.rpartition("-")[0] for key in keys})
        rng.shuffle(chapters)
        for chapter in chapters:
            speaker, number = chapter.rpartition("/")[2].split("-")
            folder = f"LibriSpeech/{subset}/{speaker}/{number}"
            members = [
                (f"{folder}/{key.rpartition('/')[2]}.flac", self.flacs[key])
                for key in keys
                if key.rpartition("-")[0] == chapter and key in self.flacs
            ]
            members.append((f"{folder}/{speaker}-{number}.trans.txt", self.transcripts(chapter)))
            rng.shuffle(members)
            yield from members

    def transcripts(self, chapter):
        lines = [
            f"{key.rpartition('/')[2]} {text}\n"
            for key, text in sorted(self.texts.items())
            if key.rpartition("-")[0] == chapter
        ]
        return "".join(lines).encode()

    def describe(self):
        def described(subset):
            content = (self.folder / subset.name).read_bytes()
            return replace(
                subset,
                size=len(content),
                digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
                num_utterances=NUM_UTTERANCES[subset.label],
            )

        self.published = replace(
            PUBLISHED,
            subsets={split: [described(subset) for subset in subsets] for split, subsets in PUBLISHED.subsets.items()},
            split_sizes={split: len(self.kept(split)) for split in PUBLISHED.subsets},
            max_samples=self.max_samples,
            max_characters=self.max_characters,
            max_tokens=self.max_tokens,
            vocab_size=VOCAB_SIZE,
        )

    def kept(self, split):
        """The utterances that the split should have."""
        subsets = [subset.label for subset in PUBLISHED.subsets[split]]
        return {
            key
            for key, text in self.texts.items()
            if key.partition("/")[0] in subsets
            and len(text) <= self.max_characters
            and self.num_samples[key] <= self.max_samples
        }

    def check(self, folder, without=()):
        """Compares what was prepared with what the archives were made of."""
        tokenizer = Tokenizer.load(folder / TOKENIZER, VOCAB_SIZE)
        for split in PUBLISHED.subsets:
            stored, transcripts = StoredUtterances.load(folder / split), read_transcripts(folder / split)
            names = [name for name, _ in transcripts]
            assert sorted(names) == sorted(self.kept(split) - set(without))
            # Subset after subset.
            assert [name.partition("/")[0] for name in names] == sorted(name.partition("/")[0] for name in names)
            texts = [self.texts[name] for name in names]
            assert [text for _, text in transcripts] == texts
            numbers = np.arange(len(stored))
            for name, samples in zip(names, stored.audio(numbers), strict=True):
                assert np.array_equal(samples, decoded(self.flacs[name]))
            expected = tokenizer.encode(texts)
            assert stored.num_tokens.tolist() == [len(tokens) for tokens in expected]
            assert stored.tokens(numbers).tolist() == [token for tokens in expected for token in tokens]


def files_in(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def contents_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in files_in(folder)}
