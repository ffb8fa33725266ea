"""Files: models, series, and what was found: parameters and controllers."""

from lqrad.files.models import Model, PlantFile, load_model, load_plant, load_smoothing_model
from lqrad.files.saved import load_controller, load_parameters, save_controller, save_parameters
from lqrad.files.series import Series, load_series

__all__ = [
    "Model",
    "PlantFile",
    "Series",
    "load_controller",
    "load_model",
    "load_parameters",
    "load_plant",
    "load_series",
    "load_smoothing_model",
    "save_controller",
    "save_parameters",
]
