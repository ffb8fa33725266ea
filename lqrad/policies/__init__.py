"""Policies: inputs that a network makes of the state, trained through the closed loop."""

from lqrad.policies.policy_gradient import PolicyGradient, policy_gradient
from lqrad.policies.problem import PolicyProblem, linear_policy

__all__ = [
    "PolicyGradient",
    "PolicyProblem",
    "linear_policy",
    "policy_gradient",
]
