"""SGD with Nesterov momentum.

For a parameter p with gradient g and momentum m:

    g = g + weight_decay p
    m = b1 m + g
    p = p - lr (g + b1 m)

Source: Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013; the learning
rate and the weight decay as in the baselines of arXiv 2306.07179.
"""
