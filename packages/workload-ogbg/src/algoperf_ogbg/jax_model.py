"""OGBG in JAX: a graph network after Battaglia et al. (https://arxiv.org/abs/1806.01261, algorithm 1).

Task and features: the Open Graph Benchmark (https://arxiv.org/abs/2005.00687); sizes: AlgoPerf
(https://arxiv.org/abs/2306.07179). The graph's sums and its batch layout are jraph's.

In shapes, N, E and G are the nodes, directed edges and graphs of a padded batch.
"""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp
import jraph
from flax import linen as nn

from algoperf.backends.jax import JaxWorkload
from algoperf.backends.jax_layers import ACTIVATIONS, dropout
from algoperf.spec import ForwardPassMode, ModelAuxiliaryState, ModelInitState, ParameterType, RandomState
from algoperf.workload import EvalOutput
from algoperf_ogbg.graphs import GraphsTuple
from algoperf_ogbg.spec import EDGE_FEATURES, NODE_FEATURES, GraphNetwork

Part = tuple[jax.Array, jax.Array | None]


class JointDense(nn.Module):
    """An affine layer on several inputs, as if they were concatenated along their last axis.

    The kernel [sum of the inputs' widths, features] is that of a dense layer on the concatenation, but each input
    is multiplied by its own rows of the kernel, and the products are added. So a node's features are multiplied
    once and the product is gathered by its edges, where a concatenation would be multiplied once per edge: half
    of the arithmetic of a message-passing step, and no concatenation in memory.
    """

    features: int

    @nn.compact
    def __call__(self, *parts: Part) -> jax.Array:
        """Maps parts `(x [rows, width], index [M] or None)` to [M, features]; an index gathers a part's rows."""
        widths = [x.shape[-1] for x, _ in parts]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (sum(widths), self.features))
        output = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        for (x, index), rows in zip(parts, jnp.split(kernel, [*accumulate(widths)][:-1]), strict=True):
            product = x @ rows
            output = output + (product if index is None else product[index])
        return output


class MLP(nn.Module):
    """For each width: dense, layer norm, activation, dropout. The first dense layer takes several inputs."""

    config: GraphNetwork

    @nn.compact
    def __call__(self, *parts: Part, train: bool, dropout_rate: float | jax.Array) -> jax.Array:
        """Maps parts (see `JointDense`) to [M, hidden_dims[-1]]."""
        for i, width in enumerate(self.config.hidden_dims):
            x = JointDense(width, name=f"dense_{i}")(*parts)
            x = nn.LayerNorm(epsilon=1e-6, name=f"norm_{i}")(x)
            x = ACTIVATIONS[self.config.activation](x)
            if train:
                x = dropout(x, dropout_rate, self.make_rng("dropout"))
            parts = ((x, None),)
        return x


class MessagePassingStep(nn.Module):
    """One graph-network block: edges from their ends, nodes from the new edges, graphs from the new nodes and edges.

    Edges are summed at their sender and at their receiver apart, and "sent" comes before "received".
    """

    config: GraphNetwork

    @nn.compact
    def __call__(self, graph: GraphsTuple, train: bool, dropout_rate: float | jax.Array) -> GraphsTuple:
        """Maps a graph with features [N, .], [E, .], [G, .] to the same graph with new features."""
        nodes, edges, receivers, senders, globals_, n_node, n_edge = graph
        num_nodes, num_edges, num_graphs = nodes.shape[0], edges.shape[0], n_node.shape[0]
        node_graph = jnp.repeat(jnp.arange(num_graphs), n_node, total_repeat_length=num_nodes)
        edge_graph = jnp.repeat(jnp.arange(num_graphs), n_edge, total_repeat_length=num_edges)

        def mlp(name: str, *parts: Part) -> jax.Array:
            return MLP(self.config, name=name)(*parts, train=train, dropout_rate=dropout_rate)

        edges = mlp("edge_mlp", (edges, None), (nodes, senders), (nodes, receivers), (globals_, edge_graph))
        sent = jraph.segment_sum(edges, senders, num_nodes)
        received = jraph.segment_sum(edges, receivers, num_nodes)
        nodes = mlp("node_mlp", (nodes, None), (sent, None), (received, None), (globals_, node_graph))
        node_sum = jraph.segment_sum(nodes, node_graph, num_graphs, indices_are_sorted=True)
        edge_sum = jraph.segment_sum(edges, edge_graph, num_graphs, indices_are_sorted=True)
        globals_ = mlp("global_mlp", (node_sum, None), (edge_sum, None), (globals_, None))
        return graph._replace(nodes=nodes, edges=edges, globals=globals_)


class OgbgModel(nn.Module):
    """Embeds nodes and edges, passes messages, and decodes each graph's globals into logits."""

    config: GraphNetwork

    @nn.compact
    def __call__(self, graph: GraphsTuple, train: bool = False, dropout_rate: float | jax.Array = 0.0) -> jax.Array:
        """Maps nodes [N, 9], edges [E, 3] to logits [G, num_outputs]. The graph's own globals are not read."""
        config = self.config
        graph = graph._replace(
            nodes=nn.Dense(config.latent_dim, name="node_embedding")(graph.nodes),
            edges=nn.Dense(config.latent_dim, name="edge_embedding")(graph.edges),
            globals=jnp.zeros((graph.n_node.shape[0], config.num_outputs)),
        )
        for step in range(config.num_message_passing_steps):
            graph = MessagePassingStep(config, name=f"steps_{step}")(graph, train, dropout_rate)
        return nn.Dense(config.num_outputs, name="decoder")(graph.globals)


def _one_graph() -> GraphsTuple:
    """A graph of one node and one edge: parameters do not depend on a batch's size."""
    index, count = jnp.zeros(1, jnp.int32), jnp.ones(1, jnp.int32)
    nodes, edges = jnp.zeros((1, NODE_FEATURES)), jnp.zeros((1, EDGE_FEATURES))
    return GraphsTuple(nodes, edges, receivers=index, senders=index, globals={}, n_node=count, n_edge=count)


class OgbgJax(JaxWorkload):
    """OGBG and its variants in JAX."""

    @property
    def _model(self) -> OgbgModel:
        return OgbgModel(self.spec.model)

    def init_variables(self, rng: RandomState) -> ModelInitState:
        """Fresh parameters; there is no model state."""
        return self._model.init(rng, _one_graph())["params"], None

    def parameter_type(self, path: tuple[str, ...]) -> ParameterType:
        """By the layer's and the parameter's name; of the embeddings, only the kernels are typed so."""
        *_, layer, name = path
        if layer.startswith("norm"):
            return ParameterType.LAYER_NORM_SCALE if name == "scale" else ParameterType.LAYER_NORM_BIAS
        if name == "bias":
            return ParameterType.BIAS
        return ParameterType.EMBEDDING if layer.endswith("embedding") else ParameterType.WEIGHT

    def model_fn(
        self,
        params: Any,
        augmented_and_preprocessed_input_batch: Mapping[str, Any],
        model_state: ModelAuxiliaryState,
        mode: ForwardPassMode,
        rng: RandomState,
        update_batch_norm: bool,
        dropout_rate: float | jax.Array | None = None,
    ) -> tuple[jax.Array, ModelAuxiliaryState]:
        """Logits [G, num_outputs], float32, and None. Raises ValueError if there is a model state."""
        del update_batch_norm
        if model_state is not None:
            raise ValueError("OGBG has no model state; pass None as model_state.")
        train = mode is ForwardPassMode.TRAIN
        logits = self._model.apply(
            {"params": params},
            augmented_and_preprocessed_input_batch["inputs"],
            train,
            self.spec.dropout_rate if dropout_rate is None else dropout_rate,
            rngs={"dropout": rng} if train else None,
        )
        return logits, None

    def loss_fn(
        self,
        label_batch: jax.Array,
        logits_batch: jax.Array,
        mask_batch: jax.Array | None = None,
        label_smoothing: float | jax.Array = 0.0,
        **unused: Any,
    ) -> dict[str, jax.Array]:
        """Sigmoid cross entropy of each label.

        Args:
            label_batch: [G, num_outputs], 0 or 1.
            logits_batch: [G, num_outputs].
            mask_batch: [G, num_outputs], multiplies the losses; None means that all labels count.
            label_smoothing: moves labels towards 1 / num_outputs, before masking.
            **unused: ignored, so that submissions may pass what other workloads take.

        Returns:
            `summed` and `n_valid_examples` (the sum of the mask), scalars, and `per_example` [G, num_outputs].

        Raises:
            ValueError: the three are not of one two-dimensional shape.
        """
        mask = jnp.ones(label_batch.shape) if mask_batch is None else mask_batch
        if label_batch.ndim != 2 or not label_batch.shape == logits_batch.shape == mask.shape:
            raise ValueError(
                "Labels, logits and mask need one shape [graphs, tasks]; they have "
                f"{label_batch.shape}, {logits_batch.shape} and {mask.shape}."
            )
        num_outputs = label_batch.shape[-1]
        labels = (1 - label_smoothing) * label_batch + label_smoothing / num_outputs
        losses = jax.nn.relu(logits_batch) - logits_batch * labels + jnp.log1p(jnp.exp(-jnp.abs(logits_batch)))
        losses = losses * mask
        return {
            "summed": losses.sum(),
            "n_valid_examples": mask.sum(dtype=losses.dtype),
            "per_example": losses,
        }

    def eval_step(
        self, params: Any, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState
    ) -> EvalOutput:
        """`logits`, `labels`, `weights` and (masked) `losses`, each [G, num_outputs], and the number of real graphs."""
        logits, _ = self.model_fn(params, batch, model_state, ForwardPassMode.EVAL, rng, update_batch_norm=False)
        losses = self.loss_fn(batch["targets"], logits, batch["weights"])["per_example"]
        return {
            "logits": logits,
            "labels": batch["targets"],
            "weights": batch["weights"],
            "losses": losses,
            "num_graphs": batch["is_real"].sum(),
        }
