"""SpotFormer on the demonstration's rendered videos, small enough for a CPU.

Command:
    python -m spotjax.train --config configs/spotformer_demo.py
    ablations: configs/spotformer_demo.py:adjacent, no_flgp, window9, no_contrastive, seq_st,
    simul_ts, paral_st, paral_st_shared; all of them one after another, unfinished ones going on:
    for a in adjacent no_flgp window9 no_contrastive seq_st simul_ts paral_st paral_st_shared; do
    python -m spotjax.train --config configs/spotformer_demo.py:$a; done
Cost: about 20 min on 2 cores: 14,400 frames at 70-95 ms of CPU for the features (10 minutes),
    20 epochs of 8 folds (9 minutes).
Expect: F1 about 0.57 macro, 0.68 micro, 0.62 overall (SOFTNet's demo: 0.78, 0.38, 0.54).
Differs from the paper: 32 channels instead of 256 (52,042 parameters), batches of 8 blocks instead
    of 32 and a larger step, for fewer epochs. The videos are rendered: the numbers say that the
    pipeline works, not how well SpotFormer does on people.
"""

from typing import Any

from spotjax.config import (
    Baselines,
    Config,
    Data,
    Flow,
    Spotformer,
    SpotformerFeatures,
    StrainSum,
    Synthetic,
    Train,
)

FEATURES: dict[str, dict[str, Any]] = {"adjacent": {"motion": "adjacent"}, "window9": {"window": 9}}
SYSTEM: dict[str, dict[str, Any]] = {
    "window9": {"window": 9},
    "no_flgp": {"pooling": "mean"},
    "no_contrastive": {"contrastive": 0.0},
} | {name: {"variant": name} for name in ("seq_st", "simul_ts", "paral_st", "paral_st_shared")}


def get_config(ablation: str = "") -> Config:
    if ablation and ablation not in FEATURES | SYSTEM:
        raise ValueError(f"unknown ablation {ablation!r}: {', '.join(FEATURES | SYSTEM)}")
    return Config(
        name="spotformer_demo" + (f"_{ablation}" if ablation else ""),
        data=Data(synthetic=Synthetic(root="data/demo", subjects=8, videos=2, seconds=30.0)),
        features=SpotformerFeatures(**FEATURES.get(ablation, {})),
        system=Spotformer(width=32, head_width=8, mlp_width=32, **SYSTEM.get(ablation, {})),
        train=Train(
            epochs=20,
            batch=8,
            optimizer="adamw",
            learning_rate=2e-3,
            decay=0.92,
            beta1=0.7,
            beta2=0.9,
            weight_decay=0.1,
        ),
        baselines=Baselines(strain_sum=StrainSum(flow=Flow(method="dis"), interval="centred")),
    )
