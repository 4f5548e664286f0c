"""AdEMAMix: AdamW with a second, slow momentum.

For a parameter p with gradient g, in its t-th update:

    m1 = b1 m1 + (1 - b1) g
    m2 = b3(t) m2 + (1 - b3(t)) g
    v = b2 v + (1 - b2) g^2
    p = p - lr ((m1 / (1 - b1^t) + alpha(t) m2) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay p)

alpha(t) grows linearly from 0 to alpha at the workload's step hint, and b3(t) from b1 to b3 as `slow_decay` says.

Source: Pagliardini et al., "The AdEMAMix Optimizer: Better, Faster, Older", arXiv 2409.03137, algorithm 1.
"""

import math
from typing import Any

EPS = 1e-8


def slow_decay(progress: Any, b1: float, b3: float) -> Any:
    """The decay rate of the slow momentum: its half-life, 1 / ln(decay), grows linearly from that of b1 to that of b3.

    `progress` from 0 to 1 is a number or a JAX scalar, as is what is returned. Source: arXiv 2409.03137, section 3.
    """
    log_b1, log_b3 = math.log(b1), math.log(b3)
    return math.e ** (log_b1 * log_b3 / ((1.0 - progress) * log_b3 + progress * log_b1))
