"""``python -m memgang`` is ``memgang``."""

from memgang.doors.cli import main

main()
