"""Beam search as the public implementation does it, plainly: K finished sequences are kept and waited for."""

from itertools import product

import numpy as np

from algoperf_wmt.spec import END

NEVER = -1e7


def beam_search(logits, num_sentences, num_beams, alpha, max_length):
    """The last row of each sentence's sequences, [B, L - 1], its score, [B], and how many steps that took.

    `logits(sequences)` maps sequences, int [B, K, n], to the logits of the next token, [B, K, V].
    """
    shape = (num_sentences, num_beams, max_length)
    live, finished = np.zeros(shape, int), np.zeros(shape, int)
    live_logp = np.tile([0.0] + [NEVER] * (num_beams - 1), (num_sentences, 1))
    scores, flags = np.full(shape[:2], NEVER), np.zeros(shape[:2], bool)
    i = 0
    while i < max_length - 1:
        bound = live_logp.max(axis=1) / penalty(max_length, alpha)
        if (np.where(flags, scores, NEVER).min(axis=1) > bound).all():
            break
        logp = live_logp[:, :, None] + log_softmax(logits(live[:, :, : i + 1]))
        for b in range(num_sentences):
            best = np.argsort(-logp[b].ravel(), kind="stable")[: 2 * num_beams]
            beams, tokens = np.divmod(best, logp.shape[2])
            new_logp, new, done = logp[b].ravel()[best], live[b, beams], tokens == END
            new[:, i + 1] = tokens

            keep = np.argsort(-(new_logp + NEVER * done), kind="stable")[:num_beams]
            live[b], live_logp[b] = new[keep], (new_logp + NEVER * done)[keep]

            all_scores = np.append(scores[b], new_logp / penalty(i + 1, alpha) + NEVER * ~done)
            keep = np.argsort(-all_scores, kind="stable")[:num_beams]
            finished[b] = np.concatenate([finished[b], new])[keep]
            scores[b], flags[b] = all_scores[keep], np.append(flags[b], done)[keep]
        i += 1
    any_finished = flags.any(axis=1)
    sequences = np.where(any_finished[:, None], finished[:, 0], live[:, 0])
    return sequences[:, 1:], np.where(any_finished, scores[:, 0], live_logp[:, 0]), i


def best_of_all(logits, vocab_size, alpha, max_length):
    """The sequence with the highest score among all that end, and the score, for one sentence: by trying them all."""
    candidates = []
    for length in range(1, max_length):
        for start in product([t for t in range(vocab_size) if t != END], repeat=length - 1):
            sequence = np.array([0, *start, END])
            steps = [log_softmax(logits(sequence[None, None, : t + 1]))[0, 0, sequence[t + 1]] for t in range(length)]
            candidates.append((sum(steps) / penalty(length, alpha), [*start, END] + [0] * (max_length - 1 - length)))
    score, sequence = max(candidates)
    return sequence, score


def penalty(length, alpha):
    return ((5 + length) / 6) ** alpha


def log_softmax(logits):
    logits = logits.astype(np.float64)
    return (
        logits
        - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - logits.max(-1, keepdims=True)
    )
