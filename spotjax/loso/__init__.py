"""Leave one subject out: all folds trained in one program, kept in a run directory, and scored."""
