"""Performance profiles and scores (arXiv 2306.07179, section 4.5; Dolan and Moré, 2002). Pure functions of times.

All work on any number of leading dimensions, so that thousands of resampled boards are scored at once. There are S
submissions and W workloads, of which the first B are base workloads.
"""

from __future__ import annotations

import numpy as np

from algoperf_scoring.rules import Rules

NUM_GRID_POINTS = 100


def effective_times(time_s: np.ndarray, rules: Rules) -> np.ndarray:
    """Times to target after the rules that make some of them infinite.

    In this order: a variant whose base was not reached counts nothing; a time beyond `max_ratio` times the
    column's fastest is infinite; a base whose variant is infinite by now is infinite.

    Args:
        time_s: float64 (…, S, W), columns as `rules.scored`; inf: not reached, NaN: no data.
        rules: which column is whose variant.

    Returns:
        float64 (…, S, W).
    """
    times = eligible_times(time_s, rules)
    times = np.where(times > rules.max_ratio * fastest(times), np.inf, times)
    for base, variant in variant_columns(rules):
        times[..., base] = np.where(np.isfinite(times[..., variant]), times[..., base], np.inf)
    return times


def eligible_times(time_s: np.ndarray, rules: Rules) -> np.ndarray:
    """Times among which the fastest is looked for: all but those of variants whose base was not reached."""
    times = np.array(time_s, dtype=np.float64)
    for base, variant in variant_columns(rules):
        times[..., variant] = np.where(np.isfinite(times[..., base]), times[..., variant], np.inf)
    return times


def variant_columns(rules: Rules) -> list[tuple[int, int]]:
    """For each held-out variant, the columns of its base and of itself."""
    scored = rules.scored
    return [(scored.index(base), scored.index(rules.held_out[base])) for base in rules.base if base in rules.held_out]


def fastest(time_s: np.ndarray) -> np.ndarray:
    """The least time of each column, float64 (…, 1, W); inf where nobody reached it."""
    return np.where(np.isnan(time_s), np.inf, time_s).min(axis=-2, keepdims=True, initial=np.inf)


def ratios(time_s: np.ndarray, rules: Rules) -> np.ndarray:
    """How many times the fastest each base workload took, float64 (…, S, B); inf where it does not count.

    Args:
        time_s: float64 (…, S, W), before the rules of `effective_times`.
        rules: as there.
    """
    base = effective_times(time_s, rules)[..., : len(rules.base)]
    best = fastest(base)
    divisor = np.where(np.isfinite(best) & (best > 0), best, 1.0)
    # Where the fastest took no time, all others are beyond any multiple of it and infinite already.
    return np.where(np.isfinite(base), np.where(base == best, 1.0, base / divisor), np.inf)


def profile(ratios: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """The share of base workloads within a factor tau of the fastest, float64 (…, S, T).

    Args:
        ratios: float64 (…, S, B).
        tau: float64 (T,).
    """
    return (ratios[..., :, :, None] <= tau).mean(axis=-2)


def score(ratios: np.ndarray, rules: Rules) -> np.ndarray:
    """The area under the profile from 1 to `max_ratio`, over its width: float64 (…, S), in [0, 1]."""
    share = (rules.max_ratio - ratios) / (rules.max_ratio - 1)
    return np.clip(share, 0.0, 1.0).mean(axis=-1)


def grid_score(ratios: np.ndarray, rules: Rules) -> np.ndarray:
    """The same area as the published scores have it: by the trapezoidal rule on 100 points."""
    tau = grid(rules)
    return np.trapezoid(profile(ratios, tau), tau, axis=-1) / (rules.max_ratio - 1)


def grid(rules: Rules) -> np.ndarray:
    """The 100 points from 1 to `max_ratio` at which published profiles are taken."""
    return np.linspace(1.0, rules.max_ratio, NUM_GRID_POINTS)
