"""Solvers: the descent loop and the Riccati recursion, each able to prove the other wrong."""
