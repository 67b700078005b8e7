"""The feature kinds: one list of what can be extracted."""

from spotjax.config import Config

from . import extract_baselines, extract_softnet
from .features import FeatureSpec
from .readers import RawDataset


def build(config: Config, dataset: RawDataset, kind: str = "") -> FeatureSpec:
    """The spec of the system's features (`kind` ""), or of a baseline's, for `dataset`.

    Raises UserError if k cannot be derived.
    """
    if kind == "mdmd":
        return extract_baselines.mdmd_spec(config, dataset)
    if kind == "lbp_chi2":
        return extract_baselines.lbp_spec(config, dataset)
    return extract_softnet.spec(config.features, dataset)
