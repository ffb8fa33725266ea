"""Studies: what compares, measures and explains."""
