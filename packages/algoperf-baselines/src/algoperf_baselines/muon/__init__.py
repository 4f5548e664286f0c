"""Muon: NAdamW whose momentum of matrices is made orthogonal, instead of divided by second moments.

For a matrix p with gradient g, in its t-th update:

    m = b1 m + (1 - b1) g
    o = newton_schulz(b1 m / (1 - b1^(t + 1)) + (1 - b1) g / (1 - b1^t))
    p = p - lr (0.2 sqrt(max(rows, columns)) o + weight_decay p)

where newton_schulz(x) is five times x <- a x + (b A + c A A) x with A = x x^T, from x / |x|: about U V^T, where
U S V^T = x. The factor gives updates the root mean square of AdamW's, so that one learning rate serves all parameters.
All other parameters follow `optax.nadamw`: with n the argument of newton_schulz,

    v = b2 v + (1 - b2) g^2
    p = p - lr (n / (sqrt(v / (1 - b2^t)) + eps) + weight_decay p)

Matrices are kernels of dense and convolutional layers, of attention and of recurrent cells: inputs x outputs. Neither
embeddings nor the last layer are. It is their type and not their rank that counts: in JAX biases of attention have two
dimensions.

Sources: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
https://kellerjordan.github.io/posts/muon; the factor: Liu et al., "Muon is Scalable for LLM Training",
arXiv 2502.16982, section 2.2.
"""

from algoperf.spec import ParameterType

EPS = 1e-8
RMS = 0.2
NUM_ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)

MATRIX_TYPES = frozenset(
    {
        ParameterType.WEIGHT,
        ParameterType.CONV_WEIGHT,
        ParameterType.ATTENTION_Q,
        ParameterType.ATTENTION_K,
        ParameterType.ATTENTION_V,
        ParameterType.ATTENTION_OUT,
        ParameterType.ATTENTION_QKV,
        ParameterType.ATTENTION_KV,
    }
)
