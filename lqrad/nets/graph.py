"""Backpropagation as the method of adjoints: a cascade of functions, and a cost at its end.

With one multiplier p[i] for each node z[i] = f_i(z of its parents, theta), the Lagrangian of `Graph`,
J + sum_i <p[i], f_i(...) - z[i]>, has the derivatives

    in p[i]:      f_i(parents, theta) - z[i]                  zero: the values, parents first
    in z[i]:      dJ/dz[i] + sum over the children j of i of
                  (df_j / dz[i])' p[j]  -  p[i]               zero: the costates, children first
    in theta[k]:  sum over the nodes j that use it of
                  (df_j / dtheta[k])' p[j]                    with both of these: the gradient of J

Each f is a `Primitive`, which brings its transposed derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lqrad.arguments import (
    Array,
    any_array,
    check_finite,
    check_generator,
    check_shape,
    check_type,
    real_array,
)
from lqrad.descent.objective import Objective
from lqrad.errors import ArgumentError, DtypeError, NonFiniteError, ShapeError
from lqrad.functions.carried import read_only
from lqrad.nets.nodes import Arrays, Node, listed
from lqrad.nets.primitives import relu
from lqrad.nets.structure import Structure
from lqrad.results import Report

# Overflow is looked for in the results and told in words; NumPy's warnings would only repeat it.
_quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")

Given = Mapping[str, ArrayLike]


@dataclass(frozen=True, eq=False)
class GraphKKT(Report):
    """Residuals of the optimality conditions of a graph: the derivatives of the Lagrangian, by name.

    Those in the multipliers p of the nodes are f(parents, theta) - z; those in their values z are
    zero where p is the adjoint, and those in the parameters the gradient where both are. `relative`
    is the largest, over the blocks p and z, of max|residual| over the largest single term that was
    added up in its block: a few rounding errors (1e-15) after the two passes.
    """

    p: Arrays
    z: Arrays
    theta: Arrays
    relative: float


class Graph(Structure):
    """Variables that are functions of each other, without a cycle, and the cost of some of them.

        minimise    J = sum over the costs i of  weight[i] * (mean of z[i] over the batch)
        subject to  z[i] = f_i(z of the parents of i, theta of i)      for every node i

    Values z, costates p, inputs and parameters theta are dicts of arrays by name, and so they are
    given to the methods; all but the parameters are (batch, ...). The simulation is `forward`, and
    the inputs are what x0 is elsewhere. A primitive has first derivatives alone: there is no Hessian
    product, and no linearisation.

    Parameters
    ----------
    nodes : sequence of Node
        In any order; kept in one in which parents come first.
    costs : mapping of str to float
        The weight of each node that is a cost: its value has the shape (batch,), or () where it is
        a function of parameters alone. A penalty on a hidden variable is one more cost.
    parameters : mapping of str to tuple of int
        The shape of each parameter, in the order of the flat vector.

    Attributes
    ----------
    inputs : tuple of str
        The parents that are no node.
    labels : tuple of str
        The inputs that a primitive takes without a derivative, such as the classes of samples.
    size : int
        The number of entries of all parameters.

    Raises
    ------
    ArgumentError
        If the nodes have a cycle, a name stands for two things, a parameter is used and not
        declared or declared and not used, or a cost is no node.

    Examples
    --------
    A straight line through three points: the values, the costates, and the gradient from both.

    >>> from lqrad.nets.primitives import affine, squared
    >>> line = Graph(
    ...     [Node("line", affine, ("x",), ("W", "b")), Node("loss", squared, ("line", "y"))],
    ...     costs={"loss": 1.0},
    ...     parameters={"W": (1, 1), "b": (1,)},
    ... )
    >>> data = {"x": np.array([[0.0], [1.0], [2.0]]), "y": np.array([[1.0], [3.0], [8.0]])}
    >>> theta = {"W": np.array([[2.0]]), "b": np.array([1.0])}
    >>> z = line.forward(data, theta)
    >>> line.cost(z)
    1.5
    >>> p = line.adjoint(z, theta)
    >>> p["line"].ravel()
    array([ 0.,  0., -1.])
    >>> line.gradient(z, p, theta)
    {'W': array([[-2.]]), 'b': array([-1.])}

    See Also
    --------
    mlp, recurrent, residual_network, lq_graph : Graphs that are made already.
    sgd : Training.
    lqrad.PolicyProblem : A graph as the policy of a control problem.

    References
    ----------
    Bryson and Ho, Applied Optimal Control, 1975, section 2.2 (multistage systems).
    Griewank and Walther, Evaluating Derivatives, 2008, chapter 3 (the reverse mode).
    """

    # The two passes

    @_quiet
    def forward(
        self, inputs: Given, theta: Given, *, only: Collection[str] | None = None
    ) -> Arrays:
        """Return the values z of the inputs and of the nodes.

        Parameters
        ----------
        inputs, theta
        only : sequence of str, optional
            The nodes that are asked for. What they do not depend on is not computed, and inputs
            that they do not need may be missing, such as the targets of a prediction.

        Raises
        ------
        NonFiniteError
            If a value overflows; names the node, as do the errors of inputs that do not fit it.
        """
        names = [only] if isinstance(only, str) else only
        nodes = self.leading_to([node.name for node in self.nodes] if names is None else names)
        z, theta = self._checked_inputs(inputs, nodes), self._checked_theta(theta)
        values = self._evaluate(nodes, z | theta)
        return z | {node.name: values[node.name] for node in nodes}

    @_quiet
    def adjoint(self, z: Given, theta: Given) -> Arrays:
        """Return the costates p = dJ/dz of the nodes, and of the inputs but for the labels."""
        values = self._checked_values(z, theta)
        p, names = self._costates(values, self._variables), self._variables
        return _finite("p", {name: p.get(name, np.zeros_like(values[name])) for name in names})

    @_quiet
    def gradient(self, z: Given, p: Given, theta: Given) -> Arrays:
        """Return dJ/dtheta from the values and the costates, added up over the uses of each."""
        values, slopes = self._checked_values(z, theta), dict[str, Array]()
        self.pull_back(self._checked_costates(p, values), slopes, values, self.parameters)
        return _finite("gradient", self._gradient(slopes))

    def cost(self, z: Mapping[str, Array]) -> float:
        """Return J, from the values of the costs in z."""
        check_type("z", z, Mapping, "graph.forward(inputs, theta)")
        for name in self.costs:
            if name not in z:
                raise ArgumentError(f"z has no {name!r}, which is a cost; it has {listed(z)}")
        values = {name: _finite_array(f"z[{name!r}]", z[name]) for name in self.costs}
        return self._cost(values)

    def _cost(self, values: Arrays) -> float:
        return sum(weight * float(values[name].mean()) for name, weight in self.costs.items())

    # In these `values` holds the variables and the parameters; no two of them have the same name.

    def _evaluate(self, nodes: Sequence[Node], values: Arrays) -> Arrays:
        for node in nodes:
            values[node.name] = z = node.value(values)
            if node.name in self.costs:
                batch = tuple(len(values[name]) for name in self.inputs if name in values)[:1]
                if node.name in self._sampled and z.shape != batch:
                    raise ShapeError(
                        f"{node} is a cost of shape {z.shape}, expected (batch,) = {batch}, one "
                        "number for each sample; sum it over the other axes"
                    )
                if node.name not in self._sampled and z.ndim:
                    raise ShapeError(
                        f"{node} is a cost of parameters alone, of shape {z.shape}, expected one "
                        "number, of shape (); the primitive `penalty` gives one"
                    )
            _check_overflow(node, z)
        return values

    def _costates(self, values: Arrays, wanted: Collection[str]) -> Arrays:
        """The slopes of J in the costs, and in what is wanted and leads to one."""
        p = self._cost_slopes(values)
        self.pull_back(p, p, values, wanted)
        return p

    def pull_back(
        self,
        p: Arrays,
        slopes: Arrays,
        values: Arrays,
        wanted: Collection[str],
        *,
        spend: bool = False,
    ) -> None:
        """Add (df_j / da)'p[j] to the slope in each wanted argument a, for its uses j, children first.

        With `spend` a node's costate and value are taken out where it is done, for their memory.
        """
        take = dict.pop if spend else dict.__getitem__
        for node in reversed(self.nodes):
            if node.name in p:
                own = take(p, node.name), take(values, node.name)
                for name, term in node.products(*own, values, wanted):
                    # Not in place: a term may be the costate of another variable, or a part of it.
                    slopes[name] = slopes[name] + term if name in slopes else term

    def _gradient(self, slopes: Arrays) -> Arrays:
        """The slopes in the parameters, zero in those that lead to no cost."""
        return {name: slopes.get(name, np.zeros(shape)) for name, shape in self.parameters.items()}

    def _cost_slopes(self, z: Arrays) -> Arrays:
        """The partial derivatives of J in the costs."""
        return {
            name: np.full(z[name].shape, weight / z[name].size)
            for name, weight in self.costs.items()
        }

    # Optimality

    @_quiet
    def lagrangian(self, z: Given, p: Given, theta: Given) -> float:
        """Return J(z) + sum_i <p[i], f_i(parents, theta) - z[i]>, for any values and multipliers."""
        values = self._checked_values(z, theta)
        p, f = self._checked_costates(p, values), self._functions(values)
        return self.cost(values) + sum(
            float(np.vdot(p[name], f[name] - values[name])) for name in f
        )

    @_quiet
    def kkt_residual(self, z: Given, p: Given, theta: Given) -> GraphKKT:
        """Return the derivatives of the Lagrangian, for any values and multipliers."""
        values = self._checked_values(z, theta)
        p, f = self._checked_costates(p, values), self._functions(values)
        in_p = {name: [f[name], -values[name]] for name in f}
        in_z = {name: [-p[name]] for name in f}
        in_theta = {name: [np.zeros(shape)] for name, shape in self.parameters.items()}
        for name, slope in self._cost_slopes(values).items():
            in_z[name].append(slope)
        terms = in_z | in_theta
        for node in self.nodes:
            for name, term in node.products(p[node.name], f[node.name], values, terms):
                terms[name].append(term)
        relative = max(_relative(in_p), _relative(in_z))
        return GraphKKT(_sums(in_p), _sums(in_z), _sums(in_theta), relative)

    def _functions(self, values: Arrays) -> Arrays:
        """The functions of all nodes at values that need not be theirs."""
        f = {node.name: node.value(values) for node in self.nodes}
        for name, value in f.items():
            check_shape(f"z[{name!r}]", values[name], value.shape, "that of its function")
        return f

    # The parameters as one vector

    def flatten(self, theta: Given) -> Array:
        """Return the parameters as one vector (size,), a copy."""
        return self._flat(self._checked_theta(theta))

    def unflatten(self, vector: ArrayLike) -> Arrays:
        """Return the parameters in a vector (size,), as views into it."""
        vector = _finite_array("vector", vector, (self.size,), "to hold all parameters")
        theta, start = {}, 0
        for name, shape in self.parameters.items():
            stop = start + math.prod(shape)
            theta[name] = vector[start:stop].reshape(shape)
            start = stop
        return theta

    def _flat(self, theta: Arrays) -> Array:
        return np.concatenate([np.zeros(0), *(theta[name].ravel() for name in self.parameters)])

    def initial(self, rng: np.random.Generator | int) -> Arrays:
        """Return parameters to start a training from.

        Vectors and numbers are zero. A matrix (in, out) is drawn by the generator, or from the seed,
        normal with the variance 1/in, which keeps the size of what passes through; 2/in of a node
        that a relu takes directly, which stops half of it.

        References
        ----------
        He, Zhang, Ren and Sun, Delving deep into rectifiers, ICCV 2015, section 2.2.
        """
        halved = {name for node in self.nodes if node.primitive is relu for name in node.parents}
        doubled = {name for node in self.nodes if node.name in halved for name in node.parameters}
        theta, rng = {}, check_generator(rng)
        for name, shape in self.parameters.items():
            variance = (2.0 if name in doubled else 1.0) / math.prod(shape[:-1])
            theta[name] = rng.normal(0.0, math.sqrt(variance if len(shape) > 1 else 0.0), shape)
        return theta

    def objective(self, inputs: Given) -> Objective:
        """Return J as a function of the flat vector of parameters, for `lqrad.descend`.

        The inputs are checked once, and not copied where they are arrays of floats. Costates that no
        parameter has an effect on, such as those of the inputs, are not computed. It raises
        NonFiniteError where a value or the gradient overflows.
        """
        nodes = self.leading_to(self.costs)
        data = {
            name: read_only(array) for name, array in self._checked_inputs(inputs, nodes).items()
        }
        held: list[Array] = []

        @_quiet
        def value_and_gradient(vector: Array) -> tuple[float, Array]:
            theta = self.unflatten(read_only(vector))
            z = self._evaluate(nodes, data | theta)
            J, p = self._cost(z), self._cost_slopes(z)
            self.pull_back(p, p, z, self._trained, spend=True)
            gradient = self._flat(self._gradient(p))
            _check_overflow("the gradient", gradient)
            # While the last gradient lives, the allocator keeps the memory of a pass: with none to
            # ask of the system, the next one takes half of the time.
            held[:] = [gradient]
            return J, gradient

        return Objective(shape=(self.size,), value_and_gradient=value_and_gradient)

    # What is given

    def _checked_inputs(self, inputs: Given, nodes: Sequence[Node]) -> Arrays:
        """Return the inputs of the nodes as arrays of one batch."""
        users = {name: node for node in nodes for name in node.parents if name in self.inputs}
        _check_names("inputs", inputs, users, allowed=self.inputs)
        arrays = {name: self._checked_input(name, inputs[name]) for name in users}
        lengths = {name: len(array) for name, array in arrays.items()}
        if len({*lengths.values()}) > 1 or 0 in lengths.values():
            listed = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
            raise ShapeError(
                f"the inputs have leading axes that differ or are empty: {listed}; expected one "
                "batch of at least one sample"
            )
        return arrays

    def _checked_input(self, name: str, value: ArrayLike) -> NDArray[Any]:
        what = f"the input {name!r}"
        array = any_array(what, value)
        whole = array.dtype.kind in "iub"
        if whole and name in self._smooth:
            raise DtypeError(
                f"{what} holds {array.dtype}, expected real numbers: {self._smooth[name]} has a "
                "derivative in it; try astype(float)"
            )
        if not whole:
            array = _finite_array(what, array)
        if not array.ndim:
            raise ShapeError(f"{what} has shape (), expected (batch, ...)")
        return array

    def _checked_theta(self, theta: Given) -> Arrays:
        users = {name: node for node in self.nodes for name in node.parameters}
        _check_names("theta", theta, users, allowed=users)
        return {
            name: _finite_array(
                f"theta[{name!r}]", theta[name], shape, f"of the graph, for {users[name]}"
            )
            for name, shape in self.parameters.items()
        }

    def _checked_values(self, z: Given, theta: Given) -> Arrays:
        """Return the values of all variables and parameters."""
        nodes = {node.name: node for node in self.nodes}
        users = {name: node for node in self.nodes for name in node.parents} | nodes
        _check_names("z", z, users, allowed=users)
        inputs = {name: z[name] for name in self.inputs}
        values = {name: _finite_array(f"z[{name!r}]", z[name]) for name in nodes}
        return self._checked_inputs(inputs, self.nodes) | self._checked_theta(theta) | values

    def _checked_costates(self, p: Given, values: Arrays) -> Arrays:
        users = {node.name: node for node in self.nodes}
        _check_names("p", p, users, allowed={*users, *self.inputs})
        return {
            name: _finite_array(f"p[{name!r}]", p[name], values[name].shape, "that of its variable")
            for name in users
        }


def _check_overflow(what: object, array: Array) -> None:
    # A sum of squares is finite only if all entries are, and costs less than asking each of them.
    if not (math.isfinite(np.vdot(array, array)) or np.isfinite(array).all()):
        raise NonFiniteError(
            f"{what} is not finite, though all that it is computed from is: it overflowed",
            "try smaller parameters, or a smaller step size",
        )


def _finite_array(
    name: str, value: ArrayLike, shape: tuple[int, ...] | None = None, why: str = ""
) -> Array:
    """An argument as an array of finite numbers, and of a shape where that is given."""
    array = real_array(name, value)
    if shape is not None:
        check_shape(name, array, shape, why)
    check_finite(name, array)
    return array


def _finite(what: str, arrays: Arrays) -> Arrays:
    for name, array in arrays.items():
        _check_overflow(f"{what}[{name!r}]", array)
    return arrays


def _check_names(
    what: str, given: Given, users: Mapping[str, Node], *, allowed: Collection[str]
) -> None:
    """Raise ArgumentError unless all that is used is given, and no more than is allowed."""
    if not isinstance(given, Mapping):
        names = ", ".join(f"{name!r}: ..." for name in allowed)
        raise ArgumentError(
            f"{what} is of type {type(given).__name__}, expected a dict {{{names}}}"
        )
    for name, node in users.items():
        if name not in given:
            raise ArgumentError(f"{what} has no {name!r}, for {node}; it has {listed(given)}")
    for name in given:
        if name not in allowed:
            raise ArgumentError(f"{what} has {name!r}, which is not used: {listed(allowed)} are")


def _sums(terms: Mapping[str, list[Array]]) -> Arrays:
    return {name: np.sum(parts, axis=0) for name, parts in terms.items()}


def _relative(terms: Mapping[str, list[Array]]) -> float:
    """The largest sum over the largest single term."""
    largest = max(float(np.abs(part).max()) for parts in terms.values() for part in parts)
    residual = max(float(np.abs(total).max()) for total in _sums(terms).values())
    return residual / largest if largest > 0 else 0.0
