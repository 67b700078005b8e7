"""Many trainings: what is to run, who runs it, and one table of all."""
