"""Stochastic gradient descent beside the published recursions; up to TestNetworks without a graph."""

from __future__ import annotations

import math
import re
import sys

import numpy as np
import pytest

from lqrad.descent.objective import Objective
from lqrad.errors import (
    ArgumentError,
    DtypeError,
    LqradError,
    NonFiniteError,
    ShapeError,
    Status,
)
from lqrad.nets.networks import mlp
from lqrad.nets.schedules import cosine_decay, step_decay
from lqrad.nets.sgd import sgd

METHODS = ["plain", "momentum", "adam"]
EVERY_METHOD = pytest.mark.parametrize("method", METHODS)


class Linear:
    """A stand-in for a graph: y = x W + b, and a loss of each sample in what it predicts.

    It keeps the data that it was asked for, in the order in which it was.
    """

    def __init__(self, n, loss):
        self.n, self.loss, self.seen = n, loss, []

    def flatten(self, theta):
        return np.concatenate([np.ravel(theta["W"]), np.ravel(theta["b"])])

    def unflatten(self, vector):
        return {"W": vector[:-1], "b": vector[-1]}

    def objective(self, data):
        self.seen.append(data)
        x, y = data["x"], data["y"]

        def value_and_gradient(z):
            value, slope = self.loss(x @ z[:-1] + z[-1], y)
            return value.mean(), np.append(slope @ x, slope.sum()) / len(y)

        return Objective((self.n + 1,), value_and_gradient)


def squared(prediction, y):
    return (prediction - y) ** 2 / 2, prediction - y


def logistic(prediction, y):
    return np.logaddexp(0, prediction) - y * prediction, 1 / (1 + np.exp(-prediction)) - y


def regression(N=50, n=3, seed=0):
    """Data of a linear model without noise, and its parameters."""
    rng = np.random.default_rng(seed)
    x, W, b = rng.normal(size=(N, n)), rng.normal(size=n), rng.normal()
    return {"x": x, "y": x @ W + b}, {"W": W, "b": b}


def classes(N=50, n=3, seed=0):
    """Labels 0 and 1, as integers, of points that overlap."""
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=N)
    return {"x": rng.normal(size=(N, n)) + y[:, None], "y": y}


START = {"W": np.array([0.5, -0.3, 0.2]), "b": np.array(0.1)}


def minibatches(data, batch_size, epochs, seed):
    """The minibatches of a run, by the one call per epoch that its order is drawn by."""
    rng = np.random.default_rng(seed)
    N = len(data["y"])
    for _ in range(epochs):
        order = rng.permutation(N)
        for start in range(0, N, batch_size):
            rows = order[start : start + batch_size]
            yield data["x"][rows], data["y"][rows]


def gradients(data, loss, z, batches):
    """Drive an oracle: the gradient of each minibatch, one sample at a time, at what z is then."""
    for x, y in batches:
        g = np.zeros(len(z))
        for row, target in zip(x, y, strict=True):
            slope = loss(sum(row[i] * z[i] for i in range(len(row))) + z[-1], target)[1]
            g += slope * np.append(row, 1.0) / len(y)
        yield g


class TestRecursions:
    """Each method, number by number as printed, over 4 epochs of 7 minibatches and a last of one."""

    EPOCHS, BATCH, SEED = 4, 7, 5
    SCHEDULES = pytest.mark.parametrize(
        "step_size", [0.05, lambda k: 0.3 / (k + 3)], ids=["constant", "schedule"]
    )
    DECAYS = pytest.mark.parametrize("weight_decay", [0.0, 0.3])

    def run(self, method, step_size, weight_decay, **options):
        data = classes()
        assert len(data["y"]) % self.BATCH == 1
        graph = Linear(3, logistic)
        result = sgd(
            graph,
            START,
            data,
            epochs=self.EPOCHS,
            batch_size=self.BATCH,
            rng=self.SEED,
            method=method,
            step_size=step_size,
            weight_decay=weight_decay,
            **options,
        )
        z = graph.flatten(START).tolist()  # which the oracles change in place
        batches = minibatches(data, self.BATCH, self.EPOCHS, self.SEED)
        step = step_size if callable(step_size) else lambda k: step_size
        return graph.flatten(result.theta), z, gradients(data, logistic, z, batches), step

    @SCHEDULES
    @DECAYS
    def test_plain(self, step_size, weight_decay):
        found, theta, gs, step = self.run("plain", step_size, weight_decay)
        for k, g in enumerate(gs):
            for i in range(4):
                theta[i] = theta[i] - step(k) * g[i] - step(k) * weight_decay * theta[i]
        np.testing.assert_allclose(found, theta, rtol=1e-13)

    @SCHEDULES
    @DECAYS
    @pytest.mark.parametrize("momentum", [None, 0.0, 0.7])
    def test_momentum_as_in_sutskever_et_al(self, step_size, weight_decay, momentum):
        """Their equations 1 and 2: v' = mu v - eps grad f(theta), theta' = theta + v'."""
        found, theta, gs, eps = self.run("momentum", step_size, weight_decay, momentum=momentum)
        mu = 0.9 if momentum is None else momentum
        v = [0.0] * 4
        for k, g in enumerate(gs):
            for i in range(4):
                decay = eps(k) * weight_decay * theta[i]
                v[i] = mu * v[i] - eps(k) * g[i]
                theta[i] = theta[i] + v[i] - decay
        np.testing.assert_allclose(found, theta, rtol=1e-13)

    @SCHEDULES
    @DECAYS
    @pytest.mark.parametrize("beta1", [None, 0.6])
    def test_adam_as_in_kingma_and_ba(self, step_size, weight_decay, beta1):
        """Their Algorithm 1, t counting from 1; line 12 of Loshchilov and Hutter's Algorithm 2."""
        found, theta, gs, alpha = self.run("adam", step_size, weight_decay, momentum=beta1)
        beta1, beta2, epsilon = 0.9 if beta1 is None else beta1, 0.999, 1e-8
        m, v = [0.0] * 4, [0.0] * 4
        for t, g in enumerate(gs, 1):
            for i in range(4):
                m[i] = beta1 * m[i] + (1 - beta1) * g[i]
                v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
                m_hat = m[i] / (1 - beta1**t)
                v_hat = v[i] / (1 - beta2**t)
                a = alpha(t - 1)
                theta[i] -= a * (m_hat / (math.sqrt(v_hat) + epsilon) + weight_decay * theta[i])
        np.testing.assert_allclose(found, theta, rtol=1e-13)

    def test_momentum_is_polyak_s_heavy_ball(self):
        """theta[k+1] = theta[k] - step g[k] + mu (theta[k] - theta[k-1]), the step constant."""
        found, z, gs, step = self.run("momentum", 0.05, 0.0)
        previous = np.array(z)
        for k, g in enumerate(gs):
            ahead = np.array(z) - step(k) * g + 0.9 * (np.array(z) - previous)
            previous, z[:] = np.array(z), ahead
        np.testing.assert_allclose(found, z, rtol=1e-13)

    @pytest.mark.parametrize(
        ("method", "step_size"), [("plain", 0.1), ("momentum", 0.01), ("adam", 0.001)]
    )
    def test_the_default_step_sizes(self, method, step_size):
        default, *_ = self.run(method, None, 0.0)
        chosen, *_ = self.run(method, step_size, 0.0)
        assert np.array_equal(default, chosen)

    def test_adam_tells_gradients_of_1e_8_from_larger_ones(self):
        """Its epsilon stands outside the root, and after the correction of the bias."""

        class Slope(Linear):
            def objective(self, data):
                return Objective((1,), lambda z: (1e-8 * z[0], np.array([1e-8])))

            def flatten(self, theta):
                return np.ravel(theta["z"])

            def unflatten(self, vector):
                return {"z": vector}

        result = sgd(Slope(0, None), {"z": 1.0}, {"x": [0]}, epochs=1, rng=0, step_size=0.5)
        assert result.theta["z"] == pytest.approx([0.75], rel=1e-12)


class TestTorch:
    """The same minibatches through PyTorch's optimisers, in double precision."""

    @pytest.mark.parametrize(
        ("method", "name", "options", "weight_decay"),
        [
            ("plain", "SGD", {}, 0.0),
            ("plain", "SGD", {}, 0.1),  # without momentum, decoupled or not is the same
            ("momentum", "SGD", {"momentum": 0.9}, 0.0),
            ("adam", "Adam", {}, 0.0),
            ("adam", "AdamW", {}, 0.1),
        ],
    )
    def test_its_optimisers_end_at_the_same_parameters(self, method, name, options, weight_decay):
        torch = pytest.importorskip("torch")
        data, epochs = classes(N=103), 20
        graph = Linear(3, logistic)
        result = sgd(
            graph,
            START,
            data,
            epochs=epochs,
            batch_size=16,
            rng=1,
            method=method,
            step_size=0.02,
            weight_decay=weight_decay,
        )
        z = torch.tensor(graph.flatten(START), requires_grad=True)
        optimiser = getattr(torch.optim, name)([z], lr=0.02, weight_decay=weight_decay, **options)
        for x, y in minibatches(data, 16, epochs, 1):
            optimiser.zero_grad()
            logits, labels = torch.tensor(x) @ z[:-1] + z[-1], torch.tensor(y, dtype=z.dtype)
            torch.nn.functional.binary_cross_entropy_with_logits(logits, labels).backward()
            optimiser.step()
        assert result.iterations == 7 * epochs
        np.testing.assert_allclose(graph.flatten(result.theta), z.detach().numpy(), rtol=1e-12)


class TestMinibatches:
    @pytest.mark.parametrize(("N", "batch_size"), [(10, 3), (12, 3), (5, 1), (7, 100), (1, 1)])
    def test_every_sample_comes_once_an_epoch_and_the_rest_is_a_minibatch(self, N, batch_size):
        data = {"x": np.zeros((N, 2)), "y": np.arange(N)}
        graph = Linear(2, squared)
        theta = {"W": np.zeros(2), "b": 0.0}
        result = sgd(graph, theta, data, epochs=3, batch_size=batch_size, rng=0, step_size=1e-9)
        steps = math.ceil(N / batch_size)
        assert result.iterations == len(graph.seen) == 3 * steps
        orders = []
        for epoch in range(3):
            batches = graph.seen[epoch * steps : (epoch + 1) * steps]
            sizes = [len(batch["y"]) for batch in batches]
            assert sizes[:-1] == [batch_size] * (steps - 1)
            assert sum(sizes) == N
            order = np.concatenate([batch["y"] for batch in batches])
            assert sorted(order) == list(range(N))
            orders.append(order.tolist())
        if N >= 10:
            assert orders[0] != orders[1] != orders[2]

    def test_rows_stay_together_and_integers_stay_integers(self):
        x = np.arange(40.0).reshape(20, 2)
        graph = Linear(2, squared)
        sgd(graph, {"W": np.zeros(2), "b": 0.0}, {"x": x, "y": np.arange(20)}, epochs=1, rng=0)
        for batch in graph.seen:
            assert batch["y"].dtype.kind == "i"
            np.testing.assert_array_equal(batch["x"][:, 0], 2 * batch["y"])

    def test_lists_are_data(self):
        graph = Linear(1, squared)
        start = {"W": [0.0], "b": 0.0}
        result = sgd(graph, start, {"x": [[1.0], [2.0]], "y": [1, 2]}, epochs=1, rng=0)
        assert result.iterations == 1

    @EVERY_METHOD
    def test_one_batch_of_everything_is_gradient_descent_and_finds_the_minimum(self, method):
        data, truth = regression()
        start = {"W": np.zeros(3), "b": 0.0}
        result = sgd(
            Linear(3, squared),
            start,
            data,
            epochs=3000,
            batch_size=50,
            rng=0,
            method=method,
            step_size=cosine_decay(0.05, 3000),
        )
        assert result.theta["W"] == pytest.approx(truth["W"], abs=1e-4)
        assert result.theta["b"] == pytest.approx(truth["b"], abs=1e-4)


class TestReproducibility:
    @EVERY_METHOD
    def test_a_seed_gives_the_same_bits_again(self, method):
        data = classes()

        def run(rng):
            result = sgd(Linear(3, logistic), START, data, epochs=5, rng=rng, method=method)
            return [*result.theta["W"].tolist(), float(result.theta["b"])], result.history

        first, history = run(3)
        for rng in (3, np.int64(3), np.random.default_rng(3)):
            again, history_again = run(rng)
            assert again == first
            assert np.array_equal(history_again.cost, history.cost)
        assert run(4)[0] != first

    def test_validation_callbacks_and_bars_do_not_touch_the_run(self, capsys):
        data = classes()
        plain = sgd(Linear(3, logistic), START, data, epochs=5, rng=3)
        watched = sgd(
            Linear(3, logistic),
            START,
            data,
            epochs=5,
            rng=3,
            validation=data,
            patience=5,
            callback=lambda epoch: None,
            progress=True,
        )
        assert np.array_equal(plain.history.cost, watched.history.cost)
        assert "5/5" in capsys.readouterr().err

    @EVERY_METHOD
    def test_nothing_that_was_given_is_modified(self, method):
        data, start = classes(), {name: np.array(value) for name, value in START.items()}
        kept = {name: array.copy() for name, array in data.items()}
        for array in (*data.values(), *start.values()):
            array.flags.writeable = False
        result = sgd(Linear(3, logistic), start, data, epochs=2, rng=0, method=method)
        for name in data:
            np.testing.assert_array_equal(data[name], kept[name])
        for name in START:
            np.testing.assert_array_equal(start[name], START[name])
            assert not np.shares_memory(result.theta[name], start[name])
        result.theta["W"][0] = 7.0


class TestHistory:
    def test_the_loss_is_the_mean_over_samples_before_each_step(self):
        data = classes(N=10)
        theta = {}

        def steps(k):  # one step, the third; all others have the size zero
            return 0.5 if k == 2 else 0.0

        result = sgd(
            Linear(3, logistic),
            START,
            data,
            epochs=3,
            batch_size=4,
            rng=2,
            method="plain",
            step_size=steps,
            callback=lambda epoch: theta.update({epoch.epoch: epoch.theta}),
        )

        def losses(theta):
            return logistic(data["x"] @ theta["W"] + theta["b"], data["y"])[0]

        history = result.history
        # The third minibatch of two samples is the last of the first epoch.
        assert history.cost[0] == pytest.approx(losses(START).mean(), rel=1e-14)
        assert history.cost[1] == pytest.approx(losses(theta[1]).mean(), rel=1e-14)
        assert history.cost[2] == history.cost[1] != history.cost[0]
        assert history.step_size.tolist() == [0.5, 0.0, 0.0]
        assert history.seconds.shape == (3,)
        assert (history.seconds > 0).all()
        assert history.seconds.sum() <= result.seconds
        assert history.validation_loss is None

    def test_the_gradient_s_norm_is_the_mean_over_minibatches(self):
        data = classes(N=10)
        graph = Linear(3, logistic)
        result = sgd(graph, START, data, epochs=1, batch_size=4, rng=2, step_size=lambda k: 0.0)
        z = graph.flatten(START)
        norms = [
            np.linalg.norm(g) for g in gradients(data, logistic, z, minibatches(data, 4, 1, 2))
        ]
        assert len(norms) == 3
        assert result.history.gradient_norm[0] == pytest.approx(np.mean(norms), rel=1e-13)

    def test_the_callback_sees_what_the_history_keeps(self):
        data, _ = regression()
        held_out, _ = regression(seed=1)
        seen = []
        result = sgd(
            Linear(3, squared),
            START,
            data,
            epochs=4,
            rng=0,
            step_size=step_decay(0.1, every=3),
            validation=held_out,
            callback=seen.append,
        )
        assert [epoch.epoch for epoch in seen] == [1, 2, 3, 4]
        for name in ("cost", "validation_loss", "gradient_norm", "step_size", "seconds"):
            column = [getattr(epoch, name) for epoch in seen]
            assert column == getattr(result.history, name).tolist(), name
        for epoch in seen:
            theta = epoch.theta
            value, _ = squared(held_out["x"] @ theta["W"] + theta["b"], held_out["y"])
            assert epoch.validation_loss == pytest.approx(value.mean(), rel=1e-14)
            with pytest.raises(ValueError, match="read-only"):
                theta["W"][0] = 1.0
        assert len({epoch.theta["W"][0] for epoch in seen}) == 4


class Scripted:
    """A stand-in whose parameter moves by one in each epoch, and whose validation is a script."""

    def __init__(self, losses):
        self.losses = losses

    def flatten(self, theta):
        return np.array([theta["z"]])

    def unflatten(self, vector):
        return {"z": vector[0]}

    def objective(self, data):
        if "script" in data:
            return Objective((1,), lambda z: (self.losses[round(z[0])], np.zeros(1)))
        return Objective((1,), lambda z: (-z[0], -np.ones(1)))

    def train(self, **options):
        options = {"epochs": len(self.losses) - 1, "method": "plain", "step_size": 1.0} | options
        validation = {"script": [0]}
        return sgd(self, {"z": 0.0}, {"x": [0]}, rng=0, validation=validation, **options)


class TestValidation:
    @pytest.mark.parametrize(
        ("losses", "patience", "epochs", "best"),
        [
            ([9, 5, 6, 4, 5, 5, 5, 1], 3, 6, 3),
            ([9, 5, 6, 4, 5, 5, 5, 1], 4, 7, 7),
            ([9, 8, 7, 6], 1, 3, 3),
            ([9, 8, 8, 7], 1, 2, 1),  # an equal loss is no lower one
            ([1, 2, 3, 4], 2, 2, 0),  # nothing better than the start
            ([-1, -2, 0, 0, 0], 2, 3, 1),
            ([2, 0, 1, 1, 1], 3, 4, 1),
        ],
    )
    def test_it_stops_when_patience_ends_and_returns_the_best(self, losses, patience, epochs, best):
        result = Scripted(losses).train(patience=patience)
        assert result.epochs == len(result.history.cost) == epochs
        assert result.history.validation_loss.tolist() == losses[1 : epochs + 1]
        assert (result.best_epoch, result.theta["z"]) == (best, best)
        assert (result.status is Status.PATIENCE) == (epochs - best >= patience)

    def test_without_patience_the_best_is_returned_all_the_same(self):
        result = Scripted([9, 3, 2, 5]).train()
        assert (result.status, result.epochs, result.theta["z"]) == (Status.MAX_ITER, 3, 2)
        assert result.message == (
            "stopped after 3 epochs, as many as asked for; "
            "the parameters are those after epoch 2, loss -1, validation loss 2"
        )

    def test_without_validation_the_last_is_returned(self):
        data, _ = regression()
        seen = []
        result = sgd(Linear(3, squared), START, data, epochs=3, rng=0, callback=seen.append)
        assert result.best_epoch == 3
        np.testing.assert_array_equal(result.theta["W"], seen[-1].theta["W"])

    def test_overfitting_is_stopped(self):
        data, held_out = classes(N=12, n=30), classes(N=200, n=30, seed=1)
        graph, start = Linear(30, logistic), {"W": np.zeros(30), "b": 0.0}
        result = sgd(
            graph, start, data, epochs=2000, rng=0, step_size=0.1, validation=held_out, patience=20
        )
        assert result.status is Status.PATIENCE
        assert result.epochs == result.best_epoch + 20 < 200
        history = result.history
        assert history.validation_loss[result.best_epoch - 1] == history.validation_loss.min()
        value, _ = logistic(held_out["x"] @ result.theta["W"] + result.theta["b"], held_out["y"])
        assert value.mean() == pytest.approx(history.validation_loss.min(), rel=1e-14)
        assert f"after {result.epochs} epochs, the last 20 without progress" in result.message


class TestClip:
    def test_a_long_gradient_is_shortened_and_a_short_one_is_left(self):
        """J = slope z, in plain steps of 1: each move is as long as the gradient that is left."""

        class Slope(Scripted):
            def objective(self, data):
                slope = float(data["x"][0])
                return Objective((1,), lambda z: (slope * z[0], np.array([slope])))

        for slope, moved in ((8.0, 2.0), (2.0, 2.0), (0.5, 0.5), (-1e200, -2.0)):
            result = sgd(
                Slope([]),
                {"z": 0.0},
                {"x": [slope]},
                epochs=1,
                rng=0,
                method="plain",
                step_size=1.0,
                clip=2.0,
            )
            np.testing.assert_allclose(result.theta["z"], -moved, rtol=1e-15)
            assert result.history.gradient_norm == abs(slope)  # the one that was met

    @pytest.mark.parametrize("clip", [0, -1.0, np.nan, "2"])
    def test_a_clip_is_positive(self, clip):
        with pytest.raises(LqradError, match="clip is "):
            sgd(Scripted([1]), {"z": 0.0}, {"x": [0]}, epochs=1, rng=0, clip=clip)


class TestDivergence:
    @pytest.mark.parametrize("method", ["plain", "momentum"])
    def test_too_large_a_step_is_a_status_with_the_epoch_and_the_step(self, method):
        data, _ = regression()
        result = sgd(
            Linear(3, squared),
            START,
            data,
            epochs=500,
            batch_size=20,
            rng=0,
            method=method,
            step_size=5.0,
        )
        assert result.status is Status.DIVERGED
        pattern = (
            r"diverged in epoch (\d+) at step (\d) of 3: J went from .* to .*; the parameters are"
        )
        epoch, step = (int(text) for text in re.match(pattern, result.message).groups())
        assert result.epochs == result.best_epoch == epoch - 1 >= 1
        assert result.iterations == 3 * (epoch - 1) + step - 1
        assert result.remedy == "try a step_size smaller than 5, or clip the gradients"
        assert np.isfinite(result.theta["W"]).all()
        assert repr(result) == f"<Training by {method}: {result.message}>"

    def test_a_start_that_is_not_finite_is_told_before_training(self):
        result = Scripted([math.nan, 1, 2]).train()
        assert result.message == (
            "diverged at the start, in the validation loss: J is nan; "
            "the parameters are those of the start; try smaller parameters"
        )
        assert (result.epochs, result.iterations, result.theta["z"]) == (0, 0, 0)
        assert math.isnan(result.cost)
        assert result.history.cost.shape == result.history.validation_loss.shape == (0,)

    def test_with_validation_the_best_parameters_before_it_are_kept(self):
        result = Scripted([9, 4, 6, math.inf, 1]).train()
        assert (result.status, result.best_epoch, result.theta["z"]) == (Status.DIVERGED, 1, 1)
        assert result.cost == result.history.cost[0] == result.history.loss[0]
        assert "diverged after epoch 3, in the validation loss: J is inf" in result.message
        assert result.epochs == 2

    @pytest.mark.parametrize(
        ("value", "gradient", "words"),
        [
            (math.nan, 1.0, "J is nan"),
            (-math.inf, 1.0, "J is -inf"),
            (1.0, math.nan, "the gradient is not finite"),
            (None, None, "node 'h' overflowed"),
        ],
    )
    @pytest.mark.parametrize("bad", [0, 4])
    def test_what_is_not_finite_is_named(self, value, gradient, words, bad):
        class Failing(Scripted):
            evaluations = -1

            def objective(self, data):
                def value_and_gradient(z):
                    self.evaluations += 1
                    if self.evaluations != bad:
                        return 1.0, np.ones(1)
                    if value is None:
                        raise NonFiniteError("node 'h' overflowed", "try a smaller world")
                    return value, np.array([gradient])

                return Objective((1,), value_and_gradient)

        data = {"x": [0, 1, 2]}
        result = sgd(Failing([]), {"z": 1.0}, data, epochs=9, rng=0, batch_size=1, step_size=0.5)
        assert result.status is Status.DIVERGED
        assert result.iterations == bad
        where, remedy = {
            0: ("in epoch 1 at step 1 of 3", "try smaller parameters"),
            4: (
                "in epoch 2 at step 2 of 3",
                "try a step_size smaller than 0.5, or clip the gradients",
            ),
        }[bad]
        assert result.what.startswith(f"diverged {where}: {words}; the parameters are those")
        assert result.remedy == remedy
        assert (result.theta["z"] == 1.0) == (bad == 0)

    def test_an_overflow_warns_of_nothing(self):
        class Steep(Scripted):
            def objective(self, data):
                return Objective((1,), lambda z: (z[0] ** 4, 4 * np.array([z[0] ** 3])))

        result = sgd(
            Steep([]),
            {"z": 1e3},
            {"x": range(9)},
            epochs=1,
            batch_size=1,
            rng=0,
            method="plain",
            step_size=1e6,
        )
        assert re.match(r"diverged in epoch 1 at step 4 of 9: J is inf; the par", result.what)

    def test_the_last_step_of_all_is_looked_at(self):
        class Far(Scripted):
            def objective(self, data):
                return Objective((1,), lambda z: (0.0, np.array([-1e200])))

        result = sgd(
            Far([]), {"z": 1.0}, {"x": [0]}, epochs=1, rng=0, method="plain", step_size=1e200
        )
        assert result.theta["z"] == 1.0
        assert result.message.startswith(
            "diverged in epoch 1 at its last step: the parameters overflowed; the parameters"
        )


class TestCallback:
    def test_a_true_value_stops(self):
        data, _ = regression()
        result = sgd(
            Linear(3, squared), START, data, epochs=9, rng=0, callback=lambda e: e.epoch == 2
        )
        assert (result.status, result.epochs, result.best_epoch) == (Status.CALLBACK, 2, 2)
        assert result.message.startswith("stopped after 2 epochs by the callback; the parameters")

    def test_its_exceptions_are_passed_on(self):
        def fail(epoch):
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            sgd(Linear(3, squared), START, regression()[0], epochs=2, rng=0, callback=fail)

    def test_progress_is_a_bar_or_a_line(self, capsys, monkeypatch):
        data, _ = regression()
        sgd(Linear(3, squared), START, data, epochs=3, rng=0, progress=True)
        assert "adam: 100%" in capsys.readouterr().err
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        result = sgd(Linear(3, squared), START, data, epochs=3, rng=0, progress=True)
        assert capsys.readouterr().err == f"{result}\n"
        sgd(Linear(3, squared), START, data, epochs=3, rng=0)
        assert capsys.readouterr().err == ""


class TestSchedules:
    def test_a_schedule_counts_minibatches_from_zero(self):
        data, _ = regression()
        asked = []

        def schedule(k):
            asked.append(k)
            return 0.01

        sgd(Linear(3, squared), START, data, epochs=2, batch_size=20, rng=0, step_size=schedule)
        assert asked == list(range(6))

    def test_the_cosine_falls_from_the_first_to_zero(self):
        schedule = cosine_decay(0.3, 200)
        steps = [schedule(k) for k in range(300)]
        assert steps[0] == 0.3
        assert steps[100] == pytest.approx(0.15, rel=1e-14)
        assert steps[50] == pytest.approx(0.15 * (1 + math.sqrt(0.5)), rel=1e-14)
        assert max(steps[200:]) == 0
        assert (np.diff(steps[:201]) < 0).all()

    def test_the_stairs(self):
        schedule = step_decay(1.0, every=10)
        assert [schedule(k) for k in (0, 9, 10, 19, 20)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


class TestNetworks:
    def test_an_mlp_learns_handwritten_digits(self):
        digits = pytest.importorskip("sklearn.datasets").load_digits()
        x, y = digits.data / 16, digits.target
        order = np.random.default_rng(0).permutation(len(y))
        train, test = order[:-360], order[-360:]
        network = mlp([64, 64, 10])
        steps = 30 * math.ceil(len(train) / 32)
        result = sgd(
            network,
            network.initial(np.random.default_rng(1)),
            {"x": x[train], "y": y[train]},
            epochs=30,
            rng=2,
            step_size=cosine_decay(0.003, steps),
        )
        z = network.forward({"x": x[test]}, result.theta, only=["output"])
        assert np.mean(z["output"].argmax(axis=1) == y[test]) >= 0.97
        assert result.history.cost[-1] < 0.1 < 1 < result.history.cost[0]

    def test_an_mlp_ends_at_the_parameters_of_pytorch(self):
        torch = pytest.importorskip("torch")
        rng = np.random.default_rng(0)
        data = {"x": rng.normal(size=(50, 5)), "y": rng.integers(3, size=50)}
        network = mlp([5, 8, 3])
        start = network.initial(rng)
        result = sgd(
            network, start, data, epochs=20, rng=4, batch_size=16, step_size=0.01, weight_decay=0.1
        )
        theta = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
        optimiser = torch.optim.AdamW(theta.values(), lr=0.01, weight_decay=0.1)
        for x, y in minibatches(data, 16, 20, 4):
            optimiser.zero_grad()
            h = torch.tanh(torch.tensor(x) @ theta["W1"] + theta["b1"])
            output = h @ theta["W2"] + theta["b2"]
            torch.nn.functional.cross_entropy(output, torch.tensor(y)).backward()
            optimiser.step()
        for name, value in theta.items():
            np.testing.assert_allclose(
                result.theta[name], value.detach().numpy(), rtol=1e-10, atol=1e-12
            )

    def test_a_divergence_names_the_node_and_one_remedy(self):
        data, _ = regression()
        network = mlp([3, 8, 1], "relu", loss="squared")
        start = network.initial(np.random.default_rng(0))
        result = sgd(
            network,
            start,
            data | {"y": data["y"][:, None]},
            epochs=1,
            batch_size=5,
            rng=0,
            method="plain",
            step_size=1e3,
        )
        assert result.status is Status.DIVERGED
        assert re.match(r"diverged in epoch 1 at step \d of 10: node '\w+' \(", result.message)
        assert "try" not in result.what
        assert result.remedy == "try a step_size smaller than 1000, or clip the gradients"

    def test_bad_data_is_an_error_and_no_divergence(self):
        network = mlp([2, 1], loss="squared")
        start = network.initial(np.random.default_rng(0))
        data = {"x": np.full((4, 2), math.nan), "y": np.zeros((4, 1))}
        with pytest.raises(NonFiniteError, match=r"data\['x'\]\[\d+, \d+\] is nan"):
            sgd(network, start, data, epochs=1, rng=0)


def call(**options):
    data, _ = regression(N=6)
    given = {"graph": Linear(3, squared), "theta": START, "data": data, "epochs": 1, "rng": 0}
    given |= options
    return sgd(given.pop("graph"), given.pop("theta"), given.pop("data"), **given)


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"method": "sgd"}, ArgumentError, "method is 'sgd', expected one of: plain, mom"),
            ({"epochs": 0}, ArgumentError, "epochs is 0, expected a whole number of at least 1"),
            ({"batch_size": 2.5}, ArgumentError, "batch_size is 2.5, expected a whole number"),
            (
                {"patience": 0, "validation": {"x": np.zeros((1, 3)), "y": [0]}},
                ArgumentError,
                "pat",
            ),
            ({"patience": 3}, ArgumentError, "there is no validation; pass validation="),
            ({"rng": None}, ArgumentError, "rng is None, expected a numpy.random.Generator or a"),
            ({"rng": True}, ArgumentError, "rng is True, expected"),
            ({"rng": -1}, ArgumentError, "rng is -1, expected"),
            (
                {"step_size": 0},
                ArgumentError,
                "step_size is 0, expected a positive number",
            ),
            (
                {"step_size": -0.1},
                ArgumentError,
                "step_size is -0.1, expected a positive number",
            ),
            ({"step_size": math.inf}, ArgumentError, "step_size is inf"),
            ({"step_size": "fast"}, DtypeError, "step_size is 'fast', expected a real number"),
            ({"step_size": [0.1, 0.2]}, DtypeError, "step_size is .*, expected a real number"),
            ({"step_size": lambda k: -k}, ArgumentError, r"step_size\(1\) is -1, expected"),
            ({"step_size": lambda k: math.nan}, ArgumentError, r"step_size\(0\) is nan"),
            (
                {"momentum": 1.0},
                ArgumentError,
                "momentum is 1.0, expected a number of at least 0 and below 1",
            ),
            ({"momentum": -0.1}, ArgumentError, "momentum is -0.1, expected"),
            ({"method": "plain", "momentum": 0.9}, ArgumentError, "but method='plain' has none"),
            ({"weight_decay": -1}, ArgumentError, "weight_decay is -1, expected"),
            ({"theta": {"W": [0, 0, math.nan], "b": 0}}, NonFiniteError, r"theta\[2\] is nan"),
            ({"data": [1, 2]}, ArgumentError, "data is of type list, expected Mapping"),
            ({"data": {}}, ShapeError, "data is empty, expected arrays of samples by name"),
        ],
    )
    def test_what_does_not_fit_is_refused_in_words(self, options, error, words):
        with pytest.raises(error, match=words):
            call(batch_size=options.pop("batch_size", 2), **options)

    @pytest.mark.parametrize("name", ["data", "validation"])
    @pytest.mark.parametrize(
        ("y", "shape"), [(np.zeros(5), r"\(5,\)"), (3.0, r"\(\)"), (np.zeros((0, 2)), r"\(0, 2\)")]
    )
    def test_arrays_of_unequal_length_are_named(self, name, y, shape):
        words = rf"{name} has the shapes {name}\['x'\] \(6, 3\), {name}\['y'\] {shape}, expected"
        with pytest.raises(ShapeError, match=words):
            call(**{name: {"x": np.zeros((6, 3)), "y": y}})

    def test_no_samples_are_refused(self):
        with pytest.raises(ShapeError, match=r"data\['x'\] \(0, 3\), data\['y'\] \(0,\), expected"):
            call(data={"x": np.zeros((0, 3)), "y": np.zeros(0)})

    def test_a_gradient_of_another_shape_is_refused(self):
        class Wrong(Linear):
            def objective(self, data):
                return Objective((4,), lambda z: (0.0, np.zeros(3)))

        with pytest.raises(ShapeError, match=r"gradient has shape \(3,\), expected \(4,\) as the"):
            call(graph=Wrong(3, squared))


def test_a_fit_that_is_exact_may_be_trained_on():
    """A start at rounding errors says nothing of what J may rise to in its first steps."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3))
    graph = mlp([3, 1], loss="squared")
    theta = {"W1": rng.normal(size=(3, 1)), "b1": np.zeros(1)}
    data = {"x": x, "y": x @ theta["W1"]}
    result = sgd(graph, theta, data, epochs=15, batch_size=20, rng=0)
    assert result.status is Status.MAX_ITER
