"""Speed, measured side by side: `python -m benchmarks` runs everything here, README tells more."""
