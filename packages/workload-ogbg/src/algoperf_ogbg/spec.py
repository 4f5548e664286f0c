"""The facts of OGBG: a graph network that predicts 128 biological activities of a molecule (ogbg-molpcba).

Figures at full scale: AlgoPerf (https://arxiv.org/abs/2306.07179, appendix D). Data and metric: the Open Graph
Benchmark (https://arxiv.org/abs/2005.00687, section 4.2).
"""

from dataclasses import dataclass, replace
from typing import Literal

from algoperf.spec import Budget, DatasetSpec, Framework, LossType, Scale, Target, WorkloadSpec

NODE_FEATURES = 9
EDGE_FEATURES = 3


@dataclass(frozen=True, kw_only=True)
class GraphNetwork:
    """Choices of the graph network (Battaglia et al., https://arxiv.org/abs/1806.01261).

    Attributes:
        latent_dim: width of the embedded nodes and edges.
        hidden_dims: widths of the layers of every MLP: of edges, of nodes and of graphs, in each step.
        num_message_passing_steps: steps, each with weights of its own.
        activation: what follows each layer norm; "gelu" is the tanh approximation.
        num_outputs: tasks, and also the width of the (zero) globals that the first step starts from.
    """

    latent_dim: int = 256
    hidden_dims: tuple[int, ...] = (256,)
    num_message_passing_steps: int = 5
    activation: Literal["relu", "gelu", "silu"] = "relu"
    num_outputs: int = 128

    def __post_init__(self) -> None:
        if self.activation not in ("relu", "gelu", "silu"):
            raise ValueError(f"The activation is 'relu', 'gelu' or 'silu', not {self.activation!r}.")
        if not self.hidden_dims:
            raise ValueError("A graph network's MLPs need at least one layer; give hidden_dims a width.")


@dataclass(frozen=True, kw_only=True)
class Batching:
    """The sizes of batches.

    Attributes:
        nodes_per_graph: nodes that a batch has room for, per graph of its batch size.
        edges_per_graph: directed edges that a batch has room for, per graph of its batch size.
    """

    nodes_per_graph: int
    edges_per_graph: int


def _target(validation: float, test: float) -> Target:
    return Target(metric="mean_average_precision", goal="max", validation=validation, test=test)


_FULL = WorkloadSpec(
    name="ogbg",
    summary="Graph network on molecules (ogbg-molpcba): 128 binary labels, scored by mean average precision.",
    target=_target(0.28098, 0.268729),
    loss_type=LossType.SIGMOID_CROSS_ENTROPY,
    num_train_examples=350_343,
    num_eval_train_examples=43_793,
    num_validation_examples=43_793,
    num_test_examples=43_793,
    eval_batch_size=32_768,
    budgets={
        "v0.6": Budget(max_runtime_s=12_011, eval_period_s=240),
        "v1.0": Budget(max_runtime_s=11_303, eval_period_s=452),
    },
    step_hint=52_000,
    dropout_rate=0.1,
    dataset=DatasetSpec(
        name="ogbg/full",
        prepare="algoperf_ogbg.prepare:prepare_full",
        open="algoperf_ogbg.data:open_dataset",
        finalize="algoperf_ogbg.metrics:finalize",
        pictures="algoperf_ogbg.pictures:pictures",
        source="ogbg-molpcba of the Open Graph Benchmark: molecules and assays from PubChem.",
        licence="MIT (Open Graph Benchmark)",
        options=Batching(nodes_per_graph=26, edges_per_graph=56),
    ),
    model=GraphNetwork(),
    implementations={
        Framework.JAX: "algoperf_ogbg.jax_model:OgbgJax",
        Framework.PYTORCH: "algoperf_ogbg.torch_model:OgbgTorch",
    },
    output_layer={Framework.JAX: "decoder", Framework.PYTORCH: "decoder"},
)

_MINI = replace(
    _FULL,
    summary="A small graph network on molecules with measured bioactivities: 30 sparse binary labels.",
    scale=Scale.MINI,
    target=_target(0.63, 0.63),
    num_train_examples=28_520,
    num_eval_train_examples=3_250,
    num_validation_examples=3_250,
    num_test_examples=3_475,
    eval_batch_size=1_024,
    batch_size=128,
    budgets={rules: Budget(max_runtime_s=120, eval_period_s=4) for rules in ("v0.6", "v1.0")},
    step_hint=1_500,
    dropout_rate=0.0,
    dataset=replace(
        _FULL.dataset,
        name="ogbg/mini",
        prepare="algoperf_ogbg.mini:prepare_mini",
        source="MoleculeACE: binding affinities of 30 targets from ChEMBL.",
        licence="MIT (MoleculeACE); the measurements CC BY-SA 3.0 (ChEMBL)",
        options=Batching(nodes_per_graph=34, edges_per_graph=74),
    ),
    model=GraphNetwork(latent_dim=32, hidden_dims=(32,), num_message_passing_steps=2),
)

OGBG = replace(_FULL, mini=_MINI)

OGBG_GELU = OGBG.variant(
    "gelu",
    summary="OGBG with GELU (tanh approximation) in place of ReLU.",
    target=_target(0.27771, 0.262926),
    mini_target=_target(0.63, 0.63),
    activation="gelu",
)

OGBG_SILU = OGBG.variant(
    "silu",
    summary="OGBG with SiLU in place of ReLU.",
    target=_target(0.282178, 0.272144),
    mini_target=_target(0.63, 0.63),
    activation="silu",
)

OGBG_MODEL_SIZE = OGBG.variant(
    "model_size",
    summary="OGBG with fewer, deeper and at first narrower message-passing steps.",
    target=_target(0.269446, 0.253051),
    mini_target=_target(0.62, 0.61),
    latent_dim=128,
    hidden_dims=(256, 256),
    num_message_passing_steps=3,
    mini_model={"latent_dim": 16, "hidden_dims": (32, 32)},
)
