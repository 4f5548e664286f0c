"""The rules of the baselines as their papers have them, in float64 numpy, one array after the other.

A rule takes what it keeps of an array (zeros at first), the array, its gradient, the number of the update from 1, the
learning rate and the hyperparameters; it returns the array afterwards.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

Kept = defaultdict[str, Any]
Array = np.ndarray


def _average(kept: Kept, name: str, decay: float, value: Array) -> Array:
    kept[name] = decay * kept[name] + (1 - decay) * value
    return kept[name]


def _adam(kept: Kept, numerator: Array, g: Array, t: int, h: Any, eps: float) -> Array:
    v = _average(kept, "v", h.beta2, g**2)
    return numerator / (np.sqrt(v / (1 - h.beta2**t)) + eps)


def adamw(kept: Kept, p: Array, g: Array, t: int, lr: float, h: Any) -> Array:
    m = _average(kept, "m", h.beta1, g)
    return p - lr * (_adam(kept, m / (1 - h.beta1**t), g, t, h, 1e-8) + h.weight_decay * p)


def nadamw(kept: Kept, p: Array, g: Array, t: int, lr: float, h: Any) -> Array:
    m = _average(kept, "m", h.beta1, g)
    ahead = (h.beta1 * m + (1 - h.beta1) * g) / (1 - h.beta1**t)
    return p - lr * (_adam(kept, ahead, g, t, h, 1e-8) + h.weight_decay * p)


def momentum(kept: Kept, p: Array, g: Array, t: int, lr: float, h: Any) -> Array:
    kept["m"] = h.beta1 * kept["m"] + g + h.weight_decay * p
    return p - lr * kept["m"]


def nesterov(kept: Kept, p: Array, g: Array, t: int, lr: float, h: Any) -> Array:
    g = g + h.weight_decay * p
    kept["m"] = h.beta1 * kept["m"] + g
    return p - lr * (g + h.beta1 * kept["m"])


def lamb(kept: Kept, p: Array, g: Array, t: int, lr: float, h: Any) -> Array:
    m = _average(kept, "m", h.beta1, g)
    u = _adam(kept, m / (1 - h.beta1**t), g, t, h, 1e-6) + h.weight_decay * p
    norms = math.sqrt((p**2).sum()), math.sqrt((u**2).sum())
    return p - lr * u * (norms[0] / norms[1] if min(norms) > 0 else 1.0)


def lion(kept: Kept, p: Array, g: Array, t: int, lr: float, h: Any) -> Array:
    u = np.sign(h.beta1 * kept["m"] + (1 - h.beta1) * g)
    _average(kept, "m", h.beta2, g)
    return p - lr * (u + h.weight_decay * p)


def ademamix(kept: Kept, p: Array, g: Array, t: int, lr: float, h: Any) -> Array:
    part = min(1.0, t / h.step_hint)
    b3 = 1 - h.one_minus_beta3
    half_lives = -math.log(2) / math.log(h.beta1), -math.log(2) / math.log(b3)
    decay = 0.5 ** (1 / ((1 - part) * half_lives[0] + part * half_lives[1]))
    m1, m2 = _average(kept, "m1", h.beta1, g), _average(kept, "m2", decay, g)
    numerator = m1 / (1 - h.beta1**t) + h.alpha * part * m2
    return p - lr * (_adam(kept, numerator, g, t, h, 1e-8) + h.weight_decay * p)


def adafactor(kept: Kept, p: Array, g: Array, t: int, lr: float, h: Any) -> Array:
    decay = 1 - t**-0.8
    v = g**2 + 1e-30
    *_, second, first = (None, None, *np.argsort(p.shape, kind="stable"))
    if second is not None and p.shape[second] >= h.min_factored:
        r = _average(kept, "r", decay, v.sum(axis=second, keepdims=True))
        c = _average(kept, "c", decay, v.sum(axis=first, keepdims=True))
        v = r * c / r.sum(axis=first, keepdims=True)
    else:
        v = _average(kept, "v", decay, v)
    u = g / np.sqrt(v)
    u = u / max(1.0, math.sqrt((u**2).mean()))
    return p - _average(kept, "m", h.beta1, lr * u) - lr * h.weight_decay * p


def muon(kept: Kept, p: Array, g: Array, t: int, lr: float, h: Any) -> Array:
    m = _average(kept, "m", h.beta1, g)
    ahead = h.beta1 * m / (1 - h.beta1 ** (t + 1)) + (1 - h.beta1) * g / (1 - h.beta1**t)
    if h.is_matrix:
        matrix = ahead.reshape(-1, p.shape[-1])
        u, s, vt = np.linalg.svd(matrix / np.linalg.norm(matrix), full_matrices=False)
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        update = 0.2 * math.sqrt(max(matrix.shape)) * (u * s @ vt).reshape(p.shape)
    else:
        update = _adam(kept, ahead, g, t, h, 1e-8)
    return p - lr * (update + h.weight_decay * p)


def schedule_free_adamw(kept: Kept, p: Array, g: Array, t: int, lr: float, h: Any) -> Array:
    """The parameters are y."""
    if t == 1:
        kept["x"] = kept["z"] = p
    kept["z"] = kept["z"] - lr * (_adam(kept, g, g, t, h, 1e-8) + h.weight_decay * p)
    kept["weights"] += lr**2
    c = lr**2 / kept["weights"]
    kept["x"] = (1 - c) * kept["x"] + c * kept["z"]
    return h.beta1 * kept["x"] + (1 - h.beta1) * kept["z"]


def cosine(step: int, h: Any) -> float:
    warmup = h.warmup_factor * h.step_hint
    if step < warmup:
        return h.learning_rate * step / warmup
    return h.learning_rate * (1 + math.cos(math.pi * (step - warmup) / (h.step_hint - warmup))) / 2


def linear(step: int, h: Any) -> float:
    warmup, end = h.warmup_factor * h.step_hint, h.decay_steps_factor * h.step_hint
    return h.learning_rate * float(np.interp(step, [0, warmup, end], [0, 1, h.end_factor]))


def rising(step: int, h: Any) -> float:
    return h.learning_rate * min(1, (step + 1) / (h.warmup_factor * h.step_hint))


RULES: dict[str, tuple[Callable[..., Array], Callable[[int, Any], float]]] = {
    "adafactor": (adafactor, cosine),
    "adamw": (adamw, cosine),
    "ademamix": (ademamix, cosine),
    "lamb": (lamb, cosine),
    "lion": (lion, cosine),
    "momentum": (momentum, linear),
    "muon": (muon, cosine),
    "nadamw": (nadamw, cosine),
    "nesterov": (nesterov, linear),
    "schedule_free_adamw": (schedule_free_adamw, rising),
}


class Plain:
    """A rule that is applied to arrays by name, with the interface of `test_rules`."""

    def __init__(self, name: str, params: dict[str, Array], h: SimpleNamespace, matrices: tuple[str, ...]) -> None:
        self._rule, self._schedule = RULES[name]
        self._h, self._matrices = h, matrices
        self.params = {key: value.astype(np.float64) for key, value in params.items()}
        self.kept: dict[str, Kept] = {key: defaultdict(float) for key in params}
        self._t = 0

    def step(self, gradients: dict[str, Array]) -> None:
        lr = self._schedule(self._t, self._h)
        self._t += 1
        for name, g in gradients.items():
            h = SimpleNamespace(**vars(self._h), is_matrix=name in self._matrices)
            self.params[name] = self._rule(self.kept[name], self.params[name], g, self._t, lr, h)
