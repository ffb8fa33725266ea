"""Packaged series, each with its source: `load("nile")` returns times and values."""

from lqrad.datasets.packaged import DATASETS as DATASETS
from lqrad.datasets.packaged import load as load
