"""MESNet on the demonstration's rendered videos, small enough for a CPU: micro-expressions only.

Command:
    python -m spotjax.train --config configs/mesnet_demo.py
    other thresholds from the same scores: python -m spotjax.vary --workdir runs/mesnet_demo
Cost: about 20 min on 2 cores: 1 for the features (236 MB), 5 for the pre-training of 8 folds x 2
    initialisations, 12 for 6 epochs of 8 folds.
Expect: F1 of micro-expressions 0.31 (CRN; CPN 0.27), 0.35 with thresholds of the validation videos
    (--config.evaluation.threshold_choice=validation); MDMD on the same videos 0.10, chance 0.04;
    several points up or down with seed and platform.
Differs from the paper: 64 px instead of 227 (flow computed at 128 px), half as many clips for each
    micro-expression, Adam with a larger step and few epochs. The videos are rendered: the numbers
    say that the pipeline works, not how well MESNet does on people.
"""

from spotjax.config import (
    Baselines,
    Config,
    Data,
    Flow,
    Mesnet,
    MesnetFeatures,
    Stage,
    StrainSum,
    Synthetic,
    Train,
)
from spotjax.presets import MESNET_ABLATIONS, chosen, suffix, texts

PRESETS = texts(MESNET_ABLATIONS)


def get_config(preset: str = "") -> Config:
    change = chosen(MESNET_ABLATIONS, preset)
    pretrain = Stage(
        epochs=40,
        batch=2,
        optimizer="adam",
        learning_rate=2e-4,
        validate_every=5,
        patience=4,
        patience_after=500,
        initialisations=2,
        checkpoint_every=5,
    )
    return Config(
        name="mesnet_demo" + suffix(preset),
        data=Data(synthetic=Synthetic(root="data/demo", subjects=8, videos=2, seconds=30.0)),
        features=MesnetFeatures(size=64, flow_size=128),
        system=Mesnet(size=64, clips_micro=5, clips_macro=2, clips_none=1, **change.system),
        pretrain=pretrain if change.pretrain else None,
        train=Train(
            epochs=6,
            batch=2,
            optimizer="adam",
            learning_rate=3e-4,
            validation=0.3,
            validation_of="videos",
        ),
        baselines=Baselines(strain_sum=StrainSum(flow=Flow(method="dis"), interval="centred")),
    )
