"""The two-stream 3D-CNN on CAS(ME)^2.

Command:
    python -m spotjax.train --config configs/cnn3d_casme2.py \\
        --config.data.root=/path/to/CASME_SQ --workdir runs/cnn3d_casme2
Cost: crops 254,094 frames (3.2 GB, minutes); an epoch of a fold is 7,900 steps of 4 GFLOP, hours on
    a CPU: an accelerator is needed.
Expect: the paper's table 2 says F1 0.0401 macro, 0.0118 micro, 0.0304 overall (cropped faces).
    Not run by us: the data need a licence.
Differs from the paper: see spotjax/systems/cnn3d.py; faces are aligned by us unless
    --config.features.alignment=ready reads crops that OpenFace has made.
"""

from spotjax.config import Cnn3d, Cnn3dFeatures, Config, Data, Evaluate
from spotjax.presets import CNN3D_ABLATIONS, chosen, cnn3d_training, suffix, texts

PRESETS = texts(CNN3D_ABLATIONS)


def get_config(preset: str = "") -> Config:
    change = chosen(CNN3D_ABLATIONS, preset)
    return Config(
        name="cnn3d_casme2" + suffix(preset),
        data=Data(layout="casme2", root="data/CASME_SQ"),
        features=Cnn3dFeatures(),
        system=Cnn3d(**change.system),
        train=cnn3d_training(),
        evaluation=Evaluate(threshold_choice="validation"),
    )
