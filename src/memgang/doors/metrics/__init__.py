"""`memgang metrics`: a space as a page that a Prometheus server reads; see `memgang.metrics` for what is on it."""
