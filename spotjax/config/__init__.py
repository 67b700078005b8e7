"""Typed, frozen configuration: what a config file returns and a run directory stores.

Every section is a dataclass checked by pydantic: a wrong type, a value out of range or an
unknown key is refused.  Loading a file, overriding a key and printing the help stand in
`spotjax/cli.py`.  This room is shared with `data_prep`, so it imports neither JAX nor OpenCV.
"""

from spotjax.config.base import EXPRESSION_TYPES, ExpressionType, section
from spotjax.config.baselines import Baselines, LbpChi2, Mdmd, StrainSum
from spotjax.config.data import Annotation, Data, Synthetic
from spotjax.config.experiment import (
    Config,
    Evaluate,
    Rule,
    Stage,
    Train,
    cores,
    digest,
    from_dict,
    to_dict,
)
from spotjax.config.features import (
    Cnn3dFeatures,
    Face,
    Flow,
    MesnetFeatures,
    SceneFlow,
    SfamnetFeatures,
    SoftnetFeatures,
    SpotformerFeatures,
)
from spotjax.config.systems import Cnn3d, Mesnet, Sfamnet, Softnet, Spotformer

__all__ = [
    "Annotation",
    "Baselines",
    "Cnn3dFeatures",
    "Cnn3d",
    "Config",
    "Data",
    "EXPRESSION_TYPES",
    "Evaluate",
    "ExpressionType",
    "Face",
    "Flow",
    "LbpChi2",
    "Mdmd",
    "Mesnet",
    "MesnetFeatures",
    "Rule",
    "SceneFlow",
    "Sfamnet",
    "SfamnetFeatures",
    "Softnet",
    "SoftnetFeatures",
    "Spotformer",
    "SpotformerFeatures",
    "Stage",
    "StrainSum",
    "Synthetic",
    "Train",
    "cores",
    "digest",
    "from_dict",
    "section",
    "to_dict",
]
