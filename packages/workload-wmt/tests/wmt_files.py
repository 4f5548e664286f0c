"""Small files that are laid out as the published ones are, for tests."""

import hashlib
import io
import random
import tarfile
from dataclasses import replace

from algoperf.data.preparation import Preparation
from algoperf.data.tokenizer import TOKENIZER, Tokenizer, train_tokenizer
from algoperf_wmt.published import PUBLISHED
from algoperf_wmt.store import StoredPairs

VOCAB_SIZE = 300
NUM_LINES = {"europarl-v7": 67, "commoncrawl": 30, "news-commentary-v12": 8, "rapid2016": 12}
NUM_EVALUATED = 14
# Characters at which other readers end lines, spaces alone, and sides that are empty.
ODD = [("a\u2028b", "c\x85d"), ("e\rf\x0b", "g\x1ch\x0c"), (" ", "x"), ("", "y"), ("z", ""), ("\r", "\u2029")]


def silent(_):
    pass


def job(folder, source, report=silent):
    folder.mkdir(parents=True, exist_ok=True)
    return Preparation(folder=folder, source=source, report=report)


def tar_gz(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def lines(sentences):
    return "".join(f"{sentence}\n" for sentence in sentences).encode()


def sgml(sentences):
    segments = [f'<seg id="{number}">{sentence}</seg>\n' for number, sentence in enumerate(sentences, start=1)]
    paragraphs = "".join(f"<p>\n{segment}</p>\n" for segment in segments)
    return f'<srcset setid="a" srclang="any">\n<doc docid="1">\n{paragraphs}</doc>\n</srcset>\n'.encode()


def sentences(number, seed):
    rng = random.Random(seed)
    syllables = ["".join(rng.choices("abdeiklmnorstuäöüß", k=3)) for _ in range(60)]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(400)]
    return [" ".join(rng.choices(words, k=rng.randint(2, 8))) for _ in range(number)]


def pairs(number, seed):
    return list(zip(sentences(number, f"German {seed}"), sentences(number, f"English {seed}")))


def write_tokenizer(path, vocab_size=VOCAB_SIZE):
    """A tokenizer that is none of those that come of the small files."""
    train_tokenizer(sentences(400, "other"), path, vocab_size)


class Wmt:
    """Small files, and what they are made of: per corpus the pairs of its lines."""

    def __init__(self, folder):
        self.folder = folder
        self.texts = {
            corpus.name: pairs(NUM_LINES.get(corpus.name, NUM_EVALUATED), corpus.name)
            for corpora in PUBLISHED.corpora.values()
            for corpus in corpora
        }
        self.texts["europarl-v7"][3 : 3 + len(ODD)] = ODD
        self.texts["rapid2016"][-1] = ("", "the last")
        self.texts["newstest2014"][2] = ("A &amp; B", "&quot;C&quot; <b>d</seg> e")
        self.texts["newstest2014"][5] = ("\u2028", "f\x85g")
        self.overrides = {}
        self.write()

    def write(self):
        """Writes the files, and describes them as the published ones."""
        archives = {}
        for corpora in PUBLISHED.corpora.values():
            for corpus in corpora:
                form = sgml if corpus.german.endswith(".sgm") else lines
                for name, side in ((corpus.german, 0), (corpus.english, 1)):
                    content = form([pair[side] for pair in self.texts[corpus.name]])
                    archives.setdefault(corpus.archive.name, {"readme.txt": b"Read me."})[name] = content
        self.folder.mkdir(exist_ok=True)
        for archive, members in archives.items():
            members |= {name: content for name, content in self.overrides.items() if name in members}
            # Other pairs of languages, too.
            files = {name: content for name, content in members.items() if content is not None}
            (self.folder / archive).write_bytes(tar_gz({"training/europarl-v7.fr-en.fr": b"x\n"} | files))
        self.describe()

    def describe(self):
        def described(archive):
            content = (self.folder / archive.name).read_bytes()
            return replace(archive, size=len(content), digest=f"sha256:{hashlib.sha256(content).hexdigest()}")

        self.published = replace(
            PUBLISHED,
            corpora={
                split: [replace(corpus, archive=described(corpus.archive)) for corpus in corpora]
                for split, corpora in PUBLISHED.corpora.items()
            },
            split_sizes={split: len(self.expected(split)) for split in PUBLISHED.corpora},
            vocab_size=VOCAB_SIZE,
            tokenizer_bytes=8_000,
        )

    def expected(self, split):
        """The pairs that the split should have."""
        names = [corpus.name for corpus in PUBLISHED.corpora[split]]
        return [pair for name in names for pair in self.texts[name] if all(pair)]

    def check(self, folder):
        """Compares what was prepared with what the files were made of."""
        tokenizer = Tokenizer.load(folder / TOKENIZER, VOCAB_SIZE)
        for split in PUBLISHED.corpora:
            stored = StoredPairs.load(folder / split)
            german, english = zip(*self.expected(split))
            assert len(stored) == len(german)
            numbers = range(len(stored))
            assert [stored.source(number).tolist() for number in numbers] == tokenizer.encode(german)
            assert [stored.target(number).tolist() for number in numbers] == tokenizer.encode(english)


def files_in(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def contents_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in files_in(folder)}
