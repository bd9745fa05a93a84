"""Doors: they translate between people or protocols and the library, and decide nothing."""
