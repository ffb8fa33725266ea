"""Growth of gradients: norms over time, their law, and the digits that are lost over the horizon."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lqrad.arguments import EPS
from lqrad.figure import LEGEND, add_title, colors, new_axes
from lqrad.growth.digits import LostDigits
from lqrad.growth.gradient_growth import GradientGrowth
from lqrad.results import draw


def plot_growth(growth: GradientGrowth, *, ax: Axes | None = None) -> Axes:
    """Draw the norm of a gradient in each input, and the law k^degree rho^k that theory gives it.

    Vertical lines stand where, counted from the end, an open-loop gradient has lost its digits, and
    where it overflows.

    Parameters
    ----------
    growth : GradientGrowth
    ax : Axes, optional
        Where to draw; a new figure when not given.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import lqrad
    >>> ax = plot_growth(lqrad.gradient_growth([[1.5]], T=100))
    >>> ax.get_ylabel()
    '|d x[T] / d x[t+1]|'
    """
    ax = new_axes() if ax is None else ax
    dark, light = colors(2)
    t, T = np.arange(growth.T), growth.T
    measured = np.where(np.isfinite(growth.log_norms), growth.log_norms, np.nan) / math.log(10)
    ax.plot(t, measured, color=dark, label="measured", zorder=3)
    if math.isfinite(growth.predicted_rate):
        k = np.maximum(T - 1.0 - t, 1.0)
        law = growth.predicted_rate * k + (growth.predicted_degree or 0) * np.log(k)
        law /= math.log(10)
        label = f"predicted: {math.exp(growth.predicted_rate):.4g}" + r"$^k$"
        if growth.predicted_degree:
            label += f" $k^{growth.predicted_degree}$"
        label += ", k = T \N{MINUS SIGN} 1 \N{MINUS SIGN} t"
        if np.isfinite(measured - law).any():
            law += np.nanmedian(measured - law)
            ax.plot(t, law, "--", color=light, linewidth=1.2, label=label, zorder=4)
    ax.set_xlim(-0.02 * T, 1.02 * T)
    for horizon, words in (
        (growth.lost_horizon, "no digit left"),
        (growth.overflow_horizon, "overflow"),
    ):
        if horizon < T:
            above = horizon < T / 2  # next to the end, where the curve is low
            ax.axvline(T - horizon, color="0.6", linewidth=0.8, zorder=1)
            ax.annotate(
                words,
                (T - horizon, 0.97 if above else 0.03),
                xycoords=("data", "axes fraction"),
                xytext=(-2, 0),
                textcoords="offset points",
                rotation=90,
                ha="right",
                va="top" if above else "bottom",
                fontsize="small",
                color="0.35",
            )
    low, high = ax.get_ylim()
    if high - low < 2:  # no more than a factor of a hundred
        ax.set_ylim((low + high) / 2 - 1, (low + high) / 2 + 1)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda power, _: f"$10^{{{power:g}}}$"))
    ax.set_xlabel("step t")
    ax.set_ylabel(f"|{growth.quantity}|".replace("|gradient of", "|gradient in u[t] of"))
    ax.legend(loc="best", **LEGEND)
    add_title(ax, "growth of the gradient with the distance to the end")
    return ax


def plot_lost_digits(lost: LostDigits, *, ax: Axes | None = None) -> Axes:
    """Draw the error of the open-loop gradient at the optimum over the horizon, and its prediction.

    Parameters
    ----------
    lost : LostDigits
    ax : Axes, optional
        Where to draw; a new figure when not given.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import lqrad
    >>> problem = lqrad.LQProblem([[1.5]], [[1]], [[1]], [[1]])
    >>> ax = plot_lost_digits(lqrad.lost_digits(problem, [1.0]))
    >>> ax.get_yscale()
    'log'
    """
    ax = new_axes() if ax is None else ax
    dark, light = colors(2)
    T = lost.horizons
    seen = np.isfinite(lost.errors) & (lost.errors > 0)
    ax.plot(T[seen], lost.errors[seen], "o", color=dark, markersize=4, label="observed", zorder=3)
    law = lost.law / math.log(10)
    drawn = law < 300
    label = r"predicted: eps (growth over T)$^2$"
    ax.plot(T[drawn], 10 ** law[drawn], "--", color=light, label=label, zorder=4)
    ax.axhline(1.0, color="0.6", linewidth=0.8, zorder=1)
    ax.annotate(
        "no digit left",
        (0.99, 1.0),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        fontsize="small",
        color="0.35",
    )
    ax.set_yscale("log")
    ax.set_ylim(bottom=EPS / 10)
    ax.set_ylim(top=max(ax.get_ylim()[1], 1e2))
    ax.set_xlabel("horizon T")
    ax.set_ylabel("|gradient| at the optimum, relative")
    ax.legend(loc="upper left", **LEGEND)
    add_title(ax, "error of the open-loop gradient")
    return ax


draw.register(GradientGrowth, plot_growth)
draw.register(LostDigits, plot_lost_digits)
