"""All public names: those at the top, and those of the chapters (scripts/names.py lists them)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "scripts" / "names.py"
_specification = importlib.util.spec_from_file_location("public_names", SCRIPT)
listing = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(listing)

PUBLIC = {name: thing for _, name, thing in listing.public()}
NAMES = sorted(PUBLIC)
