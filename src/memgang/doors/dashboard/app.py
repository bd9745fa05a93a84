"""The script Streamlit runs for each look at a page. All of it is in `frame`, where it is imported once."""

from memgang.doors.dashboard.frame import draw

draw()
