"""The language model once more, in float64 and without regard to speed: loops over heads and positions."""

import numpy as np

from algoperf_lm.spec import LanguageModel


def rms_norm(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * scale


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def turned(x: np.ndarray, position: int, base: float) -> np.ndarray:
    """A head's vector [D], whose neighbours are a complex number each, turned."""
    pairs = x[0::2] + 1j * x[1::2]
    pairs = pairs * np.exp(1j * position * base ** (-2 * np.arange(len(pairs)) / len(x)))
    return np.stack([pairs.real, pairs.imag], axis=1).ravel()


def attention(model: LanguageModel, params: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Of one sequence [T, W]."""
    query, key, value = (np.einsum("tw,whd->htd", x, params[f"{name}/kernel"]) for name in ("query", "key", "value"))
    temperature = params.get("temperature", np.log2(model.context**2 - model.context))
    result = np.zeros((len(x), model.num_heads, model.head_size))
    for head in range(model.num_heads):
        for rows in (query[head], key[head]):
            for position, row in enumerate(rows):
                row[:] = turned(row, position, model.rotary_base)
                row /= np.linalg.norm(row) + 1e-6
        for position in range(len(x)):
            scores = temperature * key[head, : position + 1] @ query[head, position]
            weights = np.exp(scores - scores.max())
            result[position, head] = weights / weights.sum() @ value[head, : position + 1]
    return result.reshape(len(x), -1) @ params["out/kernel"]


def mlp(model: LanguageModel, params: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    values, gate = np.split(x @ params["up/kernel"], 2, axis=-1)
    return values * (gate * sigmoid(gate) if model.gate == "silu" else sigmoid(gate)) @ params["down/kernel"]


def logits(model: LanguageModel, params: dict[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
    """From parameters by JAX's paths, of one sequence [T]: [T, V]."""
    params = {path: np.asarray(value, np.float64) for path, value in params.items()}
    x = params["embedding/embedding"][tokens]
    for i in range(model.num_layers):
        for branch in (attention, mlp):
            prefix = f"block_{i}/{branch.__name__}/"
            own = {path.removeprefix(prefix): value for path, value in params.items() if path.startswith(prefix)}
            scale = params[f"block_{i}/{branch.__name__}_norm/scale"]
            if model.norm == "pre":
                x = x + branch(model, own, rms_norm(x, scale))
            else:
                x = rms_norm(x + branch(model, own, x), scale)
    if model.norm == "pre":
        x = rms_norm(x, params["last_norm/scale"])
    return x @ params["embedding/embedding"].T
