"""Training of the embedded model; needs torch."""
