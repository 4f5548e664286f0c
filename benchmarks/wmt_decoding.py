"""Translating: sentences per second, what early stopping and the cache save of the work, and memory. Prints JSON.

`mini`: the mini model, after some minutes of NAdamW, translates the validation split in both frameworks; `seconds` are
those of the whole evaluation with its losses, compiled before. In PyTorch the search alone is then timed on one batch
in three ways: as it is (`steps` of `longest`), without stopping early, and without a cache, where each step looks at
the whole sentences so far. `full`: a model of full size with random parameters, which hardly ever ends a sentence,
translates 32 of them: the longest that it can take. `peak_mib` is the largest resident memory of the process,
`parameters_mib` and `cache_mib` what the parameters and the cache of self attention take of it. Each measurement has a
process of its own; `wmt_decoding.py mini|full FRAMEWORK` makes one.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
from _training import Training

from algoperf import registry
from algoperf.seeds import random_key
from algoperf.spec import Framework, Scale, Split
from algoperf.testing.frameworks import is_installed
from algoperf.workload import Workload
from algoperf_orchestrator.environment import default_data_dir

TRAINING_STEPS = 600
SENTENCES = 32


def evaluation_seconds(workload: Workload, training: Training) -> float:
    """Of the validation split, once the first has compiled what is to be compiled."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        workload.evaluate(training.params, None, random_key(1), [Split.VALIDATION])
        times.append(time.perf_counter() - start)
    return min(times[1:])


def measure_mini(framework: Framework) -> dict[str, Any]:
    spec = registry.workload_spec("wmt").at(Scale.MINI)
    workload = registry.make_workload(spec, framework, default_data_dir())
    training = Training(workload)
    with workload.input_queue(Split.TRAIN, spec.batch_size) as queue:
        for number, batch in enumerate(islice(queue, TRAINING_STEPS)):
            training.step(batch, number)
    bleu = workload.evaluate(training.params, None, random_key(1), [Split.VALIDATION])["validation/bleu"]
    seconds = evaluation_seconds(workload, training)
    found = {
        "training_steps": TRAINING_STEPS,
        "bleu": round(bleu, 2),
        "seconds": round(seconds, 3),
        "sentences_per_s": round(spec.num_validation_examples / seconds, 1),
    }
    return found | (shares(workload, training) if framework is Framework.PYTORCH else {})


def shares(workload: Workload, training: Training) -> dict[str, Any]:
    """Seconds of the search as it is, without early stopping, and without a cache, on the third batch of the split."""
    import torch

    from algoperf_wmt.torch_attention import Tokens
    from algoperf_wmt.torch_beam_search import beam_search

    model, spec = training.params, workload.spec
    length, search = spec.model.max_length, spec.model.beam_search
    with workload.input_queue(Split.VALIDATION, spec.eval_batch_size) as queue:
        inputs = list(islice(queue, 3))[2]["inputs"]
    is_real, steps = inputs[:, 0] > 0, []

    def cached(tokens: Any, position: int, history: Any, cache: Any) -> Any:
        steps.append(position)
        return model.decode_step(tokens, position, history, cache)

    def endless(*arguments: Any) -> Any:
        logits, cache = model.decode_step(*arguments)
        logits[..., 2] = -torch.inf
        return logits, cache

    def uncached(tokens: Any, position: int, history: Any, cache: Any) -> Any:
        encoded, fed = cache
        fed[:, :, position] = tokens
        so_far = fed.gather(1, history.long())
        targets = torch.nn.functional.pad(so_far[:, :, 1:].flatten(0, 1), (0, 1), value=1)
        repeated = (x.repeat_interleave(search.num_beams, 0) for x in (encoded, inputs))
        logits = model.decode(next(repeated), Tokens(next(repeated)), Tokens(targets))[:, -1]
        return logits.unflatten(0, (len(inputs), -1)), cache

    def seconds(step: Callable[..., Any], make_cache: Callable[[Any], Any]) -> float:
        start = time.perf_counter()
        encoded = model.encode(Tokens(inputs))
        beam_search(step, make_cache(encoded), is_real, search, length)
        return time.perf_counter() - start

    def start_decoding(encoded: Any) -> Any:
        return model.start_decoding(encoded, inputs, search.num_beams)

    def plain(encoded: Any) -> Any:
        return encoded, torch.zeros(len(inputs), search.num_beams, length, dtype=torch.int32)

    with torch.no_grad():
        times = {
            "search_s": seconds(cached, start_decoding),
            "without_early_stopping_s": seconds(endless, start_decoding),
            "without_cache_s": seconds(uncached, plain),
        }
    saved = {
        "early_stopping_saves": 1 - times["search_s"] / times["without_early_stopping_s"],
        "cache_saves": 1 - times["search_s"] / times["without_cache_s"],
    }
    rounded = {name: round(value, 3) for name, value in (times | saved).items()}
    return {**rounded, "batch": len(inputs), "steps": len(steps), "longest": length - 1}


def measure_full(framework: Framework) -> dict[str, Any]:
    spec = registry.workload_spec("wmt")
    workload = registry.make_workload(spec, framework)
    params, _ = workload.init_model_fn(random_key(0))
    rng, length = np.random.default_rng(0), spec.model.max_length
    tokens = np.zeros((SENTENCES, length), np.int32)
    tokens[:, :31] = rng.integers(3, spec.model.vocab_size, (SENTENCES, 31))
    tokens[:, 31] = 2
    batch = workload.place_batch({"inputs": tokens, "targets": tokens, "weights": (tokens > 0).astype(np.float32)})
    times = []
    for _ in range(2):
        start = time.perf_counter()
        output = workload.backend.to_host(workload.compiled_eval_step(params, None, batch, random_key(1)))
        times.append(time.perf_counter() - start)
    cache_bytes = SENTENCES * spec.model.beam_search.num_beams * length * spec.model.width * 4 * 2
    return {
        "sentences": SENTENCES,
        "tokens_each": round(float((output["predictions"] > 0).sum(axis=1).mean()), 1),
        "seconds": round(times[1], 2),
        "compile_s": round(times[0] - times[1], 2),
        "sentences_per_s": round(SENTENCES / times[1], 3),
        "parameters_mib": round(133_521_408 * 4 / 2**20),
        "cache_mib": round(cache_bytes * spec.model.num_layers / 2**20),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    if len(sys.argv) == 3:
        measure = {"mini": measure_mini, "full": measure_full}[sys.argv[1]]
        print(json.dumps(measure(Framework(sys.argv[2]))))
        return
    result: dict[str, dict[str, Any]] = {"mini": {}, "full": {}}
    for scale, found in result.items():
        for framework in [one for one in Framework if is_installed(one)]:
            command = [sys.executable, __file__, scale, framework.value]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[framework.value] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps({"benchmark": "wmt_decoding", **result}))


if __name__ == "__main__":
    main()
