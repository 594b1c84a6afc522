"""The charts, one file each: what to draw as a Plotly figure, and which series or events feed it.

A panel is a module of this folder with `PLACE` (its place on the page, ascending) and `panel()`, which returns the
declaration that the page and the report both draw from. Figures hold axes, empty traces, names and hover texts; colours
only where they mean something, the rest is the theme's. An axis is logarithmic only where no value is 0 or less.
"""

from trainvitals_server.panels.registry import declare

__all__ = ["declare"]
