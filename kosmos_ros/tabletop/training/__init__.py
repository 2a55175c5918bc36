"""How the embedded model is trained.  Needs torch."""
