"""Shards on disk, arrays in memory, folds and batches."""
