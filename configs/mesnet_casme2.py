"""MESNet on CAS(ME)^2, at 112 px with Adam.

Command:
    python -m spotjax.train --config configs/mesnet_casme2.py \\
        --config.data.root=/path/to/CASME_SQ --workdir runs/mesnet_casme2
    three splits into training and validation, of which the paper reports the median:
    python -m spotjax.sweep --config configs/mesnet_casme2.py --presets plain,split1,split2
Cost: features 254,094 frames (12.8 GB); 22 folds x 3 initialisations x at most 10,000 updates of
    pre-training, then 22 x about 9,600 updates of 18 GFLOP (3.7 PFLOP): an accelerator is needed.
Expect: the paper reports, with its own rule (evaluation.rule=mesnet), F1 0.0153 for the CPN
    (18 found, 22 of 2,799 right) and 0.0255 for the CRN (10 found, 12 of 871 right). Not run by us:
    the data need a licence.
Differs from the paper: see spotjax/systems/mesnet.py; 112 px instead of 227, Adam instead of
    gradient descent (configs/mesnet_casme2_paper.py has both as printed).
"""

import dataclasses

from spotjax.config import Baselines, Config, Data, Mesnet, MesnetFeatures
from spotjax.presets import (
    MESNET_ABLATIONS,
    MESNET_SPLITS,
    chosen,
    mesnet_pretraining,
    mesnet_training,
    suffix,
    texts,
)

PRESETS = texts(MESNET_ABLATIONS | MESNET_SPLITS)


def get_config(preset: str = "") -> Config:
    change = chosen(MESNET_ABLATIONS | MESNET_SPLITS, preset)
    return Config(
        name="mesnet_casme2" + suffix(preset),
        data=Data(layout="casme2", root="data/CASME_SQ"),
        features=MesnetFeatures(),
        system=Mesnet(**change.system),
        pretrain=mesnet_pretraining() if change.pretrain else None,
        train=dataclasses.replace(mesnet_training(epochs=30), seed=change.seed),
        baselines=Baselines(names=("mdmd", "lbp_chi2")),
    )
