"""The packaged series: as many as told, the numbers of their source, times in years."""

from __future__ import annotations

import hashlib
from importlib import resources

import numpy as np
import pytest

from lqrad.datasets import DATASETS, load
from lqrad.errors import ArgumentError

# Shape, first and last time, first and last row, sum, and the file's checksum.
KNOWN = {
    "nile": ((100, 1), 1871, 1970, [1120], [740], 91935, "30c6cb6b0ee68586"),
    "sunspots": ((309, 1), 1700, 2008, [5], [2.9], 15373.4, "3617fb5c428f88ae"),
    "co2": (
        (2284, 1),
        1958 + 87.5 / 365,
        2001 + 362.5 / 365,
        [316.1],
        [371.5],
        756816.5,
        "7d077399889a653e",
    ),
    "elnino": (
        (732, 1),
        1950 + 1 / 24,
        2010 + 23 / 24,
        [23.11],
        [22.07],
        16903.8,
        "dbfd1f1e4991ed38",
    ),
    "macro": (
        (203, 3),
        1959.125,
        2009.625,
        [2710.349, 5.8, 28.98],
        [12990.341, 9.6, 216.385],
        1488422.881,
        "de18e465dcbcf2ef",
    ),
}


def test_every_series_is_known():
    assert KNOWN.keys() == DATASETS.keys()


@pytest.mark.parametrize("name", KNOWN)
def test_a_series_is_what_its_source_gives(name):
    shape, first, last, begin, end, total, checksum = KNOWN[name]
    t, y = load(name)
    assert y.shape == shape
    assert t.shape == shape[:1]
    assert len(DATASETS[name]) == shape[1]
    assert (t[0], t[-1]) == pytest.approx((first, last), rel=1e-15)
    assert y[0].tolist() == begin
    assert y[-1].tolist() == end
    assert np.nansum(y) == pytest.approx(total, rel=1e-12)
    data = (resources.files("lqrad.datasets") / f"{name}.csv").read_bytes()
    assert len(data) < 60_000
    assert hashlib.sha256(data.replace(b"\r\n", b"\n")).hexdigest()[:16] == checksum


@pytest.mark.parametrize("name", KNOWN)
def test_times_rise_by_equal_steps(name):
    step = np.diff(load(name)[0])
    assert np.ptp(step) < 3e-4  # a day of a leap year is shorter
    assert step.mean() * {"co2": 52.18, "elnino": 12, "macro": 4}.get(name, 1) == pytest.approx(
        1, rel=1e-3
    )


def test_only_carbon_dioxide_has_gaps():
    gaps = {name: int(np.isnan(load(name)[1]).sum()) for name in DATASETS}
    assert gaps == {name: 59 if name == "co2" else 0 for name in DATASETS}


@pytest.mark.parametrize("name", ["nile", "sunspots", "co2", "elnino", "macro"])
def test_statsmodels_has_the_same_numbers(name):
    sm = pytest.importorskip("statsmodels.api")
    names = {
        "nile": "volume",
        "sunspots": "SUNACTIVITY",
        "co2": "co2",
        "macro": ["realgdp", "unemp", "cpi"],
    }
    package = "macrodata" if name == "macro" else name
    theirs = getattr(sm.datasets, package).load_pandas().data
    columns = names.get(name, list(theirs.columns[1:]))
    y = load(name)[1]
    np.testing.assert_array_equal(theirs[columns].to_numpy(float).reshape(y.shape), y)


def test_a_series_that_does_not_exist_is_refused():
    with pytest.raises(ArgumentError, match="name is 'lynx', expected one of: nile, sunspots"):
        load("lynx")
