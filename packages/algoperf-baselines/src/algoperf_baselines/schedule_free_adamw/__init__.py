"""Schedule-free AdamW: gradients are taken at y, between the iterate z and its average x; x is evaluated.

For a parameter with gradient g at y, in its t-th update, with lr(t) = lr min(1, t / warm-up steps):

    v = b2 v + (1 - b2) g^2
    z = z - lr(t) (g / (sqrt(v / (1 - b2^t)) + eps) + weight_decay y)
    x = (1 - c) x + c z         with c = lr(t)^2 / (lr(1)^2 + ... + lr(t)^2)
    y = b1 x + (1 - b1) z

y and z are kept: x = (y - (1 - b1) z) / b1. Between steps the parameters are y, between an evaluation and the next step
x. Statistics of batch norm belong to x: on models that have them, every step ends with another pass forward, at x.

Source: Defazio et al., "The Road Less Scheduled", arXiv 2405.15682, algorithm 1. As in optax the bias of v is corrected
in v alone, where the paper's lr(t) has the factor sqrt(1 - b2^t), which then is in c too.
"""

EPS = 1e-8
