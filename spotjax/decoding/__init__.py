"""Rows and intervals: labels of rows from intervals, and intervals from scores (NumPy only)."""
