"""What `lqrad COMMAND --help` says of each command, and of the files that they read."""

from lqrad.files import models

MODEL = models.__doc__

COMPARE = """\
Minimise a linear-quadratic cost by descent along adjoint gradients, by several methods, and hold
each answer against the Riccati solution.

examples:
  lqrad compare                                     an aircraft, by every method
  lqrad compare --system cart-pole --horizon 50 --plot pendulum.png
  lqrad compare --method conjugate-gradient --method nesterov --tol 1e-8
  lqrad compare --file model.json --x0 1,0 --json

columns of the table:
  iterations   steps of the method; for riccati, stages swept until its gain had converged
  gap          (J - J*) / |J*|, where J* is Riccati's cost
  proven gap   the bound on it that the method proves from its own gradient, without Riccati
  distance     |u - u*| / |u*|
"""

BLOWUP = """\
Show how the gradient in each input grows with its distance from the end of the horizon, at which
horizon it has no digit left, what that does to descent, and which remedy works.

examples:
  lqrad blowup                                      a pendulum on a cart
  lqrad blowup --system aircraft --horizon 300 --plot aircraft.png
  lqrad blowup --file model.json --x0 1,0 --horizon 100 --json

columns of the table:
  gap          (J - J*) / |J*|, where J* is Riccati's cost
  bias         the gap of what the remedy would find if it were solved exactly; empty for none
"""

SMOOTH = """\
Estimate the states behind a series, from all of it, with their standard deviations.

examples:
  lqrad smooth flow.csv --model level.json --out smoothed.csv --plot flow.png
  lqrad smooth flow.csv --model level.json --forecast 10 --plot forecast.pdf

The series is a .csv file with a row for each time and a column for each output; a first line of
names is skipped, and where there is one column more, the first holds labels, such as dates. An
entry that is empty, or nan, was not observed. Commas, semicolons or tabs separate, and beside the
latter two the decimal sign may be a comma. Labels that are numbers or dates go on by equal steps.

The model is of
  x[t+1] = A x[t] + c + w[t],  w ~ (0, W);   y[t] = C x[t] + d + v[t],  v ~ (0, V);
x[0] ~ (m0, P0), and without P0 there is no prior. A level that drifts, the river Nile's:
  {"A": [[1]], "C": [[1]], "W": [[1469.1]], "V": [[15099]]}
"""

SWINGUP = """\
Find the inputs that bring a nonlinear system to its target within their bounds, and a feedback
around them, by iterative LQR from inputs of zero.

examples:
  lqrad swingup                                     a pole on a cart
  lqrad swingup --plot cart.png --gif cart.gif
  lqrad swingup --system pendulum --second-order --json
"""

HEAT = """\
Control the temperature of a plate or a rod by descent along adjoint gradients, where Riccati would
need a matrix of the square of the number of cells.

examples:
  lqrad heat                                        a plate of 50 x 50 cells over 25 heaters
  lqrad heat --cells 100x100 --plot plate.png
  lqrad heat --cells 200 --scheme crank-nicolson --tol 1e-6 --json

A plate has its edges held at the temperature of its surroundings, a rod is heated at its insulated
ends. The target is a temperature field to be reached and kept.
"""

DESIGN = """\
Design a controller for a plant and look at its loop: margins, step response, limits.

examples:
  lqrad design                                      a pendulum on a cart
  lqrad design --file plant.json --plot design.png --out controller.json
  lqrad design --file plant.json --json

A design needs dt. The state is measured where there are no C, W and V, and else estimated.
"""
