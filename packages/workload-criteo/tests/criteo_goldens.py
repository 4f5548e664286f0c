"""Numbers of the public implementation, and the parameters that they were made with.

The goldens fill the parameters by a formula in that implementation's order, so they depend neither on initialisers nor
on our names. JAX and PyTorch are filled differently: goldens of one say nothing about the other. All are of a table of
`VOCAB_SIZE` rows, so that it fits.
"""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from algoperf.spec import Framework
from algoperf_criteo.spec import CRITEO1TB, CRITEO1TB_EMBED_INIT, CRITEO1TB_LAYERNORM, CRITEO1TB_RESNET
from algoperf_criteo.weights import NUM_CHUNKS, weight_table

GOLDEN = Path(__file__).parent / "golden"
VOCAB_SIZE = 65_536
FULL_SPECS = {spec.name: spec for spec in (CRITEO1TB, CRITEO1TB_LAYERNORM, CRITEO1TB_EMBED_INIT, CRITEO1TB_RESNET)}
SPECS = {name: replace(spec, model=replace(spec.model, vocab_size=VOCAB_SIZE)) for name, spec in FULL_SPECS.items()}


@cache
def golden(framework: Framework, name: str) -> dict[str, Any]:
    """`total` and `params` of the model at full size, `train_loss`, `losses`."""
    return json.loads((GOLDEN / "models.json").read_text())[f"{name}_{framework}"]


@cache
def golden_logits(framework: Framework, name: str, mode: str) -> np.ndarray:
    return np.load(GOLDEN / "models_logits.npz")[f"{name}_{framework}_{mode}"]


@cache
def golden_batch() -> dict[str, np.ndarray]:
    """Two examples, with ids above the vocabulary and above 2**24."""
    return dict(np.load(GOLDEN / "models_inputs.npz"))


def reference_names(framework: Framework, name: str) -> dict[str, str]:
    """Our name of each parameter -> the public implementation's."""
    table = weight_table(SPECS[name].model)
    if framework is Framework.PYTORCH:
        return {row.torch: entry["name"] for row, entry in zip(table, golden(framework, name)["params"], strict=True)}
    # Layers are numbered in the order of execution, where the norm of the embeddings is between those of the MLPs.
    names = {row.jax: row.jax.rpartition("/") for row in table}
    layers = dict.fromkeys(layer for layer, _, _ in names.values())
    dense = [layer for layer in layers if "dense" in layer or layer == "output"]
    norms = [
        layer for kind in ("bottom_mlp/norm", "embedding_norm", "top_mlp/norm") for layer in layers if kind in layer
    ]
    numbered = {layer: f"Dense_{k}" for k, layer in enumerate(dense)}
    numbered |= {layer: f"LayerNorm_{k}" for k, layer in enumerate(norms)}
    return {ours: f"{numbered[layer]}/{leaf}" if layer else ours for ours, (layer, _, leaf) in names.items()}


def golden_params(framework: Framework, name: str) -> dict[str, np.ndarray]:
    """The parameters that goldens were made with, by our names."""
    entries = golden(framework, name)["params"]
    by_name = {entry["name"]: _filled(framework, i, entry) for i, entry in enumerate(entries)}
    return {ours: by_name[theirs] for ours, theirs in reference_names(framework, name).items()}


def _filled(framework: Framework, index: int, entry: dict[str, Any]) -> np.ndarray:
    shape, kind = entry["shape"], entry["type"]
    if entry["name"].startswith("embedding"):
        shape = [VOCAB_SIZE if framework is Framework.JAX else VOCAB_SIZE // NUM_CHUNKS, shape[1]]
    r = hash_uniform(int(np.prod(shape)), index).reshape(shape)
    if kind == "EMBEDDING":
        return r
    if len(shape) == 1:
        return (1 if kind.endswith("_SCALE") else 0) + np.float32(0.1) * r
    fan = r.size / shape[-1 if framework is Framework.JAX else 0]
    return np.float32(np.sqrt(3 / min(4096, fan))) * r


def hash_uniform(n: int, index: int) -> np.ndarray:
    """The goldens' pseudo-random numbers in [-1, 1), float32 [n]."""
    h = (np.arange(n, dtype=np.uint64) * 2654435761 + index * 40503 + 12345) & 0xFFFFFFFF
    for _ in range(2):
        h ^= h >> np.uint64(16)
        h = (h * 0x045D9F3B) & 0xFFFFFFFF
    h ^= h >> np.uint64(16)
    return (2 * (h / 2**32) - 1).astype(np.float32)
