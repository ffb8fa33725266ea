"""Pictures. The only importer of matplotlib; every function takes axes and returns them.

Curves are told apart by a colour map that survives greyscale, and named in the order of its
lightness. No window is opened and no state of pyplot is touched.
"""

from lqrad.design.pictures import (
    plot_closed_loop,
    plot_design,
    plot_nyquist,
    plot_sensitivities,
    plot_step_response,
)
from lqrad.figure import Picture
from lqrad.growth.pictures.conditioning import (
    plot_condition,
    plot_conditioning,
    plot_iterations,
)
from lqrad.growth.pictures.cures import (
    plot_blowup,
    plot_cure_gaps,
    plot_cure_histories,
    plot_cures,
)
from lqrad.growth.pictures.growth import plot_growth, plot_lost_digits
from lqrad.growth.pictures.nonnormality import plot_nonnormality, plot_powers, plot_pseudospectra
from lqrad.lq.pictures import (
    plot_comparison,
    plot_convergence,
    plot_costates,
    plot_trajectory,
)
from lqrad.nonlinear.pictures import (
    animate_cart_pole,
    plot_descent,
    plot_inputs,
    plot_portrait,
    plot_swingup,
)
from lqrad.pde.pictures import (
    animate_field,
    plot_discrepancy,
    plot_field,
    plot_heat,
    plot_inversion,
    plot_l_curve,
)
from lqrad.policies.pictures import plot_policy, plot_training
from lqrad.smoothing.pictures import plot_smoothed, plot_smoothed_outputs

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
    "plot_growth",
    "plot_heat",
    "plot_inputs",
    "plot_inversion",
    "plot_iterations",
    "plot_l_curve",
    "plot_lost_digits",
    "plot_nonnormality",
    "plot_nyquist",
    "plot_policy",
    "plot_portrait",
    "plot_powers",
    "plot_pseudospectra",
    "plot_sensitivities",
    "plot_smoothed",
    "plot_smoothed_outputs",
    "plot_step_response",
    "plot_swingup",
    "plot_training",
    "plot_trajectory",
]
