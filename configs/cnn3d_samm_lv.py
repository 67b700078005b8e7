"""The two-stream 3D-CNN on SAMM Long Videos, all of 200 frames a second.

Command:
    python -m spotjax.train --config configs/cnn3d_samm_lv.py \\
        --config.data.root=/path/to/SAMMLV --workdir runs/cnn3d_samm_lv
    then on a data set that it has never seen, as in the paper's last experiment:
    python -m spotjax.unseen --workdir runs/cnn3d_samm_lv --config configs/cnn3d_casme2.py \\
        --config.data.root=/path/to/CASME_SQ
Cost: crops 482,797 frames (6.1 GB); an epoch of a fold is 2,200 steps of 4 GFLOP: an accelerator is
    needed.
Expect: the paper's table 2 says F1 0.1863 macro, 0.0409 micro, 0.1193 overall. Not run by us: the
    data need a licence.
Differs from the paper: see spotjax/systems/cnn3d.py; the 10 macro-expressions of unknown onset are
    left out of labels and truths.
"""

from spotjax.config import Cnn3d, Cnn3dFeatures, Config, Data, Evaluate
from spotjax.presets import CNN3D_ABLATIONS, chosen, cnn3d_training, suffix, texts

PRESETS = texts(CNN3D_ABLATIONS)
SAMM = {
    "skips_micro": (25, 75),
    "skips_macro": (200, 400),
    "k_micro": 37,
    "k_macro": 217,
    "stride": 7,
    "importance_micro": 0.9,
    "importance_macro": 0.1,
    "positive": 3.0,
}


def get_config(preset: str = "") -> Config:
    change = chosen(CNN3D_ABLATIONS, preset)
    return Config(
        name="cnn3d_samm_lv" + suffix(preset),
        data=Data(layout="samm_lv", root="data/SAMMLV"),
        features=Cnn3dFeatures(),
        system=Cnn3d(**(SAMM | change.system)),
        train=cnn3d_training(),
        evaluation=Evaluate(threshold_choice="validation"),
    )
