"""SpotFormer on CAS(ME)^3 part A, with the paper's network and training.

Command:
    python -m spotjax.train --config configs/spotformer_casme3.py \\
        --config.data.root=/path/to/CASME3 --workdir runs/spotformer_casme3
Cost: 956 videos at 30 fps, 70-95 ms of CPU a frame for the features; 98 folds: an accelerator is
    needed for the training.
Expect: the paper's table II (python -m spotjax.tables --paper spotformer --table II), with the
    epoch chosen on the test subject. Not run by us: the data need a licence.
Differs from the paper: see spotjax/systems/spotformer.py; micro-expressions of at most 15 and macro
    of at most 120 frames are kept (288 and 2364 of the annotation v2; the paper says 285 and 2231).
"""

import dataclasses

from spotjax.config import Annotation, Config, Data, Spotformer, SpotformerFeatures
from spotjax.presets import SPOTFORMER_ABLATIONS, chosen, spotformer_training, suffix, texts

PRESETS = texts(SPOTFORMER_ABLATIONS)


def get_config(preset: str = "") -> Config:
    change = chosen(SPOTFORMER_ABLATIONS, preset)
    return Config(
        name="spotformer_casme3" + suffix(preset),
        data=Data(
            layout="casme3",
            root="data/CASME3",
            annotation=Annotation(longest_micro=15, longest_macro=120),
        ),
        features=SpotformerFeatures(**change.features),
        system=Spotformer(macro_weight=0.5, **change.system),
        train=dataclasses.replace(spotformer_training(), epochs=90),
    )
