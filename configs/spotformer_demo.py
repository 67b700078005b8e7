"""SpotFormer on the demonstration's rendered videos, small enough for a CPU.

Command:
    python -m spotjax.train --config configs/spotformer_demo.py
Cost: to be measured
Expect: to be measured
Differs from the paper: 32 channels instead of 256; Adam-like AdamW at a larger step for fewer
    epochs.
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


def get_config() -> Config:
    return Config(
        name="spotformer_demo",
        data=Data(synthetic=Synthetic(root="data/demo", subjects=8, videos=2, seconds=30.0)),
        features=SpotformerFeatures(),
        system=Spotformer(width=32, head_width=8, mlp_width=32),
        train=Train(
            epochs=20, batch=8, optimizer="adamw", learning_rate=1e-3, decay=0.9,
            beta1=0.7, beta2=0.9, weight_decay=0.1,
        ),
        baselines=Baselines(strain_sum=StrainSum(flow=Flow(method="dis"), interval="centred")),
    )  # fmt: skip
