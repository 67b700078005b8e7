"""SOFTNet on CAS(ME)^3 part A, which its paper did not have.

Command:
    python -m spotjax.train --config configs/softnet_casme3.py \\
        --config.data.root=/path/to/CASME3 --workdir runs/softnet_casme3
Cost: 956 videos at 30 fps; TV-L1 flow for both k takes days on a few cores
    (--config.features.flow.method=dis is about a hundred times faster). Not run by us: the data
    need a licence.
Expect: nothing published for SOFTNet; python -m spotjax.tables --data-set casme3 lists what
    other systems report.
Differs from the paper: SOFTNet's settings for CAS(ME)^2 with k from this set's own annotation (half
    the mean length; the annotated macro-expressions are long). Colour images only.
"""

from spotjax.config import Annotation, Config, Data, Flow, SoftnetFeatures
from spotjax.presets import softnet


def get_config() -> Config:
    chosen = softnet("paper")
    return Config(
        name="softnet_casme3",
        data=Data(layout="casme3", root="data/CASME3", annotation=Annotation(emotions="four")),
        features=SoftnetFeatures(flow=Flow(method="tvl1")),
        system=chosen.system,
        train=chosen.train,
        evaluation=chosen.evaluation,
    )
