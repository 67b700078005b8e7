"""SpotFormer on the demonstration's rendered videos, small enough for a CPU.

Command:
    python -m spotjax.train --config configs/spotformer_demo.py
    one ablation of tables III to VI: --config configs/spotformer_demo.py:adjacent
    all of them, one table: python -m spotjax.sweep --config configs/spotformer_demo.py
Cost: about 20 min on 2 cores: 14,400 frames at 70-95 ms of CPU for the features (10 minutes),
    20 epochs of 8 folds (9 minutes).
Expect: F1 about 0.57 macro, 0.68 micro, 0.62 overall (SOFTNet's demo: 0.78, 0.38, 0.54).
Differs from the paper: 32 channels instead of 256 (52,042 parameters), batches of 8 blocks instead
    of 32 and a larger step, for fewer epochs. The videos are rendered: the numbers say that the
    pipeline works, not how well SpotFormer does on people.
"""

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
from spotjax.presets import SPOTFORMER_ABLATIONS, chosen, suffix, texts

PRESETS = texts(SPOTFORMER_ABLATIONS)


def get_config(preset: str = "") -> Config:
    change = chosen(SPOTFORMER_ABLATIONS, preset)
    return Config(
        name="spotformer_demo" + suffix(preset),
        data=Data(synthetic=Synthetic(root="data/demo", subjects=8, videos=2, seconds=30.0)),
        features=SpotformerFeatures(**change.features),
        system=Spotformer(width=32, head_width=8, mlp_width=32, **change.system),
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
