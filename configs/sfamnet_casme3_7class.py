"""SFAMNet on CAS(ME)^3 part A, seven emotion classes, fine-tuned from the run with four.

Command:
    after configs/sfamnet_casme3.py has run into runs/sfamnet_casme3:
    python -m spotjax.train --config configs/sfamnet_casme3_7class.py \\
        --config.data.root=/path/to/CASME3 --workdir runs/sfamnet_casme3_7class
    another start: --config.train.start=RUN; from scratch, as the released script: also
    --config.train.start= --config.system.fine_tune=false
Cost: training as with four classes; the features are the same shards.
Expect: the paper reports UF1 0.2365, UAR 0.2373, STRS 0.0168 (hybrid flow); spotting is that of the
    four-class run, whose trunk and spotting head are kept. Not run by us: the data need a licence.
Differs from the paper: see spotjax/systems/sfamnet.py. Each fold starts from the fold that held out
    the same subject.
"""

from spotjax.config import Annotation, Config, Data, Sfamnet, SfamnetFeatures
from spotjax.presets import sfamnet_fine_tuning


def get_config() -> Config:
    return Config(
        name="sfamnet_casme3_7class",
        data=Data(
            layout="casme3",
            root="data/CASME3",
            sample_every=2,
            sample_rule="floor",
            annotation=Annotation(emotions="seven", long_micro="symmetric"),
        ),
        features=SfamnetFeatures(),
        system=Sfamnet(classes="seven", fine_tune=True),
        train=sfamnet_fine_tuning("runs/sfamnet_casme3"),
    )
