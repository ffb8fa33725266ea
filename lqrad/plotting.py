"""Pictures. The only importer of matplotlib; every function takes axes and returns them.

Curves are told apart by a colour map that survives greyscale, and named in the order of its
lightness. No window is opened and no state of pyplot is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lqrad.descent.pictures import plot_descent
from lqrad.design.pictures import (
    plot_closed_loop,
    plot_design,
    plot_nyquist,
    plot_sensitivities,
    plot_step_response,
)
from lqrad.errors import DtypeError
from lqrad.figure import Picture
from lqrad.growth.pictures import (
    plot_blowup,
    plot_condition,
    plot_conditioning,
    plot_cure_gaps,
    plot_cure_histories,
    plot_cures,
    plot_growth,
    plot_iterations,
    plot_lost_digits,
    plot_nonnormality,
    plot_powers,
    plot_pseudospectra,
)
from lqrad.lq.pictures import (
    plot_comparison,
    plot_convergence,
    plot_costates,
    plot_gains,
    plot_multipliers,
    plot_plan,
    plot_rows,
    plot_states_and_inputs,
    plot_trajectory,
)
from lqrad.nets.pictures import plot_training
from lqrad.nonlinear.pictures import animate_cart_pole, plot_inputs, plot_portrait, plot_swingup
from lqrad.pde.pictures import (
    animate_field,
    plot_discrepancy,
    plot_field,
    plot_heat,
    plot_inversion,
    plot_l_curve,
)
from lqrad.policies.pictures import plot_policy
from lqrad.results import draw
from lqrad.smoothing.pictures import plot_innovations, plot_smoothed, plot_smoothed_outputs

__all__ = [
    "Picture",
    "animate_cart_pole",
    "animate_field",
    "plot_blowup",
    "plot_closed_loop",
    "plot_comparison",
    "plot_condition",
    "plot_conditioning",
    "plot_convergence",
    "plot_costates",
    "plot_cure_gaps",
    "plot_cure_histories",
    "plot_cures",
    "plot_descent",
    "plot_design",
    "plot_discrepancy",
    "plot_field",
    "plot_gains",
    "plot_growth",
    "plot_heat",
    "plot_innovations",
    "plot_inputs",
    "plot_inversion",
    "plot_iterations",
    "plot_l_curve",
    "plot_lost_digits",
    "plot_multipliers",
    "plot_nonnormality",
    "plot_nyquist",
    "plot_plan",
    "plot_policy",
    "plot_portrait",
    "plot_powers",
    "plot_pseudospectra",
    "plot_rows",
    "plot_sensitivities",
    "plot_smoothed",
    "plot_smoothed_outputs",
    "plot_states_and_inputs",
    "plot_step_response",
    "plot_swingup",
    "plot_training",
    "plot_trajectory",
]

_TOGETHER = (plot_descent, plot_training)


@draw.register(list)
@draw.register(tuple)
def _draw_together(results: Sequence[Any], *details: Any, **options: Any) -> Any:
    """Draw results of one kind on the same axes."""
    pictures = {draw.dispatch(type(result)) for result in results}
    if len(pictures) != 1 or not pictures <= {*_TOGETHER}:
        kinds = ", ".join(sorted({type(result).__name__ for result in results})) or "nothing"
        raise DtypeError(
            f"there is no picture of several results: {kinds}",
            "descents of one kind, or trainings, are drawn together; plot others one by one",
        )
    return pictures.pop()(list(results), *details, **options)
