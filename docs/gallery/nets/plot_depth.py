"""
Costates fade on their way down
===============================

The costates of three untrained networks of forty layers, from the loss on the right down to the
data on the left. In a plain network they are multiplied by a matrix at each layer: with small
weights they fade, with large ones they grow, as the gradients of a stable and an unstable system do
over time. A residual network hands them on nearly as they are.
"""

import matplotlib.pyplot as plt
import numpy as np

import lqrad

rng = np.random.default_rng(0)
data = {"x": rng.normal(size=(64, 8)), "y": rng.normal(size=(64, 1))}
plain = lqrad.mlp([8] * 41 + [1], "relu", loss="squared")
direct = lqrad.nets.residual_network(8, 8, 1, depth=39, loss="squared")
cases = [("plain, small weights", plain, 0.5, "-"), ("plain, large weights", plain, 1.5, "--")]
figure, ax = plt.subplots(layout="constrained")
for label, graph, scale, look in [*cases, ("residual", direct, 0.5, ":")]:
    theta = {name: scale * w for name, w in graph.initial(1).items()}
    p = graph.adjoint(graph.forward(data, theta), theta)
    norms = [np.linalg.norm(p[f"h{k}"]) for k in range(1, 41) if f"h{k}" in p]
    ax.semilogy(norms, look, color="black", label=label)
ax.set(xlabel="layer", ylabel="norm of the costates")
ax.legend()
