"""Plots of the report, drawn by Matplotlib without a display."""
