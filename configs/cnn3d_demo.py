"""The two-stream 3D-CNN on the demonstration's rendered videos, small enough for a CPU.

Command:
    python -m spotjax.train --config configs/cnn3d_demo.py
    one ablation: --config configs/cnn3d_demo.py:no_lcn
    all of them, one table: python -m spotjax.sweep --config configs/cnn3d_demo.py
Cost: 21 to 37 min on 2 busy cores: a minute for the videos and crops (51 MB), the rest for 18
    epochs of 6 folds.
Expect: macro F1 about 0.20 (19/119/34; chance 0.05, the training-free control 0.40), micro 0.06
    (11/327/42; chance 0.03). The paper reports 0.04 and 0.01 on CAS(ME)^2's cropped faces.
Differs from the paper: 56 px instead of 112, a larger, falling step and faster batch statistics for
    fewer epochs, the best epoch of the validation subject. The videos are rendered and calm: nobody
    blinks, talks or nods. With those distractors (data.synthetic.calm=false) the network stays at
    chance, since it sees grey pixels alone and looks at a few of them at a time. The numbers say
    that the pipeline works, not how well the 3D-CNN does on people.
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
