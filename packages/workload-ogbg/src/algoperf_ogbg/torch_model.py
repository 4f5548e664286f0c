"""OGBG in PyTorch: a graph network after Battaglia et al. (https://arxiv.org/abs/1806.01261, algorithm 1).

Task and features: the Open Graph Benchmark (https://arxiv.org/abs/2005.00687); sizes: AlgoPerf
(https://arxiv.org/abs/2306.07179). Sums over the graph are PyTorch Geometric's.

In shapes, N, E and G are the nodes, directed edges and graphs of a padded batch.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.utils import scatter

from algoperf.backends.pytorch import TorchWorkload
from algoperf.backends.pytorch_layers import ACTIVATIONS, dropout, lecun_normal_
from algoperf.spec import ForwardPassMode, ModelAuxiliaryState, ParameterType, RandomState
from algoperf.workload import EvalOutput
from algoperf_ogbg.graphs import GraphsTuple
from algoperf_ogbg.spec import EDGE_FEATURES, NODE_FEATURES, GraphNetwork

Part = tuple[Tensor, Tensor | None]


class JointLinear(nn.Module):
    """An affine layer on several inputs, as if they were concatenated along their last axis.

    The weight [features, sum of the inputs' widths] is that of a linear layer on the concatenation, but each input
    is multiplied by its own columns of the weight, and the products are added. So a node's features are multiplied
    once and the product is gathered by its edges, where a concatenation would be multiplied once per edge: half
    of the arithmetic of a message-passing step, and no concatenation in memory.

    Args:
        widths: of the inputs.
        features: width of the output.
        weight_type: what `weight` is for.
    """

    def __init__(self, *widths: int, features: int, weight_type: ParameterType = ParameterType.WEIGHT) -> None:
        super().__init__()
        self.widths = widths
        self.weight_type = weight_type
        self.weight = nn.Parameter(torch.empty(features, sum(widths)))
        self.bias = nn.Parameter(torch.zeros(features))
        lecun_normal_(self.weight, fan_in=sum(widths))

    def forward(self, *parts: Part) -> Tensor:
        """Maps parts `(x [rows, width], index [M] or None)` to [M, features]; an index gathers a part's rows."""
        output: Tensor = self.bias
        for (x, index), columns in zip(parts, self.weight.split(self.widths, dim=1), strict=True):
            if index is None:
                output = torch.addmm(output, x, columns.t())
            else:
                # Not x[index], whose gradient takes several times as long.
                output = output + F.linear(x, columns).index_select(0, index)
        return output


class MLP(nn.Module):
    """For each width: linear, layer norm, activation, dropout. The first linear layer takes several inputs."""

    def __init__(self, config: GraphNetwork, *widths: int) -> None:
        super().__init__()
        self.num_layers = len(config.hidden_dims)
        self.activation = ACTIVATIONS[config.activation]
        for i, features in enumerate(config.hidden_dims):
            self.add_module(f"dense_{i}", JointLinear(*widths, features=features))
            self.add_module(f"norm_{i}", nn.LayerNorm(features, eps=1e-6))
            widths = (features,)

    def forward(self, *parts: Part, dropout_rate: float) -> Tensor:
        """Maps parts (see `JointLinear`) to [M, hidden_dims[-1]]."""
        for i in range(self.num_layers):
            x = self.get_submodule(f"norm_{i}")(self.get_submodule(f"dense_{i}")(*parts))
            x = self.activation(x)
            if self.training:
                x = dropout(x, dropout_rate)
            parts = ((x, None),)
        return x


class MessagePassingStep(nn.Module):
    """One graph-network block: edges from their ends, nodes from the new edges, graphs from the new nodes and edges.

    Edges are summed at their sender and at their receiver apart, and "sent" comes before "received".
    """

    def __init__(self, config: GraphNetwork, local_dim: int, global_dim: int) -> None:
        super().__init__()
        hidden = config.hidden_dims[-1]
        self.edge_mlp = MLP(config, local_dim, local_dim, local_dim, global_dim)
        self.node_mlp = MLP(config, local_dim, hidden, hidden, global_dim)
        self.global_mlp = MLP(config, hidden, hidden, global_dim)

    def forward(self, graph: GraphsTuple, dropout_rate: float) -> GraphsTuple:
        """Maps a graph with features [N, .], [E, .], [G, .] to the same graph with new features."""
        nodes, edges, receivers, senders, globals_, n_node, n_edge = graph
        num_nodes, num_edges, num_graphs = nodes.shape[0], edges.shape[0], n_node.shape[0]
        node_graph = torch.repeat_interleave(n_node, output_size=num_nodes)
        edge_graph = torch.repeat_interleave(n_edge, output_size=num_edges)

        edges = self.edge_mlp(
            (edges, None), (nodes, senders), (nodes, receivers), (globals_, edge_graph), dropout_rate=dropout_rate
        )
        sent = scatter(edges, senders, 0, num_nodes)
        received = scatter(edges, receivers, 0, num_nodes)
        nodes = self.node_mlp(
            (nodes, None), (sent, None), (received, None), (globals_, node_graph), dropout_rate=dropout_rate
        )
        node_sum = scatter(nodes, node_graph, 0, num_graphs)
        edge_sum = scatter(edges, edge_graph, 0, num_graphs)
        globals_ = self.global_mlp((node_sum, None), (edge_sum, None), (globals_, None), dropout_rate=dropout_rate)
        return graph._replace(nodes=nodes, edges=edges, globals=globals_)


class OgbgModel(nn.Module):
    """Embeds nodes and edges, passes messages, and decodes each graph's globals into logits."""

    def __init__(self, config: GraphNetwork) -> None:
        super().__init__()
        latent, hidden, outputs = config.latent_dim, config.hidden_dims[-1], config.num_outputs
        embedding = ParameterType.EMBEDDING
        self.num_outputs = outputs
        self.node_embedder = JointLinear(NODE_FEATURES, features=latent, weight_type=embedding)
        self.edge_embedder = JointLinear(EDGE_FEATURES, features=latent, weight_type=embedding)
        first = MessagePassingStep(config, latent, outputs)
        later = (MessagePassingStep(config, hidden, hidden) for _ in range(config.num_message_passing_steps - 1))
        self.steps = nn.ModuleList([first, *later])
        self.decoder = JointLinear(hidden, features=outputs)

    def forward(self, graph: GraphsTuple, dropout_rate: float = 0.0) -> Tensor:
        """Maps nodes [N, 9], edges [E, 3] to logits [G, num_outputs]. The graph's own globals are not read."""
        graph = graph._replace(
            nodes=self.node_embedder((graph.nodes, None)),
            edges=self.edge_embedder((graph.edges, None)),
            globals=graph.nodes.new_zeros(graph.n_node.shape[0], self.num_outputs),
            # Sums over the graph need indices of 64 bits.
            senders=graph.senders.long(),
            receivers=graph.receivers.long(),
            n_node=graph.n_node.long(),
            n_edge=graph.n_edge.long(),
        )
        for step in self.steps:
            graph = step(graph, dropout_rate)
        logits: Tensor = self.decoder((graph.globals, None))
        return logits


class OgbgTorch(TorchWorkload):
    """OGBG and its variants in PyTorch."""

    def build_model(self) -> nn.Module:
        """The model with fresh parameters."""
        return OgbgModel(self.spec.model)

    def parameter_type(self, module: nn.Module, name: str) -> ParameterType:
        """By the kind of the layer; of the embedders, only the weights are typed so."""
        if isinstance(module, nn.LayerNorm):
            return ParameterType.LAYER_NORM_SCALE if name == "weight" else ParameterType.LAYER_NORM_BIAS
        assert isinstance(module, JointLinear)
        return module.weight_type if name == "weight" else ParameterType.BIAS

    def model_fn(
        self,
        params: nn.Module,
        augmented_and_preprocessed_input_batch: Mapping[str, Any],
        model_state: ModelAuxiliaryState,
        mode: ForwardPassMode,
        rng: RandomState,
        update_batch_norm: bool,
        dropout_rate: float | None = None,
    ) -> tuple[Tensor, ModelAuxiliaryState]:
        """Logits [G, num_outputs], float32, and None. Raises ValueError if there is a model state."""
        del rng, update_batch_norm
        if model_state is not None:
            raise ValueError("OGBG has no model state; pass None as model_state.")
        self.set_mode(params, mode)
        rate = self.spec.dropout_rate if dropout_rate is None else dropout_rate
        return params(augmented_and_preprocessed_input_batch["inputs"], rate), None

    def loss_fn(
        self,
        label_batch: Tensor,
        logits_batch: Tensor,
        mask_batch: Tensor | None = None,
        label_smoothing: float = 0.0,
        **unused: Any,
    ) -> dict[str, Tensor]:
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
        mask = torch.ones_like(label_batch) if mask_batch is None else mask_batch
        if label_batch.ndim != 2 or not label_batch.shape == logits_batch.shape == mask.shape:
            raise ValueError(
                "Labels, logits and mask need one shape [graphs, tasks]; they have "
                f"{tuple(label_batch.shape)}, {tuple(logits_batch.shape)} and {tuple(mask.shape)}."
            )
        num_outputs = label_batch.shape[-1]
        labels = (1 - label_smoothing) * label_batch + label_smoothing / num_outputs
        losses = F.binary_cross_entropy_with_logits(logits_batch, labels, reduction="none") * mask
        return {
            "summed": losses.sum(),
            "n_valid_examples": mask.sum(dtype=losses.dtype),
            "per_example": losses,
        }

    def eval_step(
        self, params: nn.Module, model_state: ModelAuxiliaryState, batch: Mapping[str, Any], rng: RandomState
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
