"""Engines: where the agents' calls run. All wait on one event loop; CPU-bound leaves and parsers go to worker processes."""
