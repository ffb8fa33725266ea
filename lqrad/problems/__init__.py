"""Problems: each one simulates forward, runs its adjoint backward and gives an objective."""
