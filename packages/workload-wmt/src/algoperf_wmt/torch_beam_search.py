"""Beam search in PyTorch: the most probable translations, pursued token by token (Wu et al., 2016).

Scores and their length penalty: https://arxiv.org/abs/1609.08144, equation 14, without its coverage.

In shapes, B is the number of sentences, K of beams, V of tokens that there are, and L the longest sequence, the start
token included.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from algoperf_wmt.spec import END, START, BeamSearch

Cache: TypeAlias = Any
Step: TypeAlias = Callable[[Tensor, int, Tensor, Cache], tuple[Tensor, Cache]]


@dataclass(frozen=True)
class _State:
    """A search after some steps; sequences are zero behind what is known of them.

    Attributes:
        tokens: live beams, the best first; int32 [B, K, L].
        log_probs: of live beams, -inf for those that there are not yet; float32 [B, K].
        history: in which slot of the cache each token of a live beam is; int32 [B, K, L].
        best_tokens: the best sequence that has ended; int32 [B, L].
        best_scores: its score, -inf as long as there is none, inf for padding; float32 [B].
    """

    tokens: Tensor
    log_probs: Tensor
    history: Tensor
    best_tokens: Tensor
    best_scores: Tensor


@torch.no_grad()
def beam_search(
    step: Step, cache: Cache, is_real: Tensor, search: BeamSearch, max_length: int
) -> tuple[Tensor, Tensor]:
    """The best sequence of each sentence that a beam search finds.

    In each step every live beam is extended by all tokens. Of the 2K best extensions those that end compete to be the
    result by log probability / ((5 + n) / 6)^alpha, n tokens long, and the K best of the others live on. 2K, so that K
    do not end. Which of equally probable ones win is up to `torch.topk`.

    The search ends when each sentence's result has a higher score than any live beam can get. That is exact: a beam's
    log probability only falls, and no sequence is divided by more than the longest is, so the best live log probability
    by the penalty of the longest bounds all scores to come. For the same reason the result of such a sentence stays
    what it is while others go on. The usual rule waits until this holds for the K best sequences that have ended, of
    which only the first is wanted.

    Args:
        step: `(tokens, position, history, cache) -> (logits, cache)`: logits, float32 [B, K, V], of the token after
            `tokens`, int32 [B, K], which are at `position`. The cache has a slot for each beam and position and is
            never reordered: what `step` stores at (k, position) stays there, and `history`, int32 [B, K,
            position + 1], tells in which slot k each token of the beam's sequence is.
        cache: what `step` is first called with.
        is_real: which sentences are no padding, bool [B]; the search does not go on for the others.
        search: K and alpha.
        max_length: L; the longest translation has one token less.

    Returns:
        Tokens, int32 [B, L - 1], without the start token and zero after END, and their scores, float32 [B]. Where no
        sequence has ended these are the most probable live one and its log probability, without a penalty. Of padding
        they are zeros and inf.
    """
    state = _start(is_real, search.num_beams, max_length)
    for position in range(max_length - 1):
        bounds = state.log_probs[:, 0] / _length_penalty(search, max_length - 1)
        if not bool(((state.best_scores <= bounds) & (bounds > -torch.inf)).any()):
            break
        logits, cache = step(state.tokens[:, :, position], position, state.history[:, :, : position + 1], cache)
        state = _extend(state, logits, position + 1, _length_penalty(search, position + 1))
    has_ended = state.best_scores > -torch.inf
    tokens = torch.where(has_ended[:, None], state.best_tokens, state.tokens[:, 0])
    return tokens[:, 1:], torch.where(has_ended, state.best_scores, state.log_probs[:, 0])


def _length_penalty(search: BeamSearch, num_tokens: int) -> float:
    return float(((5 + num_tokens) / 6) ** search.length_penalty)


def _start(is_real: Tensor, num_beams: int, max_length: int) -> _State:
    """One live beam per sentence, of the start token."""
    device, shape = is_real.device, (len(is_real), num_beams, max_length)
    log_probs = torch.full(shape[:2], -torch.inf, device=device)
    log_probs[:, 0] = 0
    return _State(
        tokens=torch.full(shape, START, dtype=torch.int32, device=device),
        log_probs=log_probs,
        history=torch.arange(num_beams, dtype=torch.int32, device=device)[:, None].expand(shape),
        best_tokens=torch.zeros(len(is_real), max_length, dtype=torch.int32, device=device),
        best_scores=torch.where(is_real, -torch.inf, torch.inf),
    )


def _extend(state: _State, logits: Tensor, position: int, penalty: float) -> _State:
    """The state with a token at `position`, of which `logits` are given, [B, K, V]."""
    num_beams = logits.shape[1]
    log_probs, parents, tokens = _best_extensions(state.log_probs, logits)
    is_end = tokens == END

    # All of this step have the same penalty: the most probable is the best.
    scores, best = torch.where(is_end, log_probs, -torch.inf).div(penalty).max(dim=1, keepdim=True)
    best_tokens = _pick(state.tokens, parents, best)[:, 0]
    best_tokens[:, position] = END
    is_better = scores[:, 0] > state.best_scores

    log_probs, live = torch.where(is_end, -torch.inf, log_probs).topk(num_beams, dim=1)
    live_tokens = _pick(state.tokens, parents, live)
    live_tokens[:, :, position] = tokens.gather(1, live).int()
    history = _pick(state.history, parents, live)
    history[:, :, position] = torch.arange(num_beams, device=logits.device)
    return _State(
        tokens=live_tokens,
        log_probs=log_probs,
        history=history,
        best_tokens=torch.where(is_better[:, None], best_tokens, state.best_tokens),
        best_scores=torch.where(is_better, scores[:, 0], state.best_scores),
    )


def _best_extensions(log_probs: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log probabilities, beams and last tokens of the 2K best of K * V extensions, each [B, 2K], the best first."""
    num_beams, vocab_size = logits.shape[1:]
    # Sums of a shorter type would not tell sentences apart.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # No beam contributes more than 2K, so it suffices to normalise those.
    top, tokens = logits.topk(min(2 * num_beams, vocab_size), dim=2)
    extended = log_probs[:, :, None] + (top - logits.logsumexp(dim=2, keepdim=True))
    # What is no number leads nowhere.
    extended = torch.where(extended.isnan(), -torch.inf, extended)
    extended, index = extended.flatten(1).topk(2 * num_beams, dim=1)
    return extended, index // top.shape[2], tokens.flatten(1).gather(1, index)


def _pick(rows: Tensor, parents: Tensor, chosen: Tensor) -> Tensor:
    """The rows, of [B, K, L], of the parents of the `chosen` extensions, [B, N]; [B, N, L]."""
    parents = parents.gather(1, chosen)
    return rows.gather(1, parents[:, :, None].expand(-1, -1, rows.shape[2]))
