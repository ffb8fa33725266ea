"""The descent loop, which knows no problem: objectives, methods, and tests of a gradient."""

from lqrad.descent.checks import TaylorTest, dot_test, taylor_test
from lqrad.descent.descend import Descent, descend
from lqrad.descent.objective import Objective
from lqrad.descent.proximal import l1

__all__ = [
    "Descent",
    "Objective",
    "TaylorTest",
    "descend",
    "dot_test",
    "l1",
    "taylor_test",
]
