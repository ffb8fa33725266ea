"""Stochastic gradient descent: the descent loop, on a part of the data at a time.

    J(theta) = the mean over all samples,    g[k] = its gradient, over the samples of minibatch k

    plain      theta[k+1] = theta[k] - step[k] g[k]
    momentum   theta[k+1] = theta[k] + v[k+1],    v[k+1] = mu v[k] - step[k] g[k]
    adam       theta[k+1] = theta[k] - step[k] m / (sqrt(s) + eps),    m and s: running means of g, g^2

Weight decay takes step[k] weight_decay theta[k] off besides. An epoch is one pass through the data,
in an order drawn afresh. It knows no graph: whatever has an objective for given data is trained.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.blas import dnrm2

from lqrad.arguments import (
    EPS,
    Array,
    any_array,
    called_as,
    check_choice,
    check_count,
    check_finite,
    check_function,
    check_generator,
    check_number,
    check_room,
    check_shape,
    check_type,
    real_array,
)
from lqrad.descent.objective import Objective
from lqrad.errors import ArgumentError, NonFiniteError, ShapeError, Status
from lqrad.nets.schedules import Schedule
from lqrad.outside import progress_bar
from lqrad.results import Ended, Report, former

_STEP_SIZES = {"plain": 0.1, "momentum": 0.01, "adam": 0.001}
_BETA2, _EPSILON = 0.999, 1e-8  # Kingma and Ba's for Adam

_Move = Callable[[Array, float], Array]  # (g[k], step[k]) -> theta[k+1] - theta[k]


class Trainable(Protocol):
    """What `sgd` trains, such as a Graph: parameters that are one vector, and J for given data.

    See Also
    --------
    sgd : trains it.
    Graph, PolicyProblem : two that are given here.
    """

    def objective(self, data: Mapping[str, Any], /) -> Objective:
        """J over the vector of parameters: the mean over these samples."""

    def flatten(self, theta: Mapping[str, Any], /) -> Array:
        """The parameters as one vector."""

    def unflatten(self, vector: Array, /) -> dict[str, Array]:
        """The parameters of a vector, by name."""


@dataclass(frozen=True, eq=False)
class Epoch:
    """What the callback sees after epoch 1, 2, ...; the arrays of `theta` are read-only.

    `cost` and `gradient_norm` are means over the epoch, each minibatch seen before its step;
    `step_size` is the last, `validation_loss` that of `theta`, None where there is no such data.
    """

    epoch: int
    theta: dict[str, Array]
    cost: float
    validation_loss: float | None
    gradient_norm: float
    step_size: float
    seconds: float
    loss = former("cost")


@dataclass(frozen=True, eq=False)
class TrainingHistory(Report):
    """One entry per complete epoch, of what its `Epoch` holds."""

    cost: Array
    validation_loss: Array | None
    gradient_norm: Array
    step_size: Array
    seconds: Array
    loss = former("cost")


@dataclass(frozen=True, eq=False, repr=False)
class Training(Ended):
    """What `sgd` returns.

    `theta` are the parameters after epoch `best_epoch`, 0 being the start: that of the lowest
    validation loss, or without such data the last complete one. `cost` is the mean over that epoch,
    NaN for the start. `iterations` counts minibatches. `what` says how it ended, `remedy` what to
    try after a divergence; `message` is both.
    """

    theta: dict[str, Array]
    cost: float
    status: Status
    what: str
    remedy: str
    iterations: int
    seconds: float
    history: TrainingHistory
    best_epoch: int
    epochs: int
    method: str
    steps = former("iterations")

    def __repr__(self) -> str:
        return f"<Training by {self.method}: {self.message}>"


@called_as("sgd(graph, theta, data, epochs=..., rng=..., batch_size=..., step_size=...)")
def sgd(
    graph: Trainable,
    theta: Mapping[str, ArrayLike],
    data: Mapping[str, ArrayLike],
    *,
    epochs: int,
    rng: np.random.Generator | int,
    batch_size: int = 32,
    method: str = "adam",
    step_size: float | Schedule | None = None,
    momentum: float | None = None,
    weight_decay: float = 0.0,
    clip: float | None = None,
    validation: Mapping[str, ArrayLike] | None = None,
    patience: int | None = None,
    callback: Callable[[Epoch], object] | None = None,
    progress: bool = False,
) -> Training:
    """Train on minibatches: every sample once an epoch, the last minibatch being what is left.

    Parameters
    ----------
    graph : Graph, or anything with its `objective`, `flatten` and `unflatten`
        What to train; J is a mean over samples.
    theta : dict of name to array
        Where to start, such as `graph.initial(rng)`. It is not modified.
    data : dict of name to (N, ...)
        The samples, along the first axis of every array.
    epochs : int
        How often to go through the data.
    rng : Generator or int
        Draws the order of the samples, once an epoch; an int is a seed. Equal seeds give equal
        parameters, to the last bit.
    batch_size : int
        Samples in a minibatch.
    method : str
        - "plain": a step along the gradient.
        - "momentum": Polyak's heavy ball, as Sutskever et al. write it.
        - "adam": Kingma and Ba's Algorithm 1, with beta2 = 0.999 and epsilon = 1e-8.
    step_size : float or callable, optional
        A constant, or a schedule k -> step[k], where k = 0, 1, ... counts minibatches, such as
        `cosine_decay(...)`. By default 0.1, 0.01 and 0.001, in the order of the methods.
    momentum : float, optional
        mu, or Adam's beta1; 0.9 by default.
    weight_decay : float
        Decoupled from the gradient, as in Loshchilov and Hutter, whatever the method. It is no part
        of J.
    clip : float, optional
        The largest norm of a gradient, over all parameters: a longer one is shortened to it before
        its step. The history has the norms from before.
    validation : dict of name to (M, ...), optional
        Samples that are not trained on: their J is evaluated at the start and after every epoch,
        as one batch, and decides which parameters are returned.
    patience : int, optional
        Stop where so many epochs have brought no lower validation loss.
    callback : callable, optional
        Called with each `Epoch`; a true return value stops. Its exceptions are passed on.
    progress : bool
        Show a progress bar (tqdm's), or without tqdm one line of text on stderr at the end.

    Returns
    -------
    Training
        DIVERGED, with the epoch and the step, where J or a gradient is not finite, or J has risen
        to 1/eps times its start.

    See Also
    --------
    Graph, lqrad.PolicyProblem : What is trained.
    lqrad.descend : Descent on all of the data, with a tolerance.

    References
    ----------
    Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks, ICML 2013,
    Algorithm 1 (clip).
    Sutskever, Martens, Dahl and Hinton, On the importance of initialization and momentum in deep
    learning, 2013, equations 1 and 2.
    Kingma and Ba, Adam: a method for stochastic optimization, 2015, Algorithm 1.
    Loshchilov and Hutter, Decoupled weight decay regularization, 2019, Algorithms 1 and 2, whose
    lambda is the product of weight_decay here with their alpha.

    Examples
    --------
    >>> import numpy as np
    >>> class Mean:
    ...     def objective(self, data):
    ...         y = data["y"].mean()
    ...         return Objective((1,), lambda z: (float((z[0] - y) ** 2) / 2, z - y))
    ...
    ...     def flatten(self, theta):
    ...         return np.ravel(theta["mean"])
    ...
    ...     def unflatten(self, vector):
    ...         return {"mean": vector[0]}
    >>> data = {"y": [1.0, 2.0, 3.0, 6.0]}
    >>> result = sgd(Mean(), {"mean": 0.0}, data, epochs=100, rng=0, batch_size=4, method="plain")
    >>> float(result.theta["mean"].round(3)), result.iterations
    (3.0, 100)
    """
    began = time.perf_counter()
    for name in ("objective", "flatten", "unflatten"):
        check_function(f"the {name} of graph", getattr(graph, name, None))
    samples = _samples("data", data)
    check_choice("method", method, _STEP_SIZES)
    epochs = check_count("epochs", epochs)
    check_room(f"the history of {epochs} epochs", epochs, 25)
    held_out = None
    if validation is not None:
        held_out = graph.objective(_samples("validation", validation))
    if patience is not None:
        patience = check_count("patience", patience)
        if held_out is None:
            raise ArgumentError(
                "patience waits for the validation loss to fall, and there is no validation; "
                "pass validation={...}, or leave patience out"
            )
    z = np.array(real_array("theta", graph.flatten(theta)))
    check_finite("theta", z)
    loop = _Loop(
        graph=graph,
        samples=samples,
        batch_size=check_count("batch_size", batch_size),
        rng=check_generator(rng),
        move=_mover(method, momentum),
        schedule=_schedule(_STEP_SIZES[method] if step_size is None else step_size),
        weight_decay=check_number("weight_decay", weight_decay, least=0),
        clip=math.inf if clip is None else check_number("clip", clip, above=0),
        z=z,
    )

    def validated(where: str) -> float:
        if held_out is None:
            return math.nan
        return _evaluate(held_out, loop.z, f"{where}, in the validation loss")[0]

    best, best_epoch, best_loss = z, 0, math.inf
    rows: list[tuple[float, ...]] = []
    status, reason = None, ""
    bar = progress_bar(method, epochs, "epoch") if progress else None
    # An overflow is found, and reported in words: NumPy's warnings would only repeat it.
    quiet = np.errstate(over="ignore", invalid="ignore")
    with quiet, nullcontext() if bar is None else bar:
        try:
            best_loss = validated("at the start")
            while status is None:
                epoch, epoch_began, asked = len(rows) + 1, time.perf_counter(), False
                loss, norm = loop.epoch(epoch)
                z, now = loop.z, validated(f"after epoch {epoch}")
                if not now >= best_loss:  # or there is nothing to validate with
                    best, best_epoch, best_loss = z, epoch, now
                rows.append((loss, now, norm, loop.step, time.perf_counter() - epoch_began))
                if bar is not None:
                    bar.set_postfix(loss=f"{loss:.3g}", refresh=False)
                    bar.update()
                if callback is not None:
                    z.flags.writeable = False
                    seen = None if held_out is None else now
                    told = Epoch(epoch, graph.unflatten(z), loss, seen, *rows[-1][2:])
                    asked = bool(callback(told))
                if asked:
                    status = Status.CALLBACK
                elif patience is not None and epoch - best_epoch >= patience:
                    status, reason = Status.PATIENCE, f"the last {patience} without progress"
                elif epoch >= epochs:
                    status = Status.MAX_ITER
        except _DivergenceError as error:
            status, reason = Status.DIVERGED, str(error)
    costs, held_out_losses, norms, step_sizes, seconds = (
        np.array([row[i] for row in rows]) for i in range(5)
    )
    result = Training(
        theta=graph.unflatten(best.copy()),
        cost=float(costs[best_epoch - 1]) if best_epoch else math.nan,
        status=status,
        what=_what(status, reason, rows, best_epoch),
        remedy=_remedy(loop) if status is Status.DIVERGED else "",
        iterations=loop.k,
        seconds=time.perf_counter() - began,
        history=TrainingHistory(
            costs, None if held_out is None else held_out_losses, norms, step_sizes, seconds
        ),
        best_epoch=best_epoch,
        epochs=len(rows),
        method=method,
    )
    if progress and bar is None:
        print(result, file=sys.stderr)
    return result


class _DivergenceError(Exception):
    """Something is not finite, or has grown too far; its words say what and where."""


@dataclass
class _Loop:
    """The parameters z on their way: after k steps, the last of them of size `step`."""

    graph: Trainable
    samples: dict[str, NDArray[Any]]
    batch_size: int
    rng: np.random.Generator
    move: _Move
    schedule: Schedule
    weight_decay: float
    clip: float
    z: Array
    k: int = 0
    step: float = 0.0
    peak: float = 0.0  # of |J| over the first epoch

    def epoch(self, epoch: int) -> tuple[float, float]:
        """Go through the data once; returns the means of J and of the gradient's norm."""
        order = self.rng.permutation(len(next(iter(self.samples.values()))))
        steps = math.ceil(len(order) / self.batch_size)
        loss = gradient_norm = 0.0
        for i in range(steps):
            drawn = order[i * self.batch_size : (i + 1) * self.batch_size]
            minibatch = {name: array[drawn] for name, array in self.samples.items()}
            where = f"in epoch {epoch} at step {i + 1} of {steps}"
            value, g = _evaluate(self.graph.objective(minibatch), self.z, where)
            if epoch == 1 or self.k < 10:
                self.peak = max(self.peak, abs(value))
            elif self.peak / EPS < value:  # none of the start's digits is left
                raise _DivergenceError(f"{where}: J went from {self.peak:.3g} to {value:.3g}")
            self.step = check_number(f"step_size({self.k})", self.schedule(self.k), least=0)
            norm = float(dnrm2(g)) if g.size else 0.0  # whose squares may overflow
            if norm > self.clip:
                g = g * (self.clip / norm)
            # A new array at every step: the callback and the best parameters keep theirs.
            z, self.z = self.z, self.z + self.move(g, self.step)
            if self.weight_decay:
                self.z -= self.step * self.weight_decay * z
            self.k += 1
            loss += value * len(drawn) / len(order)
            gradient_norm += norm / steps
        if not np.isfinite(self.z).all():  # which the next minibatch would find, if there is one
            raise _DivergenceError(f"in epoch {epoch} at its last step: the parameters overflowed")
        return loss, gradient_norm


def _evaluate(objective: Objective, z: Array, where: str) -> tuple[float, Array]:
    """J and its gradient, both finite, or raise _DivergenceError."""
    try:
        value, g = objective.value_and_gradient(z)
    except NonFiniteError as error:
        # What to try is the step size, and not the remedy of the error.
        raise _DivergenceError(f"{where}: {error.what.rstrip('.')}") from error
    g = real_array("the objective's gradient", g)
    check_shape("the objective's gradient", g, z.shape, "as the parameters, flattened, have")
    if not math.isfinite(value):
        raise _DivergenceError(f"{where}: J is {float(value)}")
    if not math.isfinite(np.vdot(g, g)) and not np.isfinite(g).all():
        raise _DivergenceError(f"{where}: the gradient is not finite")
    return float(value), g


def _mover(method: str, momentum: float | None) -> _Move:
    """The recursion of a method, with a memory of its own: (g[k], step[k]) -> a move of z."""
    if method == "plain":
        if momentum is not None:
            raise ArgumentError(
                f"momentum is {momentum!r}, but method='plain' has none; "
                "leave it out, or choose method='momentum'"
            )
        return lambda g, step: -step * g
    mu = check_number("momentum", 0.9 if momentum is None else momentum, least=0, below=1)
    k = 0
    m: Array | float = 0.0
    s: Array | float = 0.0

    def by_momentum(g: Array, step: float) -> Array:
        nonlocal m
        m = mu * m - step * g
        return m

    def by_adam(g: Array, step: float) -> Array:
        nonlocal k, m, s
        k += 1
        # In place where it can be: in large networks new arrays would cost as much as the gradient.
        t = (1 - mu) * g
        m *= mu
        m += t
        np.multiply(g, g, out=t)
        t *= 1 - _BETA2
        s *= _BETA2
        s += t
        np.divide(s, 1 - _BETA2**k, out=t)
        np.sqrt(t, out=t)
        t += _EPSILON
        np.divide(m, t, out=t)
        t *= -step / (1 - mu**k)
        return t

    return by_momentum if method == "momentum" else by_adam


def _remedy(loop: _Loop) -> str:
    """What to try after a divergence."""
    smaller = f"a step_size smaller than {loop.step:g}" if loop.k else "smaller parameters"
    clip = ", or clip the gradients" if loop.k and loop.clip == math.inf else ""
    return f"try {smaller}{clip}"


def _what(status: Status, reason: str, rows: list[tuple[float, ...]], best_epoch: int) -> str:
    """How it ended, and which parameters are returned."""
    epochs = f"{len(rows)} epoch{'s' * (len(rows) != 1)}"
    how = {
        Status.CALLBACK: f"after {epochs} by the callback",
        Status.MAX_ITER: f"after {epochs}, as many as asked for",
        Status.PATIENCE: f"after {epochs}, {reason}",
        Status.DIVERGED: reason,
    }[status]
    what = f"{status.word} {how}; "
    if best_epoch == 0:
        return what + "the parameters are those of the start"
    loss, held_out, *_ = rows[best_epoch - 1]
    known = "" if math.isnan(held_out) else f", validation loss {held_out:.4g}"
    return what + f"the parameters are those after epoch {best_epoch}, loss {loss:.4g}{known}"


def _samples(name: str, data: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    """The arrays as they are, of one leading length; integers stay integers."""
    check_type(name, data, Mapping, "{'x': x, 'y': y}")
    arrays = {key: any_array(f"{name}[{key!r}]", value) for key, value in data.items()}
    lengths = {key: len(array) if array.ndim else 0 for key, array in arrays.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        shapes = ", ".join(f"{name}[{key!r}] {array.shape}" for key, array in arrays.items())
        raise ShapeError(
            f"{name} has the shapes {shapes}, expected arrays of one and the same leading length, "
            "the number of samples"
            if arrays
            else f"{name} is empty, expected arrays of samples by name"
        )
    for key, array in arrays.items():
        if array.dtype.kind == "f":  # here, where a sample still has its own number
            check_finite(f"{name}[{key!r}]", array)
    return arrays


def _schedule(step_size: float | Schedule) -> Schedule:
    if callable(step_size):
        return step_size
    constant = check_number("step_size", step_size, above=0)
    return lambda k: constant
