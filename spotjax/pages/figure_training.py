"""Training curves of a run from its log.jsonl (NumPy only)."""

from collections.abc import Iterator

from spotjax.pages import plots
from spotjax.pages.figure_data import Figure, Source, curves_of

KINDS = {
    "loss": ("Training loss", "mean loss over the samples of an epoch"),
    "validation": (
        "Validation",
        "what each fold is judged by on its own validation videos (the first merit; higher is "
        "better)",
    ),
}


def figures(source: Source) -> Iterator[Figure]:
    """Loss, and validation where folds were judged, of every problem."""
    for key, (title, meaning) in KINDS.items():
        for problem, folds in curves_of(source.log, key).items():
            epochs = max(len(curve) for curve in folds.values())
            yield Figure(
                f"{key}_{problem}",
                f"{title}, {problem}",
                f"{meaning[0].upper()}{meaning[1:]}, epochs 1 to {epochs}: a thin line for each of "
                f"{len(folds)} folds, in colour their mean. A fold that was stopped ends earlier.",
                plots.loss_curves(folds, f"{title}, {problem}"),
            )
