"""Heat in rods and plates, and what a stream carries along, as problems of control.

    dT/dt = div(a grad T) - v . grad T + heating,      T the temperature above that of the surroundings

On equal cells of the width dx a state is the mean temperature of a cell, and what leaves a cell enters
its neighbour: the flux through the face between them is a (T - T') / dx, and through one at the boundary

    a (T - 0) / (dx/2)                  where the surroundings hold the face at their temperature
    0                                   where it is insulated
    (T - 0) / (dx / (2 a) + 1 / w)      where heat passes to the surroundings at the velocity w

In time it is the theta method, E = I - theta dt L, F = I + (1 - theta) dt L, G = dt B: implicit Euler
for theta = 1, Crank and Nicolson's for 1/2, explicit Euler for 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from lqrad.arguments import (
    Array,
    check_choice,
    check_count,
    check_finite,
    check_items,
    check_number,
    check_shape,
    frozen_array,
    real_array,
    renamed,
    shape_message,
)
from lqrad.errors import ArgumentError, ShapeError
from lqrad.lq.example import Example
from lqrad.pde.problem import SparseLQProblem
from lqrad.pde.volumes import Boundary, boundary, diffusion, patches

SCHEMES = {"implicit-euler": 1.0, "crank-nicolson": 0.5, "explicit-euler": 0.0}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class HeatSystem(Example):
    """A body in cells, its heaters, and temperatures that it should take.

    Attributes
    ----------
    name, x0, T, dt, source
        As of `lqrad.lq.example.Example`; x0 (n,) are temperatures in K.
    shape, lengths : tuples
        Cells and metres along each axis; a state (n,) is a field of this shape, row by row.
    L, B : (n, n), (n, m) sparse
        dT/dt = L T + B u, in 1/s, and in K/s that one unit of each input adds to each cell.
    scheme : str
        "implicit-euler", "crank-nicolson" or "explicit-euler".
    target : (n,)
        Where the temperature should be, K.
    observed : (n,)
        How much the temperature of each cell counts: 1, or 0 where it is not looked at.
    input_weight : float
        What u^2 costs, summed over the inputs, against (T - target)^2, integrated over the body;
        both integrated over time.

    Examples
    --------
    A rod of which only the left half is looked at:

    >>> from dataclasses import replace
    >>> rod = heat_rod(4)
    >>> half = replace(rod, observed=np.array([1.0, 1.0, 0.0, 0.0]))
    >>> half.problem().Q
    array([2.5, 2.5, 0. , 0. ])
    """

    shape: tuple[int, ...]
    lengths: tuple[float, ...]
    L: Any
    B: Any
    scheme: str
    target: Array
    observed: Array
    input_weight: float
    _arrays = ("x0", "target", "observed")

    @property
    def n(self) -> int:
        """Number of cells."""
        return math.prod(self.shape)

    @property
    def m(self) -> int:
        """Number of inputs."""
        return int(self.B.shape[1])

    def _sizes(self) -> str:
        return f"{' x '.join(map(str, self.shape))} cells, m={self.m}"

    def coordinates(self) -> tuple[Array, ...]:
        """Return the middles of the cells along each axis, in metres.

        Examples
        --------
        >>> heat_rod(4, length=2.0).coordinates()
        (array([0.25, 0.75, 1.25, 1.75]),)
        """
        pairs = zip(self.shape, self.lengths, strict=True)
        return tuple((np.arange(count) + 0.5) / count * length for count, length in pairs)

    def field(self, x: ArrayLike) -> Array:
        """Return states (..., n) as fields (..., *shape).

        Examples
        --------
        >>> heat_plate((2, 3), heaters=(1, 1)).field(np.arange(6.0))
        array([[0., 1., 2.],
               [3., 4., 5.]])
        """
        x = real_array("x", x)
        if x.ndim == 0 or x.shape[-1] != self.n:
            raise ShapeError(shape_message("x", x.shape, f"(..., n) with n = {self.n}", ""))
        check_finite("x", x)
        return x.reshape(*x.shape[:-1], *self.shape)

    def matrices(self) -> tuple[Any, Any, Any]:
        """Return E, F and G of the time steps."""
        theta, unit = SCHEMES[self.scheme], sp.eye_array(self.n, format="csc")
        E = None if theta == 0 else (unit - theta * self.dt * self.L).tocsc()
        return E, (unit + (1 - theta) * self.dt * self.L).tocsr(), (self.dt * self.B).tocsr()

    def problem(self, x_ref: ArrayLike | None = None) -> SparseLQProblem:
        """Return the problem of reaching the target, or a reference (n,) or (T+1, n), at least cost.

        The stage costs are integrals over body and time, so that they do not depend on the cells and
        the step; the final temperature counts as much as a tenth of the horizon does.

        Examples
        --------
        >>> heat_rod(50).problem()
        SparseLQProblem(n=50, m=2, time-invariant, with q, s)
        """
        cell = math.prod(self.lengths) / self.n
        Q = cell * self.dt * self.observed
        R = np.full(self.m, self.input_weight * self.dt)
        S = Q * self.T / 10
        reference = self.target if x_ref is None else x_ref
        return SparseLQProblem.tracking(*self.matrices(), Q, R, S, reference)


@renamed(horizon="T")
def heat_rod(
    cells: int = 100,
    *,
    length: float = 1.0,
    diffusivity: float = 1.17e-4,
    left: Boundary = "insulated",
    right: Boundary = "insulated",
    actuators: str = "ends",
    heaters: int = 4,
    dt: float = 10.0,
    T: int = 200,
    scheme: str = "implicit-euler",
    input_weight: float = 1.0,
) -> HeatSystem:
    """A copper rod, to be brought to a temperature that rises along it.

    Parameters
    ----------
    cells, length, diffusivity
        Number of cells, m, and m^2/s: copper's when not given.
    left, right : "held", "insulated" or float
        The ends: held at the temperature of the surroundings, insulated, or a transfer velocity in
        m/s, that is, the heat transfer coefficient over density times heat capacity.
    actuators : "ends" or "distributed"
        Heat that enters through the two ends, or `heaters` equal pieces that are heated evenly.
    heaters : int
    dt, T, scheme, input_weight
        As of `HeatSystem`.

    Returns
    -------
    HeatSystem
        Inputs are K/s in a heated piece, and at an end K m/s, the flux over density times capacity.

    Raises
    ------
    ArgumentError
        If explicit Euler is unstable at this dt; names the largest stable one.

    See Also
    --------
    heat_plate, advection_diffusion : two dimensions, and a stream.

    References
    ----------
    LeVeque, Finite Volume Methods for Hyperbolic Problems, 2002, section 4.2 (finite volumes).
    Incropera and DeWitt, Fundamentals of Heat and Mass Transfer, 6th edition, 2007, table A.1.

    Examples
    --------
    >>> rod = heat_rod(100)
    >>> rod
    <HeatSystem heat-rod: 100 cells, m=2, dt=10 s, T=200>
    >>> float(abs(rod.L.sum(axis=0)).max()) < 1e-12  # insulated: what leaves a cell enters another
    True
    """
    cells, length = check_count("cells", cells, least=2), check_number("length", length, above=0)
    ends = boundary("left", left), boundary("right", right)
    L = diffusion((cells,), (length,), diffusivity, [ends])
    check_choice("actuators", actuators, ("ends", "distributed"))
    if actuators == "ends":
        B = sp.csr_array(([cells / length] * 2, ([0, cells - 1], [0, 1])), shape=(cells, 2))
    else:
        B = patches((cells,), (check_count("heaters", heaters),))
    middles = (np.arange(cells) + 0.5) / cells
    return _system(
        name="heat-rod",
        shape=(cells,),
        lengths=(length,),
        L=L,
        B=B,
        dt=dt,
        scheme=scheme,
        T=T,
        target=1.0 + middles,
        input_weight=input_weight,
        source="copper: Incropera and DeWitt (2007), table A.1",
    )


@renamed(horizon="T")
def heat_plate(
    shape: tuple[int, int] = (100, 100),
    *,
    lengths: tuple[float, float] = (1.0, 1.0),
    diffusivity: float = 9.7e-5,
    sides: tuple[tuple[Boundary, Boundary], tuple[Boundary, Boundary]] = (
        ("held", "held"),
        ("held", "held"),
    ),
    heaters: tuple[int, int] = (5, 5),
    dt: float = 5.0,
    T: int = 200,
    scheme: str = "implicit-euler",
    input_weight: float = 1.0,
) -> HeatSystem:
    """An aluminium plate over a grid of heaters, to take a temperature with a ridge across.

    Parameters
    ----------
    shape, lengths : pairs
        Cells and metres along y and x.
    diffusivity : float
        m^2/s; aluminium's when not given.
    sides : pairs of boundaries
        ((bottom, top), (left, right)), each as of `heat_rod`.
    heaters : (int, int)
        Rows and columns of equal rectangles, each heated evenly.
    dt, T, scheme, input_weight
        As of `HeatSystem`.

    Returns
    -------
    HeatSystem
        Inputs are K/s in each rectangle, row by row.

    See Also
    --------
    heat_rod : one dimension.
    advection_diffusion : with a stream.
    invert : finds a start or a source from sensors.

    Examples
    --------
    >>> heat_plate((30, 40))
    <HeatSystem heat-plate: 30 x 40 cells, m=25, dt=5 s, T=200>
    """
    given = {"shape": shape, "lengths": lengths, "heaters": heaters, "sides": sides}
    for name, value in given.items():
        if len(check_items(name, value, "two")) != 2:
            raise ArgumentError(f"{name} is {value!r}, expected two: along y and x")
    cells = tuple(check_count(f"shape[{i}]", count, least=2) for i, count in enumerate(shape))
    grid = tuple(check_count(f"heaters[{i}]", count) for i, count in enumerate(heaters))
    metres = tuple(check_number(f"lengths[{i}]", z, above=0) for i, z in enumerate(lengths))
    boundaries = []
    for i, pair in enumerate(sides):
        first, last = check_items(f"sides[{i}]", pair, "two boundaries")
        boundaries.append((boundary(f"sides[{i}]", first), boundary(f"sides[{i}]", last)))
    L = diffusion(cells, metres, diffusivity, boundaries)
    y, x = ((np.arange(count) + 0.5) / count for count in cells)
    bump = np.sin(np.pi * y)[:, None] * np.sin(np.pi * x)[None]
    ridge = np.exp(-(((y[:, None] - 0.3 - 0.4 * x[None]) / 0.15) ** 2))
    return _system(
        name="heat-plate",
        shape=cells,
        lengths=metres,
        L=L,
        B=patches(cells, grid),
        dt=dt,
        scheme=scheme,
        T=T,
        target=(bump * (1 + 2 * ridge)).ravel(),
        input_weight=input_weight,
        source="aluminium: Incropera and DeWitt (2007), table A.1",
    )


@renamed(horizon="T")
def advection_diffusion(
    cells: int = 100,
    *,
    length: float = 1.0,
    velocity: float = 0.01,
    diffusivity: float = 1e-4,
    heaters: int = 4,
    dt: float = 1.0,
    T: int = 200,
    scheme: str = "implicit-euler",
    input_weight: float = 1.0,
) -> HeatSystem:
    """A stream through a heated pipe: what flows in is cold, what flows out takes its heat along.

    Differences are taken upwind, so that no new extremum arises; they add |velocity| dx / 2 to the
    diffusivity. The matrix is far from normal: powers of the time step rise before they fall, which
    `lqrad.nonnormality` tells of.

    Parameters
    ----------
    cells, length, diffusivity, heaters, dt, T, scheme, input_weight
        As of `heat_rod`.
    velocity : float
        m/s, positive to the right.

    See Also
    --------
    heat_rod, heat_plate : without a stream.

    References
    ----------
    Trefethen and Embree, Spectra and Pseudospectra, 2005, chapter 12 (advection-diffusion).

    Examples
    --------
    >>> advection_diffusion(50)
    <HeatSystem advection-diffusion: 50 cells, m=4, dt=1 s, T=200>
    """
    cells, length = check_count("cells", cells, least=2), check_number("length", length, above=0)
    velocity = check_number("velocity", velocity, least=0)
    L = diffusion((cells,), (length,), diffusivity, (("held", "insulated"),))
    rate = velocity * cells / length
    check_finite("velocity * cells / length", np.asarray(rate), computed=True)
    upwind = sp.diags_array([rate, -rate], offsets=[-1, 0], shape=(cells, cells))
    return _system(
        name="advection-diffusion",
        shape=(cells,),
        lengths=(length,),
        L=(L + upwind).tocsr(),
        B=patches((cells,), (check_count("heaters", heaters),)),
        dt=dt,
        scheme=scheme,
        T=T,
        target=np.ones(cells),
        input_weight=input_weight,
        source="LeVeque (2002), section 4.2, upwind",
    )


def _system(
    *,
    L: Any,
    dt: float,
    scheme: str,
    T: int,
    target: Array,
    shape: tuple[int, ...],
    input_weight: float,
    **rest: Any,
) -> HeatSystem:
    check_choice("scheme", scheme, SCHEMES)
    dt = check_number("dt", dt, above=0)
    if scheme == "explicit-euler":
        # Gershgorin: no eigenvalue of L is farther to the left than this.
        limit = 2 / float((abs(L).sum(axis=1)).max())
        if dt > limit:
            raise ArgumentError(
                f"dt is {dt:g} s, and explicit Euler is stable up to {limit:.4g} s on these cells "
                "(the condition of Courant, Friedrichs and Lewy)",
                "take a smaller dt, fewer cells, or scheme='implicit-euler'",
            )
    n = math.prod(shape)
    target = frozen_array("target", target)
    check_shape("target", target, (n,), "one for each cell")
    return HeatSystem(
        L=L,
        dt=dt,
        scheme=scheme,
        T=check_count("T", T),
        input_weight=check_number("input_weight", input_weight, least=0),
        shape=shape,
        x0=np.zeros(n),
        target=target,
        observed=np.ones(n),
        **rest,
    )
