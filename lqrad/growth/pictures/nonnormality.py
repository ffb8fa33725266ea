"""Powers and pseudospectra: the hump of |A^k|, and where the resolvent foretells it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lqrad.arguments import Array
from lqrad.figure import LEGEND, add_title, colors, new_axes, new_figure
from lqrad.growth.nonnormality import Nonnormality, pseudospectrum
from lqrad.results import draw

_CEILING = 1e250  # matplotlib's margins overflow above it
_FLOOR = 1e-16  # a norm below this is of no interest
_HEADROOM = 1e4  # a bound that is further above is out of sight
_LONG = 500  # steps; more of them are shown on a logarithmic axis
_POINTS = 50  # of half an axis of the plane
_MOST_LEVELS = 8


def plot_powers(nonnormality: Nonnormality, *, ax: Axes | None = None) -> Axes:
    """Draw |A^k| with its peak, its asymptotic rate, and the bounds K and e n K of the peak.

    Parameters
    ----------
    nonnormality : Nonnormality
    ax : Axes, optional
        Where to draw; a new figure when not given.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import lqrad
    >>> study = lqrad.growth.nonnormality([[0.9, 10.0], [0.0, 0.8]])
    >>> ax = plot_powers(study)
    >>> ax.get_yscale(), ax.get_ylabel()
    ('log', '|A$^k$|')
    """
    ax = new_axes() if ax is None else ax
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
    ax.set_xlabel("step k")
    ax.set_ylabel("|A$^k$|")
    _legend_above(ax)
    add_title(ax, "powers", above=2)
    return ax


def plot_pseudospectra(nonnormality: Nonnormality, *, ax: Axes | None = None) -> Axes:
    """Draw contours of the smallest singular value of zI - A, the eigenvalues and the unit circle.

    A contour 10^-3 encloses every eigenvalue that a perturbation of A by 0.001 can bring about. What
    crosses the unit circle by far more than that makes a hump of the powers.

    Parameters
    ----------
    nonnormality : Nonnormality
    ax : Axes, optional
        Where to draw; a new figure when not given.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import lqrad
    >>> study = lqrad.growth.nonnormality([[0.9, 10.0], [0.0, 0.8]])
    >>> ax = plot_pseudospectra(study)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('Re z', 'Im z')
    """
    ax = new_axes() if ax is None else ax
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
    ax.clabel(contours, fmt=_power, fontsize="small")
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 181))
    ax.plot(circle.real, circle.imag, "--", color="0.5", linewidth=1, label="unit circle")
    eigenvalues = np.linalg.eigvals(A)
    ax.plot(eigenvalues.real, eigenvalues.imag, ".", color="black", label="eigenvalues")
    if marked:
        (cross,) = ax.plot([z.real], [z.imag], "X", color="white", label="z of K")
        cross.set(markeredgecolor="black", markersize=8)
    ax.set_aspect("equal")
    ax.set_xlabel("Re z")
    ax.set_ylabel("Im z")
    _legend_above(ax)
    add_title(ax, r"pseudospectra: $\sigma_{\min}(zI - A)$", above=1)
    return ax


def plot_nonnormality(nonnormality: Nonnormality) -> Figure:
    """Draw the powers of A beside its pseudospectra.

    Parameters
    ----------
    nonnormality : Nonnormality

    Returns
    -------
    Figure

    Examples
    --------
    >>> import lqrad
    >>> study = lqrad.growth.nonnormality([[0.9, 10.0], [0.0, 0.8]])
    >>> len(plot_nonnormality(study).axes)
    2
    """
    figure = new_figure(11, 5)
    figure.suptitle(
        f"n = {nonnormality.n}, spectral radius {nonnormality.spectral_radius:.6g}, "
        f"numerical radius {nonnormality.numerical_radius:.4g}, "
        f"departure from normality {nonnormality.departure:.4g}"
    )
    left, right = figure.subplots(1, 2)
    plot_powers(nonnormality, ax=left)
    left.spines[["top", "right"]].set_visible(False)
    plot_pseudospectra(nonnormality, ax=right)
    return figure


def _visible(norms: Array) -> Array:
    return np.where((norms >= _FLOOR) & (norms <= _CEILING), norms, np.nan)


def _legend_above(ax: Axes) -> None:
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=3,
        borderaxespad=0.1,
        borderpad=0.1,
        **LEGEND,
    )


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


def _power(level: float) -> str:
    """10^level, as a short number."""
    return f"$10^{{{level:g}}}$" if abs(level) >= 3 and level % 1 == 0 else f"{10**level:.1g}"


draw.register(Nonnormality, plot_nonnormality)
