"""SOFTNet on SAMM Long Videos, as in the paper (Liong et al. 2021, table 2).

Command:
    python -m spotjax.train --config configs/softnet_samm_lv.py \\
        --config.data.root=/path/to/SAMMLV --workdir runs/softnet_samm_lv
    presets: configs/softnet_samm_lv.py (or :paper), configs/softnet_samm_lv.py:release,
    pseudo-labels (:linear, :step4), networks (:mobilenet_v2, :resnet18, :resnet50, :vgg16)
Cost: 482,797 frames at 200 fps. TV-L1 flow for both k takes about 1 million pairs of 0.2-1
    CPU-seconds (days on 2 cores: start it early, it goes on after any interruption); shards
    10.3 GB; training 30 folds x 2 types, a few hours on 2 cores (extrapolated).
Expect: the paper reports F1 0.2169 macro, 0.1520 micro, 0.1881 overall, counted only on videos
    that contain the type (set --config.evaluation.videos=annotated_only to count so). Not run by
    us: the data need a licence.
Differs from the paper: see spotjax/systems/softnet.py; evaluation counts all 147 videos of all 30
    subjects, and the landmarks come from the same detection as the crop. The 10 macro-expressions
    with onset 0 are left out, as the release does.
"""

from spotjax.config import Config, Data, Flow, SoftnetFeatures
from spotjax.presets import SOFTNET_ABLATIONS, SOFTNET_RELEASE, softnet, texts

PRESETS = SOFTNET_RELEASE | texts(SOFTNET_ABLATIONS)


def get_config(preset: str = "paper") -> Config:
    chosen = softnet(preset)
    return Config(
        name="softnet_samm_lv" + ("" if preset == "paper" else f"_{preset}"),
        data=Data(layout="samm_lv", root="data/SAMMLV"),
        # k over the annotation of all subjects, as the paper has it: a constant of the data set
        features=SoftnetFeatures(k_macro=174, k_micro=37, flow=Flow(method="tvl1")),
        system=chosen.system,
        train=chosen.train,
        evaluation=chosen.evaluation,
    )
