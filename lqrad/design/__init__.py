"""Design: from a model to a controller that one would ship."""
