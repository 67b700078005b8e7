"""The systems' own settings, one section each."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from spotjax.config.base import EXPRESSION_TYPES, ExpressionType, section, words


@section
class Softnet:
    """SOFTNet (Liong et al. 2021); see `spotjax/systems/softnet.py` for the deviations."""

    name: Literal["softnet"] = "softnet"
    pseudo_label: Literal["unit", "linear", "step4", "unit_release"] = Field(
        default="unit",
        description="score of a pair by its overlap with an expression; unit_release has the "
        "release's off-by-one",
    )
    negatives: Literal["half", "half_release"] = Field(
        default="half",
        description="negatives kept per fold: half of them, or int(max(count0, count1) / 2)",
    )
    augment: Annotated[tuple[ExpressionType, ...], BeforeValidator(words)] = Field(
        default=("micro",),
        description="types whose positives get a flipped, a blurred and a noisy copy",
    )
    smoothing: Literal["paper", "release"] = Field(
        default="paper",
        description="mean of 2k+1 scores, or the release's 2k with both ends cut off",
    )
    types: Annotated[tuple[ExpressionType, ...], BeforeValidator(words)] = Field(
        default=EXPRESSION_TYPES, min_length=1, description="types to train and spot"
    )
    p: float = Field(
        default=0.55,
        allow_inf_nan=False,
        ge=0,
        le=1,
        description="threshold = mean + p (max - mean)",
    )
    interval: Literal["published", "centred"] = Field(
        default="published",
        description="[peak-k, peak+k] on flow start frames, or moved by k/2 to the pair's centre",
    )
    silent_proposal: bool = Field(
        default=False,
        description="the release's placeholder [0, 0] for a video without a peak (one FP)",
    )
    formulation: Literal["blocked", "plain"] = Field(
        default="blocked",
        description="convolution as one matrix product per pooling block (fast), or lax.conv",
    )
