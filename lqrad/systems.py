"""Named example systems: plants with units, a source, weights and an initial state.

Each physical one starts as dx/dt = F x + G u, linearised about an equilibrium, and is sampled every
dt seconds with its inputs held constant in between (zero-order hold), which is exact:

    x[t+1] = A x[t] + B u[t],    A = exp(F dt),    B = (integral over s = 0 ... dt of exp(F s)) G

The weights follow Bryson's rule: Q and R are diagonal, with one over the square of the deviation
that is still acceptable in that state or input, and S = Q. Where the dynamics are from is the
`source` of each plant; the acceptable deviations, the initial states and the horizons are our choice.
Parameters are positive numbers; those that may be zero say so.

References
----------
Bryson and Ho, Applied Optimal Control, Hemisphere, 1975 (the rule for the weights).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lqrad.arguments import (
    Array,
    check_count,
    check_generator,
    check_number,
    check_numbers,
    check_room,
    check_shape,
    frozen_array,
    steps_in,
)
from lqrad.design.sampling import discretise
from lqrad.errors import ArgumentError
from lqrad.lq.example import Plant, columns
from lqrad.lq.problem import LQProblem


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class System(Plant):
    """A discrete-time system x[t+1] = A x[t] + B u[t], and a task for a controller of it.

    Parameters
    ----------
    A, B : (n, n), (n, m)
        State and input matrix.
    Q, R, S : (n, n), (m, m), (n, n)
        Weights of the states, of the inputs and of the final state.
    x0, T, dt, name, source, state_names, input_names, state_units, input_units
        As of `Plant`: the task is to bring x0 to zero.

    Examples
    --------
    >>> system = inverted_pendulum()
    >>> system
    <System inverted-pendulum: n=4, m=1, dt=0.02 s, T=100>
    >>> for name, unit in zip(system.state_names, system.state_units):
    ...     print(f"{name} [{unit}]")
    cart position [m]
    cart velocity [m/s]
    pendulum angle [rad]
    pendulum rate [rad/s]

    Other weights, the same plant:

    >>> from dataclasses import replace
    >>> calm = replace(system, R=100 * system.R)
    >>> calm.problem().R
    array([[4.]])
    """

    A: Array
    B: Array
    Q: Array
    R: Array
    S: Array
    _arrays = ("A", "B", "Q", "R", "S", "x0")

    def problem(self) -> LQProblem:
        """The linear-quadratic problem of these matrices.

        Examples
        --------
        >>> problem = double_integrator().problem()
        >>> problem.n, problem.m
        (2, 1)
        """
        return LQProblem(self.A, self.B, self.Q, self.R, self.S)


def double_integrator(*, dt: float = 0.1) -> System:
    """A mass of 1 kg pushed along a line: d2y/dt2 = u.

    Parameters
    ----------
    dt : float
        Sampling time in seconds.

    Examples
    --------
    >>> system = double_integrator(dt=0.5)
    >>> system.A
    array([[1. , 0.5],
           [0. , 1. ]])
    >>> system.B
    array([[0.125],
           [0.5  ]])
    """
    return _sampled(
        "double-integrator",
        F=[[0.0, 1.0], [0.0, 0.0]],
        G=[[0.0], [1.0]],
        dt=dt,
        states=[("position", "m", 1.0), ("velocity", "m/s", 1.0)],
        inputs=[("force", "N", 1.0)],
        x0=[1.0, 0.0],
        T=50,
        source="Rao and Bernstein, Naive control of the double integrator, "
        "IEEE Control Systems Magazine 21(5), 2001, pp. 86-97",
    )


def inverted_pendulum(
    *,
    cart_mass: float = 0.5,
    pendulum_mass: float = 0.2,
    length: float = 0.3,
    inertia: float = 0.006,
    friction: float = 0.1,
    gravity: float = 9.8,
    dt: float = 0.02,
) -> System:
    """A pendulum balanced on a cart that is pushed along a line, linearised about the upright.

    With y the cart's position and a the angle from the upright, positive where the tip leans
    towards negative y (the cart is to be pushed under it),

        (cart_mass + pendulum_mass) y'' + friction y' - pendulum_mass length a'' = u
        (inertia + pendulum_mass length^2) a'' = pendulum_mass length (gravity a + y'')

    which is unstable: with the default numbers a small tilt grows as exp(5.57 t).

    Parameters
    ----------
    cart_mass, pendulum_mass : float
        Masses in kg.
    length : float
        Distance from the pivot to the pendulum's centre of mass, in m.
    inertia : float
        Moment of inertia of the pendulum about its centre of mass, in kg m^2; it may be zero.
    friction : float
        Viscous friction of the cart, in N s/m; it may be zero.
    gravity, dt : float
        Gravitational acceleration in m/s^2, sampling time in seconds.

    Examples
    --------
    >>> system = inverted_pendulum()
    >>> rates = np.log(np.linalg.eigvals(system.A)) / system.dt
    >>> print(f"{rates.max():.3f} per second")
    5.565 per second
    """
    cart_mass, pendulum_mass, length, gravity = check_numbers(
        above=0, cart_mass=cart_mass, pendulum_mass=pendulum_mass, length=length, gravity=gravity
    )
    inertia, friction = check_numbers(least=0, inertia=inertia, friction=friction)
    moment = pendulum_mass * length
    # Both equations of motion as `masses` @ (y'', a'') = rest, solved for the accelerations.
    masses = [
        [cart_mass + pendulum_mass, -moment],
        [-moment, inertia + moment * length],
    ]
    rest = [[0.0, -friction, 0.0, 0.0, 1.0], [0.0, 0.0, moment * gravity, 0.0, 0.0]]
    try:
        y, a = np.linalg.solve(masses, rest)
    except np.linalg.LinAlgError:
        raise ArgumentError(
            f"cart_mass is {cart_mass:g}, pendulum_mass {pendulum_mass:g}, length {length:g} and "
            f"inertia {inertia:g}: beside the largest of these, the others are lost to rounding"
        ) from None
    return _sampled(
        "inverted-pendulum",
        F=[[0.0, 1.0, 0.0, 0.0], y[:4], [0.0, 0.0, 0.0, 1.0], a[:4]],
        G=[[0.0], y[4:], [0.0], a[4:]],
        dt=dt,
        states=[
            ("cart position", "m", 0.2),
            ("cart velocity", "m/s", 1.0),
            ("pendulum angle", "rad", 0.2),
            ("pendulum rate", "rad/s", 1.0),
        ],
        inputs=[("force", "N", 5.0)],
        x0=[0.3, 0.0, 0.1, 0.0],
        T=100,
        source="Control Tutorials for MATLAB and Simulink, University of Michigan and "
        "Carnegie Mellon University, Inverted Pendulum: System Modeling",
    )


def mass_spring_chain(
    masses: int = 6,
    *,
    mass: float = 1.0,
    stiffness: float = 1.0,
    damping: float = 0.1,
    dt: float = 0.5,
) -> System:
    """Equal masses in a row between two walls, with a spring and a damper in every gap.

    With y[0] = y[N+1] = 0 at the walls, the mass j = 1 ... N obeys

        mass y''[j] = stiffness (y[j-1] - 2 y[j] + y[j+1])
                      + damping (y'[j-1] - 2 y'[j] + y'[j+1]) + (u if j = 1, else 0)

    so that one force at one end has to quieten the whole chain. The states are the N displacements
    and then the N velocities.

    Parameters
    ----------
    masses : int
        The number N of masses.
    mass : float
        Each mass in kg.
    stiffness : float
        Stiffness of each of the N + 1 springs, in N/m.
    damping : float
        Coefficient of each of the N + 1 dampers, in N s/m; it may be zero.
    dt : float
        Sampling time in seconds.

    Examples
    --------
    >>> mass_spring_chain(50)
    <System mass-spring-chain: n=100, m=1, dt=0.5 s, T=500>
    """
    N = check_count("masses", masses)
    check_room(f"matrices of {N} masses", 2 * N, 2 * N)
    mass, stiffness, dt = check_numbers(above=0, mass=mass, stiffness=stiffness, dt=dt)
    damping = check_number("damping", damping, least=0)
    with np.errstate(over="ignore"):  # looked for by the sampling
        coupling = (2 * np.eye(N) - np.eye(N, k=1) - np.eye(N, k=-1)) / mass
        pull = np.hstack([-stiffness * coupling, -damping * coupling])
    F = np.vstack([np.eye(N, 2 * N, k=N), pull])
    G = np.zeros((2 * N, 1))
    G[N] = 1 / mass
    x0 = np.zeros(2 * N)
    x0[N - 1] = 1.0
    # Time for a long wave, sqrt(stiffness / mass) masses per second, to run along it five times.
    T = math.ceil(steps_in(5 * N * math.sqrt(mass / stiffness), dt))
    places = range(1, N + 1)
    return _sampled(
        "mass-spring-chain",
        F=F,
        G=G,
        dt=dt,
        states=[(f"displacement {j}", "m", 1.0) for j in places]
        + [(f"velocity {j}", "m/s", 1.0) for j in places],
        inputs=[("force on mass 1", "N", 1.0)],
        x0=x0,
        T=T,
        source="after Wang and Boyd, Fast model predictive control using online optimization, "
        "IEEE Transactions on Control Systems Technology 18(2), 2010, pp. 267-278, with dampers",
    )


def aircraft(*, dt: float = 0.5) -> System:
    """The longitudinal motion of a Boeing 747 in level flight at 40,000 ft and 774 ft/s.

    Small deviations from level flight, in feet, seconds and centiradians (1 crad = 0.01 rad). It
    has two oscillations: the short period, of 7 s and well damped, and the phugoid, a slow exchange
    of speed for height that takes 93 s and hardly dies out.

    Parameters
    ----------
    dt : float
        Sampling time in seconds.

    Examples
    --------
    >>> system = aircraft()
    >>> rates = np.log(np.linalg.eigvals(system.A)) / system.dt
    >>> print(np.sort_complex(rates).round(4))
    [-0.375 -0.8818j -0.375 +0.8818j -0.0005-0.0674j -0.0005+0.0674j]
    """
    return _sampled(
        "aircraft",
        F=[
            [-0.003, 0.039, 0.0, -0.322],
            [-0.065, -0.319, 7.74, 0.0],
            [0.020, -0.101, -0.429, 0.0],
            [0.0, 0.0, 1.0, 0.0],
        ],
        G=[[0.01, 1.0], [-0.18, -0.04], [-1.16, 0.598], [0.0, 0.0]],
        dt=dt,
        states=[
            ("forward speed", "ft/s", 5.0),
            ("downward speed", "ft/s", 10.0),
            ("pitch rate", "crad/s", 2.0),
            ("pitch angle", "crad", 5.0),
        ],
        # One unit of thrust is what accelerates the aircraft forward by 1 ft/s^2.
        inputs=[("elevator", "crad", 2.0), ("thrust", "ft/s^2", 2.0)],
        x0=[10.0, 0.0, 0.0, 5.0],
        T=80,
        source="Bryson, Control of Spacecraft and Aircraft, Princeton University Press, 1994, "
        "p. 151, as printed in Boyd, EE263 lecture notes, Stanford University",
    )


def quadrotor(
    *,
    mass: float = 0.028,
    inertia: ArrayLike = (16.571710e-6, 16.655602e-6, 29.261652e-6),
    gravity: float = 9.81,
    dt: float = 0.05,
) -> System:
    """A quadrotor about hover: position, velocity, attitude and body rates, by thrust and moments.

    To first order in the roll, pitch and yaw angles (Z-Y-X Euler angles; x forward, y left, z up),

        position' = velocity         velocity' = (gravity pitch, -gravity roll, thrust / mass)
        angles'   = rates            rates'    = moments / inertia

    where the thrust is what is added to that of hover. Moments are in mN m, so that all inputs are
    of one order of magnitude.

    Parameters
    ----------
    mass : float
        Mass in kg.
    inertia : (3,)
        Principal moments of inertia about the x, y and z axes, in kg m^2; the small products of
        inertia of the source are left out.
    gravity, dt : float
        Gravitational acceleration in m/s^2, sampling time in seconds.

    Examples
    --------
    >>> system = quadrotor()
    >>> system
    <System quadrotor: n=12, m=4, dt=0.05 s, T=60>
    >>> system.input_names
    ('thrust', 'roll moment', 'pitch moment', 'yaw moment')
    """
    J = frozen_array("inertia", inertia)
    check_shape("inertia", J, (3,), "for the x, y and z axes")
    mass, gravity = check_numbers(above=0, mass=mass, gravity=gravity)
    check_numbers(above=0, **{f"inertia[{i}]": J[i] for i in range(3)})
    position, velocity, angles, rates = (slice(start, start + 3) for start in (0, 3, 6, 9))
    F = np.zeros((12, 12))
    F[position, velocity] = np.eye(3)
    F[velocity, angles] = [[0.0, gravity, 0.0], [-gravity, 0.0, 0.0], [0.0, 0.0, 0.0]]
    F[angles, rates] = np.eye(3)
    G = np.zeros((12, 4))
    G[5, 0] = 1 / mass
    G[rates, 1:] = np.diag(1e-3 / J)
    return _sampled(
        "quadrotor",
        F=F,
        G=G,
        dt=dt,
        states=[(f"position {axis}", "m", 0.5) for axis in "xyz"]
        + [(f"velocity {axis}", "m/s", 1.0) for axis in "xyz"]
        + [("roll", "rad", 0.2), ("pitch", "rad", 0.2), ("yaw", "rad", 0.3)]
        + [(f"{axis} rate", "rad/s", 2.0) for axis in ("roll", "pitch", "yaw")],
        inputs=[("thrust", "N", 0.1)]
        + [(f"{axis} moment", "mN m", 0.1) for axis in ("roll", "pitch", "yaw")],
        x0=[1.0, -1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0],
        T=60,
        source="Mahony, Kumar and Corke, Multirotor aerial vehicles, IEEE Robotics and Automation "
        "Magazine 19(3), 2012, pp. 20-32, with the mass and inertia of Foerster, System "
        "Identification of the Crazyflie 2.0 Nano Quadrocopter, ETH Zurich, 2015",
    )


def random_system(
    n: int = 8,
    m: int = 3,
    spectral_radius: float = 0.95,
    rng: np.random.Generator | int = 0,
) -> System:
    """A system of the given size and spectral radius, the same for the same seed.

    A has independent standard normal entries before it is scaled to the spectral radius; B and the
    initial state have such entries too. Q, R and S are identity matrices and nothing has a unit.

    Parameters
    ----------
    n, m : int
        Number of states and of inputs.
    spectral_radius : float
        Largest absolute value of A's eigenvalues, at least zero. Not a norm: A is not normal, and
        powers of it may grow at first even where this is below one.
    rng : numpy.random.Generator or int
        Source of randomness, or the seed of a new one.

    Examples
    --------
    >>> system = random_system(n=5, m=2, spectral_radius=1.2, rng=7)
    >>> system
    <System random: n=5, m=2, dt=1 s, T=50>
    >>> round(float(abs(np.linalg.eigvals(system.A)).max()), 12)
    1.2
    """
    n, m = check_count("n", n), check_count("m", m)
    check_room(f"matrices of n = {n} and m = {m}", n + m, n + m)
    spectral_radius = check_number("spectral_radius", spectral_radius, least=0)
    rng = check_generator(rng)
    A = rng.normal(size=(n, n))
    return _weighted(
        "random",
        A * (spectral_radius / np.abs(np.linalg.eigvals(A)).max()),
        rng.normal(size=(n, m)),
        dt=1.0,
        states=[(f"state {i}", "1", 1.0) for i in range(n)],
        inputs=[(f"input {i}", "1", 1.0) for i in range(m)],
        x0=rng.normal(size=n),
        T=50,
        source="standard normal entries, A scaled to the spectral radius",
    )


SYSTEMS: Mapping[str, Callable[[], System]] = {
    "double-integrator": double_integrator,
    "inverted-pendulum": inverted_pendulum,
    "mass-spring-chain": mass_spring_chain,
    "aircraft": aircraft,
    "quadrotor": quadrotor,
    "random": random_system,
}

# A state or input: what it is, its unit, and the deviation in it that is still acceptable.
Variable = tuple[str, str, float]


def _sampled(name: str, F: ArrayLike, G: ArrayLike, *, dt: float, **rest: Any) -> System:
    """The system dx/dt = F x + G u, sampled every dt seconds with its inputs held in between."""
    sampled = discretise(F, G, dt=dt)
    return _weighted(name, sampled.A, sampled.B, dt=dt, **rest)


def _weighted(
    name: str,
    A: Array,
    B: Array,
    *,
    dt: float,
    states: Sequence[Variable],
    inputs: Sequence[Variable],
    x0: ArrayLike,
    T: int,
    source: str,
) -> System:
    """The system x[t+1] = A x[t] + B u[t] with weights by Bryson's rule."""
    names, (state_limits,), (input_limits,) = columns(states, inputs)
    Q, R = (np.diag(1 / np.square(limits)) for limits in (state_limits, input_limits))
    x0 = np.asarray(x0)
    return System(
        name=name, A=A, B=B, dt=float(dt), Q=Q, R=R, S=Q, x0=x0, T=T, source=source, **names
    )
