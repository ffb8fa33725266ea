"""Networks: any acyclic graph of nodes, its costates, and stochastic gradient descent."""

from lqrad.nets import primitives
from lqrad.nets.graph import Graph, GraphKKT
from lqrad.nets.networks import lq_graph, mlp, recurrent, residual_network
from lqrad.nets.nodes import Node
from lqrad.nets.primitives import Primitive
from lqrad.nets.schedules import cosine_decay, step_decay
from lqrad.nets.sgd import Training, sgd

residual = residual_network  # its former name

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
    "residual_network",
    "sgd",
    "step_decay",
]
