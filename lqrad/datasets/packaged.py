"""Measured series to try things on: small .csv files beside this module."""

from __future__ import annotations

from datetime import date
from importlib.resources import as_file, files

import numpy as np

from lqrad.arguments import Array, check_choice
from lqrad.files.series import load_series

DATASETS = {
    "nile": ("flow (10^8 m^3)",),
    "sunspots": ("sunspot number",),
    "co2": ("CO2 (ppm)",),
    "elnino": ("sea surface temperature (deg C)",),
    "macro": ("real GDP (10^9 USD of 2005)", "unemployment (%)", "consumer prices (1983 = 100)"),
}
"""The name of each series, and what its columns are called, with their units."""


def load(name: str) -> tuple[Array, Array]:
    """Return the times t of a packaged series, in years, and its values y, in the columns of `DATASETS`.

    A mean over a month, a quarter or a day stands at its middle, a mean over a year at the number
    of the year. What was not observed is NaN. All the series are in the public domain, as the
    notes of statsmodels' packaged data say, from which the numbers were taken.

    "nile" : (100, 1), each year from 1871 to 1970
        Flow of the river Nile at Aswan, in 10^8 m^3; a dam was begun in 1898. Cobb, The problem of
        the Nile: conditional solution to a changepoint problem, Biometrika 65, 1978.
    "sunspots" : (309, 1), each year from 1700 to 2008
        Yearly mean of the sunspot number, on the scale in use before 2015. National Geophysical
        Data Center, NOAA, United States.
    "co2" : (2284, 1), each week from March 1958 to December 2001
        Carbon dioxide in the air of Mauna Loa, Hawaii, in parts per million by volume, means of
        weeks, dated by Saturdays; 59 are missing. Keeling and Whorf, Scripps Institution of
        Oceanography, in Trends, Carbon Dioxide Information Analysis Center, US Department of
        Energy, 2004.
    "elnino" : (732, 1), each month from 1950 to 2010
        Temperature of the sea's surface in degrees Celsius, mean of the region Nino 1+2 (0 to 10 S,
        90 to 80 W). ERSST.V3B, Climate Prediction Center, NOAA, United States.
    "macro" : (203, 3), each quarter from 1959 to the third of 2009, United States, seasonally adjusted
        Real gross domestic product in 10^9 dollars of 2005 a year, and consumer prices at the
        quarter's end, 100 in 1982 to 1984: FRED, Federal Reserve Bank of St. Louis. Unemployment in
        per cent: Bureau of Labor Statistics.

    Parameters
    ----------
    name : str
        One of `DATASETS`.

    Returns
    -------
    t : (T+1,)
    y : (T+1, ny)

    Raises
    ------
    ArgumentError
        If there is no such series.

    See Also
    --------
    load_series : reads a file of one's own.
    kalman_smoother, fit : take the values.

    Examples
    --------
    >>> t, y = load("nile")
    >>> print(y.shape, t[y[:, 0].argmin()], y.min())
    (100, 1) 1913.0 456.0
    """
    check_choice("name", name, DATASETS)
    with as_file(files("lqrad.datasets") / f"{name}.csv") as path:
        series = load_series(path, columns=len(DATASETS[name]))
    assert series.labels is not None
    return np.array([_year(label) for label in series.labels]), series.y


def _year(label: str) -> float:
    """The time in years of a year, the middle of a quarter, of a month, or of a day."""
    year = int(label[:4])
    if "Q" in label:
        return year + (int(label[5:]) - 0.5) / 4
    if label.count("-") == 2:
        days = (date.fromisoformat(label) - date(year, 1, 1)).days
        return year + (days + 0.5) / (date(year + 1, 1, 1) - date(year, 1, 1)).days
    return year + (int(label[5:]) - 0.5) / 12 if "-" in label else float(year)
