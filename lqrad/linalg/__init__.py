"""Arrays in, arrays out: the numerical kernels, which know no control problem."""
