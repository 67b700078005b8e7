"""What intervals are worth: matching rules, metrics, recognition, comparison (NumPy only)."""
