"""The protocol as a step function, what is checked with it, and the scripts checked against it."""
