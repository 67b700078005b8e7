"""The two-stream 3D-CNN on the benchmark's rendered videos, distractors included.

Command:
    python -m spotjax.benchmark          # with the other systems, one table
    python -m spotjax.train --config configs/benchmark/cnn3d.py
Cost: 8 to 15 min on 2 busy cores: a minute for the crops, the rest for 6 epochs of 8 folds.
Expect: chance. It sees grey pixels alone and a few of them at a time, and these people blink, talk
    and nod (configs/cnn3d_demo.py renders calm ones, where it learns).
Differs from the paper: as configs/cnn3d_demo.py, but 6 epochs (56 px, a larger, falling step,
    faster batch statistics, the best epoch and thresholds of the validation subject). The videos
    are rendered: the numbers say that the pipeline works, not how well the 3D-CNN does on people.
"""

from spotjax.config import (
    Baselines,
    Cnn3d,
    Cnn3dFeatures,
    Config,
    Data,
    Evaluate,
    Flow,
    StrainSum,
    Synthetic,
    Train,
)


def get_config() -> Config:
    return Config(
        name="benchmark_cnn3d",
        data=Data(synthetic=Synthetic(root="data/demo", subjects=8, videos=2, seconds=30.0)),
        features=Cnn3dFeatures(size=56),
        system=Cnn3d(size=56, momentum=0.9),
        train=Train(
            epochs=6,
            batch=32,
            optimizer="adam",
            learning_rate=3e-3,
            decay=0.93,
            validation=1,
            validate_every=1,
        ),
        evaluation=Evaluate(threshold_choice="validation"),
        baselines=Baselines(strain_sum=StrainSum(flow=Flow(method="dis"), interval="centred")),
    )
