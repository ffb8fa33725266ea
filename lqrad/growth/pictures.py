"""Growth of gradients: norms, digits, condition numbers, cures, powers and pseudospectra."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lqrad.arguments import EPS, Array
from lqrad.descent.pictures import add_gap, over_iterations
from lqrad.figure import GAP, NEW, Labels, add_note, add_title, colors, curves, panel, power, sheet
from lqrad.growth.blowup import Blowup
from lqrad.growth.conditioning import Conditioning, predicted_iterations
from lqrad.growth.cures import Cures
from lqrad.growth.digits import LostDigits
from lqrad.growth.gradient_growth import GradientGrowth
from lqrad.growth.nonnormality import Nonnormality, pseudospectrum
from lqrad.growth.remedies import Cure
from lqrad.results import draw

_DIGITS = -math.log10(EPS)
_MOST_DECADES = 24  # a larger condition number has the colour of this one
_INFINITE = 1000.0  # decades
_MOST_TICKS = 13
_MARKERS = {"gradient": "o", "conjugate-gradient": "s"}
_SIZE = GAP.replace("(", "|").replace(")", "|")
_CEILING = 1e250  # matplotlib's margins overflow above it
_FLOOR = 1e-16  # gaps that rounding hides are drawn here, norms below it not at all
_BEYOND = 1e3  # times the largest gap of a start, a gap is off the scale
_HEADROOM = 1e4  # a bound that is further above is out of sight
_LONG = 500  # steps; more of them are shown on a logarithmic axis
_POINTS = 50  # of half an axis of the plane
_MOST_LEVELS = 8


@panel
def plot_growth(growth: GradientGrowth, *, ax: Axes = NEW) -> None:
    """Draw the norm of a gradient in each input, and the law k^degree rho^k that theory gives it.

    Vertical lines stand where, counted from the end, an open-loop gradient has lost its digits, and
    where it overflows; what is earlier is shaded.
    """
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
    ends = {"no digit left": growth.lost_horizon, "overflow": growth.overflow_horizon}
    for words, horizon in ends.items():
        if horizon < T:
            above = horizon < T / 2  # next to the end, where the curve is low
            at, va = (T - horizon, 0.97 if above else 0.03), "top" if above else "bottom"
            ax.axvline(T - horizon, color="0.6", linewidth=0.8, zorder=1)
            ax.axvspan(-0.02 * T, T - horizon, color="0.94", zorder=0)
            along = {"xycoords": ("data", "axes fraction"), "xytext": (-2, 0), "rotation": 90}
            add_note(ax, words, at, ha="right", va=va, color="0.35", **along)
    low, high = ax.get_ylim()
    if high - low < 2:  # no more than a factor of a hundred
        ax.set_ylim((low + high) / 2 - 1, (low + high) / 2 + 1)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(power))
    ylabel = f"|{growth.quantity}|".replace("|gradient of", "|gradient in u[t] of")
    ax.set(xlabel="step t", ylabel=ylabel)
    add_title(ax, "growth of the gradient with the distance to the end")


@panel
def plot_lost_digits(lost: LostDigits, *, ax: Axes = NEW) -> None:
    """Draw the error of the open-loop gradient at the optimum over the horizon, and its prediction."""
    dark, light = colors(2)
    T = lost.horizons
    seen = np.isfinite(lost.errors) & (lost.errors > 0)
    ax.plot(T[seen], lost.errors[seen], "o", color=dark, markersize=4, label="observed", zorder=3)
    law = lost.law / math.log(10)
    drawn = law < 300
    label = r"predicted: eps $\Sigma$ growth$^2$"
    ax.plot(T[drawn], 10 ** law[drawn], "--", color=light, label=label, zorder=4)
    ax.axhline(1.0, color="0.6", linewidth=0.8, zorder=1)
    beside = {"xytext": (0, 3), "ha": "right", "color": "0.35"}
    add_note(ax, "no digit left", (0.99, 1.0), xycoords=("axes fraction", "data"), **beside)
    ax.set(xlabel="horizon T", ylabel="|gradient| at the optimum, relative", yscale="log")
    ax.set_ylim(bottom=EPS / 10)
    ax.set_ylim(top=max(ax.get_ylim()[1], 1e2))
    add_title(ax, "error of the open-loop gradient")


@panel
def plot_condition(conditioning: Conditioning, *, ax: Axes = NEW) -> None:
    """Draw the condition number of the Hessian over horizon and spectral radius.

    On the solid line it is 1/eps: beyond it no descent has a digit. The dashed line is the law
    rho^(2 T) = 1/eps. What failed, by overflow perhaps, is hatched.
    """
    T, columns = np.unique(conditioning.horizons, return_index=True)
    radii, rows = np.unique(conditioning.radii, return_index=True)
    decades = np.minimum(np.log10(conditioning.condition[np.ix_(rows, columns)]), _INFINITE)
    top = min(np.nanmax(decades, initial=1.0), _MOST_DECADES)
    across, up = _set_scale(ax, "x", T.astype(np.float64)), _set_scale(ax, "y", radii)
    mesh = ax.pcolormesh(across, up, decades, cmap="viridis", vmin=0.0, vmax=top)
    ax.patch.set(facecolor="white", edgecolor="0.6", hatch="///")
    extend = "max" if np.nanmax(decades, initial=0.0) > top else "neither"
    bar = ax.figure.colorbar(mesh, ax=ax, extend=extend)
    bar.set_label("condition number of the Hessian")
    bar.ax.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(power))
    title = "condition number"
    decades = np.where(np.isnan(decades), _INFINITE, decades)
    if min(decades.shape) > 1 and decades.min() < _DIGITS < decades.max():
        lines = ax.contour(T, radii, decades, levels=[_DIGITS], colors="white", linewidths=2.4)
        lines.set(path_effects=[withStroke(linewidth=3.6, foreground="black")])
        growing = np.linspace(1 + 1e-3, up[-1], 500)
        ax.plot(_DIGITS / (2 * np.log10(growing)), growing, "--", color="black", linewidth=1.2)
        title += r" 1/eps: measured (solid), law $\rho^{2T}$ (dashed)"
    ax.set(xlim=across[[0, -1]], ylim=up[[0, -1]], xlabel="horizon T")
    ax.set_ylabel("spectral radius of A")
    add_title(ax, title)


@panel
def plot_iterations(conditioning: Conditioning, *, ax: Axes = NEW) -> None:
    """Draw iterations against the condition number: predicted as lines, observed as markers.

    The line of conjugate gradients ends at the largest T m: where they have not met the tolerance
    before, they end there but for rounding errors.
    """
    kappa, observed = conditioning.condition, conditioning.observed
    seen = np.isfinite(list(observed.values())).any(axis=0)
    right = 3 * kappa[seen].max(initial=10.0)
    highest = max(np.nanmax(found, initial=10.0) for found in observed.values())
    curve = np.geomspace(1.0, right, 1000)
    finite = conditioning.horizons.max() * conditioning.problem.m
    for (method, found), color in zip(observed.items(), colors(3)[::2], strict=True):
        predicted = predicted_iterations(curve, conditioning.tol)[method]
        label = method
        if method == "conjugate-gradient":
            predicted, label = np.minimum(predicted, finite), f"{method} (at most T m)"
        ax.plot(curve, predicted, color=color, linewidth=1.2, zorder=1)
        (dots,) = ax.plot(kappa.ravel(), found.ravel(), _MARKERS[method], color=color, label=label)
        dots.set(markersize=4.5, markerfacecolor="none")
    ax.set(xscale="log", yscale="log", xlim=(0.8, right), ylim=(0.8, 5 * highest))
    ax.set_xlabel("condition number of the Hessian")
    ax.set_ylabel(f"iterations until the gap is {conditioning.tol:g} of its start")
    add_title(ax, "iterations: observed (markers), bounds (lines)")


@sheet(11, 4.8, 1, 2)
def plot_conditioning(panels: list[Axes], conditioning: Conditioning) -> str:
    """Draw the condition number over horizon and spectral radius, and iterations against it."""
    plot_condition(conditioning, ax=panels[0])
    plot_iterations(conditioning, ax=panels[1])
    return f"n = {conditioning.problem.n}, m = {conditioning.problem.m}"


def _set_scale(ax: Axes, name: Literal["x", "y"], values: Array) -> Array:
    """Prepare an axis for cells at these rising values: the edges at which the cells meet."""
    if values[0] > 0 and values[-1] >= 10 * values[0]:
        ax.set(**{f"{name}scale": "log"})
        edges = np.exp(_edges(np.log(values)))
    else:
        edges = np.maximum(_edges(values), 0.0)
    axis = ax.xaxis if name == "x" else ax.yaxis
    axis.set_major_locator(FixedLocator(values[:: math.ceil(len(values) / _MOST_TICKS)].tolist()))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return edges


def _edges(centres: Array) -> Array:
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.array([2 * centres[0] - middle[0], *middle, 2 * centres[-1] - middle[-1]])


@panel
def plot_cure_histories(study: Cures, *, ax: Axes = NEW) -> None:
    """Draw the gap of each remedy against its iterations; a dot where it converged, a cross if not.

    Of what does not descend, such as multiple shooting, only the end is drawn, with its name.
    """
    drawn = [cure for cure in study.cures if cure.began]
    ceiling = _ceiling(study)
    for cure, look in zip(drawn, curves(len(drawn)), strict=True):
        start, gaps = 0, cure.gaps
        if gaps is None:  # only its end is known
            start, gaps = cure.iterations, np.array([cure.gap])
            end = (start, max(abs(cure.gap), _FLOOR))
            add_note(ax, cure.name, end, xytext=(-7, -3), ha="right")
        gaps = np.clip(np.abs(gaps), _FLOOR, ceiling)
        converged = cure.status.converged
        add_gap(ax, gaps, converged=converged, start=start, label=_name(cure), **look)
    over_iterations(ax, 1.4 * max(2, *(cure.iterations for cure in drawn)))
    ax.set_ylabel(_SIZE)
    add_title(ax, "descent, with and without a cure")


@panel
def plot_cure_gaps(study: Cures, *, ax: Axes = NEW) -> None:
    """Draw what each remedy leaves of the gap, and its bias, from which no iteration takes it away.

    What diverged by far stands at the edge, with its number.
    """
    dark, light = colors(2)
    ceiling = _ceiling(study)
    for row, cure in enumerate(study.cures):
        gap = float(np.clip(abs(cure.gap), _FLOOR, ceiling))
        good = cure.status.converged
        ax.plot([_FLOOR, gap], [row, row], color="0.85", linewidth=1, zorder=1)
        ax.plot(gap, row, "o" if good else "X", color=dark, markersize=7, zorder=3)
        if abs(cure.gap) > ceiling:
            size = (
                power(round(math.log10(abs(cure.gap)))) if math.isfinite(cure.gap) else "infinite"
            )
            add_note(ax, size, (gap, row), xytext=(-8, 0), ha="right", va="center")
        if cure.bias:
            bias = float(np.clip(abs(cure.bias), _FLOOR, ceiling))
            ax.plot(bias, row, "D", color=light, markersize=10, markerfacecolor="none", zorder=2)
    ax.plot([], [], "o", color=dark, label="converged")
    ax.plot([], [], "X", color=dark, label="not converged")
    ax.plot([], [], "D", color=light, markerfacecolor="none", label="bias")
    ax.set_yticks(range(len(study.cures)), [_name(cure) for cure in study.cures])
    ax.set(xscale="log", xlim=(_FLOOR / 3, 3 * ceiling), ylim=(len(study.cures) - 0.5, -0.5))
    ax.set(xlabel=_SIZE, ylabel="cure")
    add_title(ax, "where each ends")


@sheet(13, 5.5, 1, 2)
def plot_cures(panels: list[Axes], study: Cures) -> str:
    """Draw both: the gaps by iteration, and where each remedy ends."""
    plot_cure_histories(study, ax=panels[0])
    plot_cure_gaps(study, ax=panels[1])
    return ""


@sheet(13, 10, 2, 2)
def plot_blowup(panels: list[Axes], study: Blowup, system: Labels | None = None) -> str:
    """Draw the growth of the gradient, the digits that it costs, and the cures.

    Parameters
    ----------
    system : System, optional
        Gives the figure its name.
    """
    plot_growth(study.growth, ax=panels[0])
    if study.digits is None:
        panels[1].set_axis_off()
    else:
        plot_lost_digits(study.digits, ax=panels[1])
    plot_cure_histories(study.cures, ax=panels[2])
    plot_cure_gaps(study.cures, ax=panels[3])
    problem, name = study.cures.problem, "" if system is None else f"{system.name}: "
    return f"{name}n = {problem.n}, m = {problem.m}, T = {study.growth.T}"


def _ceiling(study: Cures) -> float:
    """Where gaps end that are beyond all others: some decades above the starts, and what converged."""
    known = [cure.gaps[0] for cure in study.cures if cure.gaps is not None]
    known += [
        found for cure in study.cures if cure.status.converged for found in (cure.gap, cure.bias)
    ]
    sizes = np.abs(np.array(known, dtype=np.float64))
    return _BEYOND * float(sizes[sizes < _CEILING].max(initial=1.0))


def _name(cure: Cure) -> str:
    return f"{cure.name}, {cure.method}" if cure.name == "none" else cure.name


@panel
def plot_powers(nonnormality: Nonnormality, *, ax: Axes = NEW) -> None:
    """Draw |A^k| with its peak, its asymptotic rate, and the bounds K and e n K of the peak."""
    k, rho = nonnormality.k, nonnormality.spectral_radius
    with np.errstate(over="ignore"):
        rate = rho ** k.astype(np.float64)
    norms = _visible(nonnormality.norms)
    dark, middle, light = colors(3)
    ax.set_yscale("log")
    ax.plot(k, norms, color=dark, marker="." if len(k) <= 50 else "", label="|A$^k$|")
    ax.plot(k, _visible(rate), "--", color="0.5", label=rf"$\rho^k$, $\rho$ = {rho:.6g}")
    top = highest = float(np.nanmax(norms))
    if not nonnormality.unbounded:
        bound = np.e * nonnormality.n * nonnormality.kreiss_upper
        for height, color, name in [(bound, middle, "e n K"), (nonnormality.kreiss, light, "K")]:
            if height <= _CEILING:
                ax.axhline(height, color=color, linewidth=1.2, label=f"{name} = {height:.4g}")
                top = max(top, height)
    if nonnormality.peak_step is not None and nonnormality.peak <= _CEILING:
        name = "peak" if nonnormality.proven else "largest seen"
        label = f"{name} {nonnormality.peak:.4g} at k = {nonnormality.peak_step}"
        ax.plot([nonnormality.peak_step], [nonnormality.peak], "o", color=dark, label=label)
    ax.set_ylim(float(np.nanmin(norms)) / 2, 2 * min(top, _HEADROOM * highest))
    if k[-1] > _LONG:
        ax.set_xscale("symlog", linthresh=1, linscale=0.3)
        ax.set_xlim(0, 1.5 * k[-1])
    else:
        ax.set_xlim(-0.03 * k[-1], 1.03 * k[-1])
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="step k", ylabel="|A$^k$|")
    add_title(ax, "powers")


@panel
def plot_pseudospectra(nonnormality: Nonnormality, *, ax: Axes = NEW) -> None:
    """Draw contours of the smallest singular value of zI - A, the eigenvalues and the unit circle.

    A contour 10^-3 encloses every eigenvalue that a perturbation of A by 0.001 can bring about. What
    crosses the unit circle by far more than that makes a hump of the powers.
    """
    A, z = nonnormality.A, nonnormality.kreiss_point
    size = max(1.0, nonnormality.spectral_radius)
    marked = not nonnormality.unbounded and abs(z) <= 3 * size
    half = 1.3 * max(size, abs(z) if marked else 0.0)
    points = int(np.clip(_POINTS * np.sqrt(32 / nonnormality.n), 15, _POINTS))
    axis = half * np.arange(-points, points + 1) / points
    sigma = pseudospectrum(A, axis + 1j * axis[:, None])
    height = np.log10(np.maximum(sigma, np.finfo(float).tiny))
    levels = _levels(height)
    contours = ax.contour(axis, axis, height, levels=levels, colors=colors(len(levels)))
    ax.clabel(contours, fmt=_short_power, fontsize="small")
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 181))
    ax.plot(circle.real, circle.imag, "--", color="0.5", linewidth=1, label="unit circle")
    eigenvalues = np.linalg.eigvals(A)
    ax.plot(eigenvalues.real, eigenvalues.imag, ".", color="black", label="eigenvalues")
    if marked:
        (cross,) = ax.plot([z.real], [z.imag], "X", color="white", label="z of K")
        cross.set(markeredgecolor="black", markersize=8)
    ax.set(aspect="equal", xlabel="Re z", ylabel="Im z")
    add_title(ax, r"pseudospectra: $\sigma_{\min}(zI - A)$")


@sheet(11, 5, 1, 2)
def plot_nonnormality(panels: list[Axes], nonnormality: Nonnormality) -> str:
    """Draw the powers of A beside its pseudospectra."""
    plot_powers(nonnormality, ax=panels[0])
    plot_pseudospectra(nonnormality, ax=panels[1])
    return (
        f"n = {nonnormality.n}, spectral radius {nonnormality.spectral_radius:.6g}, "
        f"numerical radius {nonnormality.numerical_radius:.4g}, "
        f"departure from normality {nonnormality.departure:.4g}"
    )


def _visible(norms: Array) -> Array:
    return np.where((norms >= _FLOOR) & (norms <= _CEILING), norms, np.nan)


def _levels(height: Array) -> Array:
    """Logarithms of round numbers: 1, 2, 5 of each decade, or 1 of each so many decades.

    The deepest two in a hundred points are left out: pits around eigenvalues.
    """
    low, high = np.quantile(height, 0.02), height.max()
    decades = np.arange(np.floor(low), high + 1)
    fine = [np.add.outer(decades, np.log10(digits)).ravel() for digits in ((1, 2, 5), (1, 3))]
    for candidates in (*fine, *(decades[decades % step == 0] for step in (1, 2, 5, 10))):
        levels = np.asarray(candidates[(candidates >= low) & (candidates < high)])
        if len(levels) <= _MOST_LEVELS:
            break
    return levels


def _short_power(level: float) -> str:
    """10^level, as a short number."""
    return power(level) if abs(level) >= 3 and level % 1 == 0 else f"{10**level:.1g}"


draw.register(GradientGrowth, plot_growth)
draw.register(LostDigits, plot_lost_digits)
draw.register(Conditioning, plot_conditioning)
draw.register(Cures, plot_cures)
draw.register(Blowup, plot_blowup)
draw.register(Nonnormality, plot_nonnormality)
