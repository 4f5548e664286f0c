"""Lion: steps of one size, in the direction of a sign.

For a parameter p with gradient g and momentum m:

    u = sign(b1 m + (1 - b1) g)
    p = p - lr (u + weight_decay p)
    m = b2 m + (1 - b2) g

Source: Chen et al., "Symbolic Discovery of Optimization Algorithms", arXiv 2302.06675, algorithm 2.
"""
