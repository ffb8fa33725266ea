"""The small loops in C99, where they were built: each has its twin in NumPy, which is the reference.

The headers beside them state each function as an equation. Small matrices spend their time
between the calls of NumPy and LAPACK; these loops spend it on the numbers. Installing lqrad builds them
where a C compiler is found, and nothing is lost but time where none is. A kernel returns None, or a
number other than zero, where it cannot go on; its twin then runs and says why in words.

    LQRAD_NATIVE=0 python ...      switches them off
    lqrad.native.status()          says what is in use, and why
"""

from lqrad.native.library import Status as Status
from lqrad.native.library import status as status
from lqrad.native.library import switched_off as switched_off
