"""All public names: those at the top, and those of the chapters."""

from __future__ import annotations

import inspect

import lqrad

CHAPTERS = {
    name: module
    for name, module in vars(lqrad).items()
    if inspect.ismodule(module) and hasattr(module, "__all__") and name != "plotting"
}
# Where each name stands: the chapter whose module defines it, or the top.
HOME = dict.fromkeys(lqrad.__all__, "lqrad") | {
    name: f"lqrad.{chapter}" for chapter, module in CHAPTERS.items() for name in module.__all__
}
NAMES = sorted(HOME)
