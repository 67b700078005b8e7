"""The feature kinds: one list of what can be extracted."""

from spotjax.config import (
    EXPRESSION_TYPES,
    Cnn3dFeatures,
    Config,
    MesnetFeatures,
    SfamnetFeatures,
    Softnet,
    SoftnetFeatures,
    SpotformerFeatures,
)
from spotjax.errors import UserError

from . import (
    extract_baselines,
    extract_cnn3d,
    extract_mesnet,
    extract_sfamnet,
    extract_softnet,
    extract_spotformer,
)
from .features import FeatureSpec
from .readers import RawDataset


def build(config: Config, dataset: RawDataset, kind: str = "") -> FeatureSpec:
    """The spec of the system's features (`kind` ""), or of a baseline's, for `dataset`.

    Raises UserError if k cannot be derived, or nothing extracts such features.
    """
    if kind == "mdmd":
        return extract_baselines.mdmd_spec(config, dataset)
    if kind == "lbp_chi2":
        return extract_baselines.lbp_spec(config, dataset)
    features = config.features
    if kind == "strain_sum":
        strain = config.baselines.strain_sum
        features = SoftnetFeatures(
            k_macro=strain.k_macro,
            k_micro=strain.k_micro,
            roi=strain.roi,
            flow=strain.flow,
            face=features.face,
        )
    if isinstance(features, SpotformerFeatures):
        return extract_spotformer.spec(features, dataset)
    if isinstance(features, SfamnetFeatures):
        return extract_sfamnet.spec(features, dataset)
    if isinstance(features, MesnetFeatures):
        return extract_mesnet.spec(features)
    if isinstance(features, Cnn3dFeatures):
        return extract_cnn3d.spec(features)
    if type(features) is not SoftnetFeatures:
        raise UserError(f"config.features: {features.name} has no branch in data_prep/kinds.py")
    types = config.system.types if isinstance(config.system, Softnet) else EXPRESSION_TYPES
    return extract_softnet.spec(features, dataset, types)
