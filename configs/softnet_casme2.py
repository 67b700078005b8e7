"""SOFTNet on CAS(ME)^2, as in the paper (Liong et al. 2021, table 2).

Command:
    python -m spotjax.train --config configs/softnet_casme2.py \\
        --config.data.root=/path/to/CASME_SQ --workdir runs/softnet_casme2
    presets: configs/softnet_casme2.py (or :paper), configs/softnet_casme2.py:release,
    pseudo-labels (:linear, :step4), networks (:mobilenet_v2, :resnet18, :resnet50, :vgg16)
Cost: 254,094 frames. TV-L1 flow for both k takes about 0.5 million pairs of 0.2-1 CPU-seconds
    (a day or more on 2 cores; --config.features.flow.method=dis: 1-2 hours, another flow than
    the paper's); shards 5.4 GB; training 22 folds x 2 types, about 40 min
    on 2 cores (extrapolated from one epoch of `python -m benchmarks.loso`).
Expect: the paper reports F1 0.2410 macro, 0.1173 micro, 0.2022 overall, counted only on videos
    that contain the type (set --config.evaluation.videos=annotated_only to count so) and with
    the interval of [peak-k, peak+k]. Not run by us: the data need a licence.
Differs from the paper: see spotjax/systems/softnet.py; evaluation counts all 98 videos of all 22
    subjects, and the landmarks come from the same detection as the crop.
"""

from spotjax.config import Config, Data, Flow, SoftnetFeatures
from spotjax.presets import SOFTNET_ABLATIONS, SOFTNET_RELEASE, softnet, texts

PRESETS = SOFTNET_RELEASE | texts(SOFTNET_ABLATIONS)


def get_config(preset: str = "paper") -> Config:
    chosen = softnet(preset)
    return Config(
        name="softnet_casme2" + ("" if preset == "paper" else f"_{preset}"),
        data=Data(layout="casme2", root="data/CASME_SQ"),
        # k over the annotation of all subjects, as the paper has it: a constant of the data set
        features=SoftnetFeatures(k_macro=18, k_micro=6, flow=Flow(method="tvl1")),
        system=chosen.system,
        train=chosen.train,
        evaluation=chosen.evaluation,
    )
