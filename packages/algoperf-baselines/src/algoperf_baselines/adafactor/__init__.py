"""Adafactor with momentum: second moments of large matrices are kept as those of their rows and columns.

For an array p with gradient g, in its t-th update, with b2(t) = 1 - t^-0.8:

    v = b2(t) v + (1 - b2(t)) (g^2 + 1e-30)
    u = g / sqrt(v)
    u = u / max(1, rms(u))
    m = b1 m + (1 - b1) lr u
    p = p - m - lr weight_decay p

Where the two largest dimensions of p both have at least `MIN_FACTORED` elements, only the means of v over either are
kept, r and c, and r c / mean(r) stands for v.

Source: Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", arXiv 1804.04235: algorithms
4 and 5 with the decay of section 7.2, but steps of absolute size and momentum, as in the baselines of arXiv 2306.07179.
"""

MIN_FACTORED = 128
DECAY_POWER = 0.8
EPS = 1e-30
