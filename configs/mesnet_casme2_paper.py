"""MESNet on CAS(ME)^2 with the printed schedule: 227 px, gradient descent, 10,000 epochs.

Command:
    python -m spotjax.train --config configs/mesnet_casme2_paper.py \\
        --config.data.root=/path/to/CASME_SQ --workdir runs/mesnet_casme2_paper
Cost: features 254,094 frames (52 GB); 11 million updates of pre-training (115 PFLOP), then 211,000
    updates of 71 GFLOP (15 PFLOP): days of an accelerator; 4.3 GB a fold (train.fold_chunk,
    pretrain.fold_chunk).
Expect: as configs/mesnet_casme2.py. Not run by us: the data need a licence.
Differs from the paper: see spotjax/systems/mesnet.py. Printed as epochs in one place and as
    "10000 iterations" in another; this takes the first.
"""

from spotjax.config import Baselines, Config, Data, Evaluate, Mesnet, MesnetFeatures, Stage, Train


def get_config(preset: str = "") -> Config:
    return Config(
        name="mesnet_casme2_paper",
        data=Data(layout="casme2", root="data/CASME_SQ"),
        features=MesnetFeatures(size=227),
        system=Mesnet(size=227, least_train=37, least_validation=9),
        pretrain=Stage(
            epochs=10_000,
            batch=2,
            optimizer="sgd",
            learning_rate=1e-4,
            validate_every=10,
            checkpoint_every=50,
            fold_chunk=8,
        ),
        train=Train(
            epochs=30,
            batch=2,
            optimizer="sgd",
            learning_rate=1e-4,
            validation=0.3,
            validation_of="videos",
            fold_chunk=8,
        ),
        evaluation=Evaluate(rule="mesnet"),
        baselines=Baselines(names=("mdmd", "lbp_chi2")),
    )
