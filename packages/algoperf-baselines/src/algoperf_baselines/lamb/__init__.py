"""LAMB: AdamW whose update of each array is as long as the array, times the learning rate.

For an array p with gradient g, in its t-th update:

    m = b1 m + (1 - b1) g
    v = b2 v + (1 - b2) g^2
    u = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay p
    p = p - lr (|p| / |u|) u        with 1 for |p| / |u| where either norm is 0

Source: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", arXiv 1904.00962,
algorithm 2, with phi(z) = z. The arrays are the model's: what one framework keeps in several arrays has several norms.
"""

EPS = 1e-6
