"""The two-stream 3D-CNN on the demonstration's rendered videos, small enough for a CPU.

Command:
    python -m spotjax.train --config configs/cnn3d_demo.py
    one ablation: --config configs/cnn3d_demo.py:no_lcn
    all of them, one table: python -m spotjax.sweep --config configs/cnn3d_demo.py
Cost: about 3 min on 2 cores: half a minute for the crops (45 MB), 2 for 8 epochs of 8 folds.
Expect: chance, so far. Rendered faces blink, talk and turn, and 8 of them are too few for a network
    that sees grey pixels alone: it stays at the base rate with augmentation and learns its own
    subjects by heart without (macro F1 0.02, 1/60/44; micro 0, 0/106/49).
Differs from the paper: 56 px instead of 112, one frame of three an epoch, a larger step and faster
    batch statistics for fewer epochs. The videos are rendered: the numbers say that the pipeline
    works, not how well the 3D-CNN does on people.
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
from spotjax.presets import CNN3D_ABLATIONS, chosen, suffix, texts

PRESETS = texts(CNN3D_ABLATIONS)


def get_config(preset: str = "") -> Config:
    change = chosen(CNN3D_ABLATIONS, preset)
    return Config(
        name="cnn3d_demo" + suffix(preset),
        data=Data(
            synthetic=Synthetic(
                root="data/demo_calm", subjects=6, videos=3, seconds=30.0, calm=True
            )
        ),
        features=Cnn3dFeatures(size=56),
        system=Cnn3d(size=56, momentum=0.9, **change.system),
        train=Train(
            epochs=18,
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
