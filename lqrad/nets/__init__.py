"""Networks: any acyclic graph of nodes, its costates, and stochastic gradient descent."""

from lqrad.nets import primitives
from lqrad.nets.graph import Graph, GraphKKT
from lqrad.nets.networks import lq_graph, mlp, recurrent, residual
from lqrad.nets.nodes import Node
from lqrad.nets.primitives import Primitive
from lqrad.nets.sgd import Training, cosine_decay, sgd, step_decay

__all__ = [
    "Graph",
    "GraphKKT",
    "Node",
    "Primitive",
    "Training",
    "cosine_decay",
    "lq_graph",
    "mlp",
    "primitives",
    "recurrent",
    "residual",
    "sgd",
    "step_decay",
]
