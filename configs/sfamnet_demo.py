"""SFAMNet on rendered RGB-D videos, small enough for a CPU: intervals and emotions.

Command:
    python -m spotjax.train --config configs/sfamnet_demo.py
    with all its variants, one table: python -m spotjax.sweep --config configs/sfamnet_demo.py
Cost: TBD
Expect: TBD
Differs from the paper: DIS flow instead of TV-L1, smaller batches and a larger step. The videos are
    rendered: the numbers say that the pipeline works, not how well SFAMNet does on people.
"""

from spotjax.config import (
    Annotation,
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
from spotjax.presets import SFAMNET_ABLATIONS, chosen, suffix, texts

PRESETS = texts(SFAMNET_ABLATIONS)


def get_config(preset: str = "") -> Config:
    return Config(
        name="sfamnet_demo" + suffix(preset),
        data=Data(
            layout="casme3",
            sample_every=2,
            sample_rule="floor",
            annotation=Annotation(emotions="seven"),
            synthetic=Synthetic(root="data/demo_rgbd", subjects=8, videos=2, seconds=30.0),
        ),
        features=SfamnetFeatures(flow=Flow(method="dis")),
        system=Sfamnet(**chosen(SFAMNET_ABLATIONS, preset).system),
        train=Train(epochs=80, batch=48, optimizer="adam", learning_rate=3e-3),
        baselines=Baselines(strain_sum=StrainSum(flow=Flow(method="dis"), interval="centred")),
    )
