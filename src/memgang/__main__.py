"""``python -m memgang`` is ``memgang``."""

from memgang.doors.entry import main

main()
