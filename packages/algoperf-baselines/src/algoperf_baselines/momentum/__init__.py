"""SGD with momentum: the heavy ball.

For a parameter p with gradient g and momentum m:

    g = g + weight_decay p
    m = b1 m + g
    p = p - lr m

Source: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964; the learning rate and the
weight decay as in the baselines of arXiv 2306.07179.
"""
