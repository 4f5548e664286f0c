"""How many hours of audio a minute LibriSpeech's pipeline reads, decodes and puts into batches. Prints JSON.

The 400 utterances are as long as LibriSpeech's, 12.3 s on average, and are made of noise that speech's slow changes
of loudness shape, so that FLAC leaves about half of them, as it does of LibriSpeech. Files lie on disk and in its
cache. `needed_hours_per_min` is what the reference accelerators take: 256 utterances a step, in the Conformer's budget
of time by its step hint. `bytes_to_device` is a batch as it is copied; as float32 with paddings it would be four times
that.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from algoperf.data import Shards
from algoperf.data.processors import num_processors
from algoperf.data.tokenizer import TOKENIZER, Tokenizer, train_tokenizer
from algoperf.spec import Split
from algoperf.testing.compare import leaves
from algoperf_librispeech.data import LibriSpeechDataset
from algoperf_librispeech.flac import encode
from algoperf_librispeech.spec import CONFORMER, SAMPLE_RATE
from algoperf_librispeech.store import StoredUtterances, Utterance, write_split

UTTERANCES, BATCH_SIZE, ROUNDS = 400, 256, 6
TEXT = "AND SO IT WENT ON UNTIL THE EVENING OF THE THIRD DAY"


def utterances() -> Iterator[Utterance]:
    rng = np.random.default_rng(0)
    for number in range(UTTERANCES):
        # A third is short, most are of 12 to 16 s.
        seconds = rng.uniform(2, 12) if rng.random() < 0.3 else rng.uniform(12, 16.5)
        size = int(seconds * SAMPLE_RATE)
        loudness = np.interp(
            np.arange(size), np.arange(0, size + 3_200, 3_200), rng.lognormal(7.8, 1.2, -(-size // 3_200) + 1)
        )
        noise = np.convolve(rng.standard_normal(size + 15), np.hanning(16) / 4, mode="valid")
        samples = (loudness * noise).clip(-32_768, 32_767).astype(np.int16)
        yield Utterance(f"{number:04}", encode(samples), size, TEXT)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer([TEXT], Path(folder, TOKENIZER), vocab_size=3 + len(set(TEXT)), kind="char")
        tokenizer = Tokenizer.load(Path(folder, TOKENIZER), 3 + len(set(TEXT)))
        write_split(Path(folder, "train"), utterances(), tokenizer, 256)
        stored = StoredUtterances.load(Path(folder, "train"))
        batches = iter(
            LibriSpeechDataset(CONFORMER, {Split.TRAIN: stored}, tokenizer).train(BATCH_SIZE, Shards(), seed=0)
        )
        next(batches)
        process, rates, cpu = psutil.Process(), [], []
        for _ in range(ROUNDS):
            start, before = time.perf_counter(), process.cpu_times()
            batch = next(batches)
            hours = float(batch["lengths"].sum()) / SAMPLE_RATE / 3_600
            rates.append(hours / (time.perf_counter() - start) * 60)
            after = process.cpu_times()
            cpu.append(hours / (after.user + after.system - before.user - before.system) * 60)
        flac = sum(path.stat().st_size for path in Path(folder, "train").glob("*.arrayrecord"))
    seconds_per_step = CONFORMER.budget("v0.6").max_runtime_s / CONFORMER.step_hint
    result = {
        "hours_per_min": round(statistics.median(rates), 1),
        "hours_per_cpu_min": round(statistics.median(cpu), 1),
        "needed_hours_per_min": round(BATCH_SIZE * 12.3 / 3_600 / seconds_per_step * 60, 1),
        "flac_to_int16": round(flac / (2 * float(stored.num_samples.sum())), 3),
        "padding": round(1 - float(stored.num_samples.mean()) / CONFORMER.dataset.options.max_samples, 3),
        "bytes_to_device": sum(array.nbytes for array in leaves(batch)),
    }
    print(
        json.dumps(
            {"benchmark": "librispeech_data", "utterances": BATCH_SIZE, "processors": num_processors(), **result}
        )
    )


if __name__ == "__main__":
    main()
