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


Range = Annotated[tuple[int, int], BeforeValidator(words)]


@section
class Spotformer:
    """SpotFormer; see `spotjax/systems/spotformer.py` for the deviations.  Frames are of 30 fps."""

    name: Literal["spotformer"] = "spotformer"
    window: int = Field(default=17, ge=3, description="frames of a clip, as in features.window")
    width: int = Field(default=256, ge=1, description="channels D of a token")
    heads: int = Field(default=4, ge=1, description="attention heads")
    head_width: int = Field(default=64, ge=1, description="channels of a head")
    mlp_width: int = Field(default=256, ge=1, description="hidden channels of the MLPs")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="in attention, MLP, embedding")
    variant: Literal["simul_st", "seq_st", "simul_ts", "paral_st", "paral_st_shared"] = Field(
        default="simul_st", description="arrangement of spatial and temporal attention (table IV)"
    )
    pooling: Literal["flgp", "mean"] = Field(
        default="flgp", description="facial local graph pooling, or its ablation (table III)"
    )
    paddings: Annotated[tuple[int, ...], BeforeValidator(words)] = Field(
        default=(0, 0, 1, 1),
        description="of the temporal down-samplings; a window of 25 needs 0,1,1,1,1",
    )
    remat: bool = Field(
        default=False, description="compute activations again in the backward pass: less memory"
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the network's arithmetic; parameters stay float32"
    )
    borders: Literal["release", "free"] = Field(
        default="release",
        description="spread of onset, offset and apex labels stops at a block's border, or not",
    )
    only_expressions: bool = Field(
        default=True, description="train only on blocks of 16 frames that hold an expression"
    )
    three_class: Literal["ce", "focal"] = Field(
        default="ce", description="loss of onset/offset/none: release (ce) or paper (focal)"
    )
    macro_weight: float = Field(
        default=0.5, ge=0, description="weight of the macro losses; 0.55 for SAMM-LV"
    )
    contrastive: float = Field(
        default=0.005, ge=0, description="weight lambda of the contrastive loss (table VI)"
    )
    normalise: bool = Field(
        default=False, description="scale features to length 1 in the contrastive loss"
    )
    apex_threshold: float = Field(default=0.5, ge=0, le=1, description="probability of an apex")
    range_micro: Range = Field(
        default=(2, 8), description="onset and offset of a micro-expression: frames from the apex"
    )
    range_macro: Range = Field(
        default=(8, 29), description="the same for macro (the paper's 60 / 2 would be 30)"
    )
    nms_iou: float = Field(default=0.5, ge=0, le=1, description="overlap that is suppressed")
    keep: int = Field(
        default=5, ge=0, description="most intervals per video and type (release: 5); 0: all"
    )


@section
class Sfamnet:
    """SFAMNet; see `spotjax/systems/sfamnet.py` for the deviations.  Rows are sampled frames."""

    name: Literal["sfamnet"] = "sfamnet"
    flow: Literal["optical", "scene", "hybrid"] = Field(
        default="hybrid",
        description="(u, v, strain) of optical flow, (u, v, w) of scene flow, or optical u and v "
        "with scene flow's w (table 4)",
    )
    streams: Annotated[tuple[Literal["u", "v", "w"], ...], BeforeValidator(words)] = Field(
        default=("u", "v", "w"), min_length=1, description="input channels, one stream each"
    )
    joint: bool = Field(
        default=False, description="one stream for all channels instead of one each (table 8)"
    )
    cbam: bool = Field(default=True, description="channel and spatial attention, or its ablation")
    classes: Literal["four", "seven"] = Field(
        default="four",
        description="emotions recognised: negative, positive, surprise, others; or seven",
    )
    pseudo_label: Literal["release", "paper"] = Field(
        default="release",
        description="positive rows: second half of the onset phase with the apex, or first half",
    )
    soft: bool = Field(default=False, description="labels rise from onset to apex (ablation)")
    sampling: Literal["both", "windows", "events"] = Field(
        default="both",
        description="training samples: sliding windows, flow from onset to apex, or both (table 5)",
    )
    scaling: bool = Field(
        default=True, description="multiply each training sample by a factor of 0.90 to 1.10"
    )
    spot_weight: float = Field(
        default=0.9, ge=0, le=1, description="lambda: weight of spotting, the rest recognition"
    )
    fine_tune: bool = Field(
        default=False,
        description="keep the trunk and the spotting head of train.start, train recognition alone",
    )
    threshold: float = Field(default=0.576, ge=0, description="least smoothed score of a peak")
    micro_test: Literal["prominence", "mae_difference"] = Field(
        default="prominence",
        description="which micro peaks stay: 0.017 above their ends (release), or 0.02 above the "
        "macro curve (paper's step iv)",
    )
    video_gate: float = Field(
        default=0.41, ge=0, description="nothing is spotted where the mean score reaches it; 0: off"
    )
    peak_shift: Literal[0, -1] = Field(
        default=0, description="-1: micro peaks one row early, as released"
    )
    formulation: Literal["blocked", "plain"] = Field(
        default="blocked",
        description="convolutions as matrix products (fast on a CPU), or lax.conv",
    )
