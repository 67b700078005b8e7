"""The training-free baselines' settings, with their published parameters."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from spotjax.config.base import section, words
from spotjax.config.features import Flow

BaselineName = Literal["strain_sum", "mdmd", "lbp_chi2"]


@section
class StrainSum:
    """Summed optical strain, SOFTNet's control, beside a system that has not SOFTNet's features.

    Beside SOFTNet itself it reads SOFTNet's own features and is decoded as its score.
    """

    k_macro: int | None = Field(
        default=None, ge=1, description="frames of a pair; none: half the annotation's mean length"
    )
    k_micro: int | None = Field(default=None, ge=1, description="the same for micro-expressions")
    roi: Literal["strip", "two_eyes"] = Field(default="strip", description="as features.roi")
    flow: Flow = Field(default_factory=Flow)
    smoothing: Literal["paper", "release"] = Field(default="paper", description="as SOFTNet's")
    interval: Literal["published", "centred"] = Field(
        default="published", description="as SOFTNet's"
    )


@section
class Mdmd:
    """MDMD, the baseline of MEGC 2020, with its published parameters."""

    k_macro: int | None = Field(
        default=None, ge=1, description="half-window in frames; none: 1.3 s (39, 260 frames)"
    )
    k_micro: int | None = Field(
        default=None, ge=1, description="the same for micro; none: 0.4 s (12, 80 frames)"
    )
    flow: Flow = Field(default_factory=lambda: Flow(method="farneback"))
    directions: Literal["quadrants", "matlab"] = Field(
        default="quadrants",
        description="main direction of a block: one of four, or the public code's merged two",
    )
    p: float = Field(default=0.01, allow_inf_nan=False, ge=0, le=1, description="threshold")


@section
class LbpChi2:
    """LBP-chi2 (Moilanen et al. 2014) as in MESNet's comparison."""

    k_macro: int | None = Field(
        default=None, ge=1, description="half-window in frames; none: 1.3 s (39, 260 frames)"
    )
    k_micro: int | None = Field(
        default=None, ge=1, description="the same for micro; none: 0.4 s (12, 80 frames)"
    )
    p: float = Field(
        default=0.02,
        allow_inf_nan=False,
        ge=0,
        le=1,
        description="threshold; published: 0.02 CAS(ME)^2, 0.01 SAMM (0.31: highest F1)",
    )
    bin_frames: int = Field(
        default=0, ge=0, description="MEGC 2019's bins (15 at 30 fps, 100 at 200); 0: runs"
    )
    bin_hits: int = Field(default=6, ge=1, description="frames above the threshold in a bin")


@section
class Baselines:
    """Training-free methods printed beside the system, on the same videos."""

    names: Annotated[tuple[BaselineName, ...], BeforeValidator(words)] = Field(
        default=("strain_sum",),
        description="of strain_sum, mdmd, lbp_chi2; each is extracted once, into shards of its "
        "own (strain_sum beside SOFTNet needs none)",
    )
    strain_sum: StrainSum = Field(default_factory=StrainSum)
    mdmd: Mdmd = Field(default_factory=Mdmd)
    lbp_chi2: LbpChi2 = Field(default_factory=LbpChi2)
