"""SFAMNet on the benchmark's rendered videos, which have no depth: optical flow alone.

Command:
    python -m spotjax.benchmark          # with the other systems, one table
    python -m spotjax.train --config configs/benchmark/sfamnet.py
Cost: about 10 min on 2 busy cores: 3 for the features, 6 for 40 epochs of 8 folds.
Expect: F1 about 0.49 macro (control 0.42, chance 0.06), 0.14 micro (control 0.06, chance 0.02).
Differs from the paper: as configs/sfamnet_demo.py (DIS flow, smaller batches, a larger step, every
    frame), and optical flow with its strain instead of scene flow (preset optical there), because
    these are the grey videos of configs/demo.py. The videos are rendered: the numbers say that the
    pipeline works, not how well SFAMNet does on people.
"""

from spotjax.config import (
    Baselines,
    Config,
    Data,
    Flow,
    Sfamnet,
    SfamnetFeatures,
    StrainSum,
    Synthetic,
    Train,
)


def get_config() -> Config:
    return Config(
        name="benchmark_sfamnet",
        data=Data(synthetic=Synthetic(root="data/demo", subjects=8, videos=2, seconds=30.0)),
        features=SfamnetFeatures(scene=False, flow=Flow(method="dis")),
        system=Sfamnet(flow="optical"),
        train=Train(epochs=40, batch=48, optimizer="adam", learning_rate=3e-3),
        baselines=Baselines(strain_sum=StrainSum(flow=Flow(method="dis"), interval="centred")),
    )
