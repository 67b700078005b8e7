"""MESNet on SAMM Long Videos, every 6.7th frame (about 30 fps), at 112 px with Adam.

Command:
    python -m spotjax.train --config configs/mesnet_samm_lv.py \\
        --config.data.root=/path/to/SAMMLV --workdir runs/mesnet_samm_lv
Cost: features 72,000 frames (3.6 GB); pre-training as in configs/mesnet_casme2.py; then 30 folds x
    about 66,000 updates of 18 GFLOP (36 PFLOP): an accelerator is needed, about a day of one.
Expect: on SAMM's original release (224 videos without macro-expressions) the paper reports, with
    its own rule, F1 0.0268 for the CPN (52 found, 54 of 3,861 right) and 0.0500 for the CRN (36
    found, 37 of 1,318 right). SAMM-LV has the same 159 micro-expressions and fewer videos, so its
    precision cannot be compared. Not run by us: the data need a licence.
Differs from the paper: see spotjax/systems/mesnet.py; macro-expressions, which SAMM-LV annotates,
    are negatives as on CAS(ME)^2 (`:paper` leaves them unused); onsets and offsets are the nearest
    frames taken.
"""

from spotjax.config import Baselines, Config, Data, LbpChi2, Mesnet, MesnetFeatures
from spotjax.presets import (
    MESNET_ABLATIONS,
    Ablation,
    chosen,
    mesnet_pretraining,
    mesnet_training,
    suffix,
    texts,
)

PAPER = {
    "paper": Ablation(
        "macro-expressions neither learnt nor avoided, as in SAMM's release without them",
        system={"clips_macro": 0, "macro_ratio": 0.0, "least_train": 102, "least_validation": 24},
    )
}
PRESETS = texts(MESNET_ABLATIONS | PAPER)


def get_config(preset: str = "") -> Config:
    change = chosen(MESNET_ABLATIONS | PAPER, preset)
    own = {"clips_none": 4, "none_rows": 15}  # 100 of 200 frames a second
    return Config(
        name="mesnet_samm_lv" + suffix(preset),
        data=Data(layout="samm_lv", root="data/SAMMLV", sample_every=6.7),
        features=MesnetFeatures(),
        system=Mesnet(**(own | change.system)),
        pretrain=mesnet_pretraining() if change.pretrain else None,
        train=mesnet_training(epochs=85),
        baselines=Baselines(names=("mdmd", "lbp_chi2"), lbp_chi2=LbpChi2(p=0.01)),
    )
