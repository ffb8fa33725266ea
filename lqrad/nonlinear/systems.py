"""Named nonlinear systems: plants in physical units, each with a task that no linear one has.

Each is a differential equation, sampled every dt seconds by a Runge-Kutta step of order four with
its inputs held in between, and a quadratic cost of what the target lacks:

    dx/dt = f(x, u),
    J = sum_t dt/2 (|(x[t] - target) / d|^2 + |(u[t] - rest) / e|^2)  +  last/2 |(x[T] - target) / d|^2

d and e hold the deviations that are still acceptable (Bryson's rule), `rest` the inputs that hold
the target; a deviation at the end costs as much as one for `last` seconds. Angles are counted from
the target, upright, so that a pendulum hangs at pi and its cost (angle / d)^2 has a slope there: that
of 1 - cos(angle) is zero, and zero inputs would be a stationary point. Where the equations are from
is the `source` of each plant; the acceptable deviations, the limits of the inputs, the starts and the
horizons are our choice. Parameters are positive numbers; those that may be zero say so.

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

from lqrad.arguments import Array, check_number, check_numbers, frozen_array, steps_in
from lqrad.errors import ArgumentError
from lqrad.lq.example import Plant, columns
from lqrad.nonlinear.control import ControlProblem
from lqrad.nonlinear.integrators import rk4


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class NonlinearSystem(Plant):
    """A nonlinear plant and a task for it: from x0 to the target in T steps, within bounds.

    Parameters
    ----------
    problem : ControlProblem
        The sampled dynamics and the cost.
    target : (n,)
        The state to be reached.
    bounds : pair of (m,)
        Lower and upper limits of the inputs, for `lqrad.ilqr`.
    portrait : pair of int
        The two states that a picture draws against each other, such as an angle and its rate.
    x0, T, dt, name, source, state_names, input_names, state_units, input_units
        As of `Plant`.

    Examples
    --------
    >>> system = pendulum_swingup()
    >>> system
    <NonlinearSystem pendulum: n=2, m=1, dt=0.05 s, T=100>
    >>> for name, unit in zip(system.state_names, system.state_units):
    ...     print(f"{name} [{unit}]")
    angle [rad]
    rate [rad/s]

    The same task from another start:

    >>> from dataclasses import replace
    >>> replace(system, x0=[3.0, 0.0]).x0
    array([3., 0.])
    """

    problem: ControlProblem
    target: Array
    bounds: tuple[Array, Array]
    portrait: tuple[int, int]
    _arrays = ("x0", "target")

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = (frozen_array(f"bounds[{i}]", z) for i, z in enumerate(self.bounds))
        object.__setattr__(self, "bounds", (low, high))


def pendulum_swingup(
    *,
    mass: float = 1.0,
    length: float = 1.0,
    damping: float = 0.1,
    gravity: float = 9.81,
    max_torque: float = 4.0,
    dt: float = 0.05,
) -> NonlinearSystem:
    """A pendulum to be swung upright by a torque at its pivot that is too weak to lift it.

    With the angle counted from upright,

        mass length^2 angle'' = mass gravity length sin(angle) - damping angle' + torque

    To hold the pendulum level takes a torque of mass gravity length, 9.81 N m with these numbers.

    Parameters
    ----------
    mass : float
        Mass of the bob in kg.
    length : float
        Distance from the pivot to the bob, in m.
    damping : float
        Viscous friction of the pivot, in N m s; it may be zero.
    max_torque : float
        Limit of the torque in either direction, in N m.
    gravity, dt : float
        Gravitational acceleration in m/s^2, sampling time in seconds.

    Examples
    --------
    It hangs still until it is pushed:

    >>> system = pendulum_swingup()
    >>> x = system.problem.simulate(system.x0, np.zeros((10, 1)))
    >>> np.ptp(x, axis=0).round(12)
    array([0., 0.])
    """
    mass, length, gravity, max_torque = check_numbers(
        above=0, mass=mass, length=length, gravity=gravity, max_torque=max_torque
    )
    damping = check_number("damping", damping, least=0)
    inertia = check_number("mass length^2", mass * length * length, above=0)

    def f(x: Any, u: Any) -> Any:
        angle, rate = x[..., 0], x[..., 1]
        torque = mass * gravity * length * np.sin(angle) - damping * rate + u[..., 0]
        return np.stack([rate, torque / inertia], axis=-1)

    return _sampled(
        "pendulum",
        f,
        dt=dt,
        seconds=5.0,
        states=[("angle", "rad", math.pi, 0.0, 1.0), ("rate", "rad/s", 0.0, 0.0, 4.0)],
        inputs=[("torque", "N m", -max_torque, max_torque, 0.0, 4.0)],
        last=100.0,
        portrait=(0, 1),
        source="Tedrake, Underactuated Robotics, course notes, MIT, chapter 2, The Simple Pendulum",
    )


def cart_pole_swingup(
    *,
    cart_mass: float = 1.0,
    pole_mass: float = 0.1,
    half_length: float = 0.5,
    pole_friction: float = 2e-6,
    gravity: float = 9.8,
    max_force: float = 10.0,
    dt: float = 0.05,
) -> NonlinearSystem:
    """A pole that hangs from a cart, to be swung upright by pushing the cart.

    A uniform rod of twice the half-length l. With y the cart's position, a the angle from upright,
    M the mass of both and m that of the pole,

        a'' = (gravity sin a - cos a (u + m l a'^2 sin a) / M - pole_friction a' / (m l))
              / (l (4/3 - m cos^2 a / M))
        y'' = (u + m l (a'^2 sin a - a'' cos a)) / M

    The numbers are those of the source but for the cart's friction, of 0.0005 N against the sign of
    its velocity, which has no derivative and is left out.

    Parameters
    ----------
    cart_mass, pole_mass : float
        Masses in kg.
    half_length : float
        Distance from the pivot to the pole's centre of mass, in m.
    pole_friction : float
        Viscous friction of the pivot, in N m s; it may be zero.
    max_force : float
        Limit of the force in either direction, in N.
    gravity, dt : float
        Gravitational acceleration in m/s^2, sampling time in seconds.

    Examples
    --------
    >>> cart_pole_swingup()
    <NonlinearSystem cart-pole: n=4, m=1, dt=0.05 s, T=80>
    """
    cart_mass, pole_mass, half_length, gravity, max_force = check_numbers(
        above=0,
        cart_mass=cart_mass,
        pole_mass=pole_mass,
        half_length=half_length,
        gravity=gravity,
        max_force=max_force,
    )
    pole_friction = check_number("pole_friction", pole_friction, least=0)
    M, moment = cart_mass + pole_mass, pole_mass * half_length

    def f(x: Any, u: Any) -> Any:
        speed, angle, rate = x[..., 1], x[..., 2], x[..., 3]
        s, c = np.sin(angle), np.cos(angle)
        push = (u[..., 0] + moment * rate**2 * s) / M
        turn = gravity * s - c * push - pole_friction * rate / moment
        turn = turn / (half_length * (4 / 3 - pole_mass * c**2 / M))
        return np.stack([speed, push - moment * turn * c / M, rate, turn], axis=-1)

    return _sampled(
        "cart-pole",
        f,
        dt=dt,
        seconds=4.0,
        states=[
            ("cart position", "m", 0.0, 0.0, 1.0),
            ("cart velocity", "m/s", 0.0, 0.0, 5.0),
            ("pole angle", "rad", math.pi, 0.0, 2.0),
            ("pole rate", "rad/s", 0.0, 0.0, 10.0),
        ],
        inputs=[("force", "N", -max_force, max_force, 0.0, 10.0)],
        last=1000.0,
        portrait=(2, 3),
        source="Barto, Sutton and Anderson, Neuronlike adaptive elements that can solve difficult "
        "learning control problems, IEEE Transactions on Systems, Man, and Cybernetics 13(5), 1983, "
        "pp. 834-846, appendix",
    )


def planar_quadrotor(
    *,
    mass: float = 0.486,
    arm: float = 0.25,
    inertia: float = 0.00383,
    gravity: float = 9.81,
    max_thrust: float = 6.0,
    dt: float = 0.04,
) -> NonlinearSystem:
    """A quadrotor in a vertical plane that is upside down, to be turned over and held in place.

    With y to the right, z up, a the angle of its axis from upright, counter-clockwise, and the
    thrusts of the right and the left propeller,

        mass y'' = -(right + left) sin a
        mass z'' = (right + left) cos a - mass gravity
        inertia a'' = arm (right - left)

    Propellers only push: the thrusts are at least zero.

    Parameters
    ----------
    mass : float
        Mass in kg.
    arm : float
        Distance from the centre to a propeller, in m.
    inertia : float
        Moment of inertia in kg m^2.
    max_thrust : float
        Limit of each thrust, in N.
    gravity, dt : float
        Gravitational acceleration in m/s^2, sampling time in seconds.

    Raises
    ------
    ArgumentError
        If both thrusts together do not carry the weight.

    Examples
    --------
    >>> system = planar_quadrotor()
    >>> hover = np.full((1, 2), 0.5 * 0.486 * 9.81)
    >>> bool(abs(system.problem.simulate(system.target, hover)).max() < 1e-15)
    True
    """
    mass, arm, inertia, gravity, max_thrust = check_numbers(
        above=0, mass=mass, arm=arm, inertia=inertia, gravity=gravity, max_thrust=max_thrust
    )
    hover = 0.5 * mass * gravity
    if hover >= max_thrust:
        raise ArgumentError(
            f"max_thrust is {max_thrust!r}, expected more than half the weight, {hover:.4g} N"
        )

    def f(x: Any, u: Any) -> Any:
        angle, right, left = x[..., 2], u[..., 0], u[..., 1]
        lift = (right + left) / mass
        acceleration = (
            -lift * np.sin(angle),
            lift * np.cos(angle) - gravity,
            arm * (right - left) / inertia,
        )
        return np.stack([x[..., 3], x[..., 4], x[..., 5], *acceleration], axis=-1)

    return _sampled(
        "quadrotor",
        f,
        dt=dt,
        seconds=3.0,
        states=[
            ("position", "m", 0.0, 0.0, 1.0),
            ("height", "m", 0.0, 0.0, 1.0),
            ("angle", "rad", math.pi, 0.0, 0.5),
            ("velocity", "m/s", 0.0, 0.0, 2.0),
            ("climb", "m/s", 0.0, 0.0, 2.0),
            ("rate", "rad/s", 0.0, 0.0, 5.0),
        ],
        inputs=[(f"{side} thrust", "N", 0.0, max_thrust, hover, 2.0) for side in ("right", "left")],
        last=10.0,
        portrait=(0, 1),
        source="Tedrake, Underactuated Robotics, course notes, MIT, chapter 3, Acrobots, "
        "Cart-Poles, and Quadrotors",
    )


def van_der_pol(
    *, nonlinearity: float = 1.0, max_force: float = 0.75, dt: float = 0.1
) -> NonlinearSystem:
    """An oscillator that drives itself onto a limit cycle, to be brought to rest.

        y'' = nonlinearity (1 - y^2) y' - y + u

    All of it is without units, the time too: a second is the time in which the phase of the
    oscillator without friction goes on by one radian.

    Parameters
    ----------
    nonlinearity : float
        Size of the friction, negative for |y| < 1 and positive beyond; it may be zero.
    max_force : float
        Limit of the input in either direction.
    dt : float
        Sampling time.

    Examples
    --------
    >>> van_der_pol().bounds
    (array([-0.75]), array([0.75]))
    """
    max_force = check_number("max_force", max_force, above=0)
    nonlinearity = check_number("nonlinearity", nonlinearity, least=0)

    def f(x: Any, u: Any) -> Any:
        y, v = x[..., 0], x[..., 1]
        return np.stack([v, nonlinearity * (1 - y**2) * v - y + u[..., 0]], axis=-1)

    return _sampled(
        "van-der-pol",
        f,
        dt=dt,
        seconds=10.0,
        states=[("position", "1", 2.0, 0.0, 1.0), ("velocity", "1", 0.0, 0.0, 1.0)],
        inputs=[("force", "1", -max_force, max_force, 0.0, 1.0)],
        last=10.0,
        portrait=(0, 1),
        source="van der Pol, On relaxation-oscillations, The London, Edinburgh, and Dublin "
        "Philosophical Magazine and Journal of Science 2(11), 1926, pp. 978-992",
    )


def unicycle_parking(
    *, max_speed: float = 1.0, max_turn: float = 1.0, dt: float = 0.1
) -> NonlinearSystem:
    """A wheel that rolls and turns, to be parked beside its place: it cannot move sideways.

        y' = speed cos(heading),    z' = speed sin(heading),    heading' = turn

    Its linearisation at rest cannot be controlled, so no linear feedback parks it.

    Parameters
    ----------
    max_speed, max_turn : float
        Limits of the speed in m/s and of the turning rate in rad/s, in either direction.
    dt : float
        Sampling time in seconds.

    Examples
    --------
    >>> unicycle_parking().input_names
    ('speed', 'turn')
    """
    max_speed, max_turn = check_numbers(above=0, max_speed=max_speed, max_turn=max_turn)

    def f(x: Any, u: Any) -> Any:
        heading, speed, turn = x[..., 2], u[..., 0], u[..., 1]
        return np.stack([speed * np.cos(heading), speed * np.sin(heading), turn], axis=-1)

    return _sampled(
        "unicycle",
        f,
        dt=dt,
        seconds=6.0,
        states=[
            ("position y", "m", 0.5, 0.0, 0.5),
            ("position z", "m", 1.0, 0.0, 0.5),
            ("heading", "rad", 0.0, 0.0, 0.5),
        ],
        inputs=[
            ("speed", "m/s", -max_speed, max_speed, 0.0, 1.0),
            ("turn", "rad/s", -max_turn, max_turn, 0.0, 1.0),
        ],
        last=100.0,
        portrait=(0, 1),
        source="LaValle, Planning Algorithms, Cambridge University Press, 2006, section 13.1.2.3",
    )


NONLINEAR_SYSTEMS: Mapping[str, Callable[[], NonlinearSystem]] = {
    "pendulum": pendulum_swingup,
    "cart-pole": cart_pole_swingup,
    "quadrotor": planar_quadrotor,
    "van-der-pol": van_der_pol,
    "unicycle": unicycle_parking,
}

# What it is, its unit, start, target, and the deviation from it that is still acceptable.
State = tuple[str, str, float, float, float]
# What it is, its unit, limits, the value that holds the target, and the acceptable deviation.
Input = tuple[str, str, float, float, float, float]


def _sampled(
    name: str,
    f: Callable[..., Any],
    *,
    dt: float,
    seconds: float,
    states: Sequence[State],
    inputs: Sequence[Input],
    last: float,
    portrait: tuple[int, int],
    source: str,
) -> NonlinearSystem:
    """The system dx/dt = f(x, u) over so many seconds, with the cost of the module's head."""
    dt = check_number("dt", dt, above=0)
    names, (x0, target, d), (low, high, rest, e) = columns(states, inputs)

    def stage_cost(x: Any, u: Any) -> Any:
        return 0.5 * dt * (_squares(x, target, d) + _squares(u, rest, e))

    def terminal_cost(x: Any) -> Any:
        return 0.5 * last * _squares(x, target, d)

    return NonlinearSystem(
        name=name,
        problem=ControlProblem(rk4(f, dt), stage_cost, terminal_cost, n=len(states), m=len(inputs)),
        x0=np.asarray(x0),
        target=np.asarray(target),
        T=max(1, round(steps_in(seconds, dt))),
        dt=float(dt),
        bounds=(np.asarray(low), np.asarray(high)),
        portrait=portrait,
        source=source,
        **names,
    )


def _squares(z: Any, centre: ArrayLike, scale: ArrayLike) -> Any:
    return (((z - np.asarray(centre)) / np.asarray(scale)) ** 2).sum(axis=-1)
