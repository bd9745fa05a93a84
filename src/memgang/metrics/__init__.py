"""A space as metrics: what there is to be measured, and the page a Prometheus server reads.

    store/readings.py -> families.py (one table: names, units, where each comes from) -> page.py (text, or OpenMetrics)
"""

from memgang.metrics.families import FAMILIES, Family
from memgang.metrics.page import Page, Scraper

__all__ = ["FAMILIES", "Family", "Page", "Scraper"]
