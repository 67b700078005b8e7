"""Trained parameters as one file: of a run, or of the authors' releases."""
