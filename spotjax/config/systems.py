"""The systems' own settings, one section each.

`title` is a system's name in print; `reads`, where it is given, the features of another system that
this one reads.  Keys made by `decoding` say how scores become intervals, those
by `scoring` how frames are scored: neither changes a trained parameter.
"""

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field

from spotjax.config.base import (
    EXPRESSION_TYPES,
    ExpressionType,
    decoding,
    scoring,
    section,
    words,
)


@section
class Softnet:
    """SOFTNet (Liong et al. 2021); see `spotjax/systems/softnet.py` for the deviations."""

    title: ClassVar[str] = "SOFTNet"
    name: Literal["softnet"] = "softnet"
    backbone: Literal["shallow", "mobilenet_v2", "resnet18", "resnet50", "vgg16"] = Field(
        default="shallow", description="the paper's network, or one of table 3 in its place"
    )
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
    smoothing: Literal["paper", "release"] = decoding(
        default="paper",
        description="mean of 2k+1 scores, or the release's 2k with both ends cut off",
    )
    types: Annotated[tuple[ExpressionType, ...], BeforeValidator(words)] = Field(
        default=EXPRESSION_TYPES, min_length=1, description="types to train and spot"
    )
    p: float = decoding(
        default=0.55,
        allow_inf_nan=False,
        ge=0,
        le=1,
        description="threshold = mean + p (max - mean)",
    )
    interval: Literal["published", "centred"] = decoding(
        default="published",
        description="[peak-k, peak+k] on flow start frames, or moved by k/2 to the pair's centre",
    )
    silent_proposal: bool = decoding(
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

    title: ClassVar[str] = "SpotFormer"
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
    apex_threshold: float = decoding(default=0.5, ge=0, le=1, description="probability of an apex")
    range_micro: Range = decoding(
        default=(2, 8), description="onset and offset of a micro-expression: frames from the apex"
    )
    range_macro: Range = decoding(
        default=(8, 29), description="the same for macro (the paper's 60 / 2 would be 30)"
    )
    nms_iou: float = decoding(default=0.5, ge=0, le=1, description="overlap that is suppressed")
    keep: int = decoding(
        default=5, ge=0, description="most intervals per video and type (release: 5); 0: all"
    )


@section
class Sfamnet:
    """SFAMNet; see `spotjax/systems/sfamnet.py` for the deviations.  Rows are sampled frames."""

    title: ClassVar[str] = "SFAMNet"
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
    threshold: float = decoding(default=0.576, ge=0, description="least smoothed score of a peak")
    micro_test: Literal["prominence", "mae_difference"] = decoding(
        default="prominence",
        description="which micro peaks stay: 0.017 above their ends (release), or 0.02 above the "
        "macro curve (paper's step iv)",
    )
    video_gate: float = decoding(
        default=0.41, ge=0, description="nothing is spotted where the mean score reaches it; 0: off"
    )
    peak_shift: Literal[0, -1] = decoding(
        default=0, description="-1: micro peaks one row early, as released"
    )
    formulation: Literal["blocked", "plain"] = Field(
        default="blocked",
        description="convolutions as matrix products (fast on a CPU), or lax.conv",
    )


@section
class Mesnet:
    """MESNet; see `spotjax/systems/mesnet.py` for the deviations.  Rows are sampled frames."""

    title: ClassVar[str] = "MESNet"
    name: Literal["mesnet"] = "mesnet"
    size: int = Field(default=112, ge=32, description="side of a flow in px, as in features.size")
    share: bool = Field(
        default=False,
        description="the CRN uses the backbone's temporal convolutions (table VI's ablation)",
    )
    clips_micro: int = Field(
        default=10, ge=1, description="training clips for each micro-expression (r_tME)"
    )
    clips_macro: int = Field(
        default=4, ge=0, description="clips with a macro-expression alone, for each micro (r_tMaE)"
    )
    clips_none: int = Field(
        default=2, ge=0, description="clips without any expression, for each micro (r_tNL)"
    )
    macro_ratio: float = Field(
        default=0.5, ge=0, description="pre-training: macro-expressions for each micro (r_MaE)"
    )
    none_ratio: float = Field(
        default=1.0, ge=0, description="pre-training: clips without any for each micro (r_noL)"
    )
    none_rows: int = Field(
        default=16, ge=2, le=100, description="pre-training: rows of a clip without any (l_noL)"
    )
    share_train: float = Field(
        default=0.64,
        ge=0,
        le=1,
        description="least share of a fold's micro-expressions that its training videos hold",
    )
    share_validation: float = Field(
        default=0.15, ge=0, le=1, description="the same for its validation videos"
    )
    least_train: int = Field(
        default=0,
        ge=0,
        description="least number instead of share_train; the paper: 37 (CAS(ME)^2), 102 (SAMM)",
    )
    least_validation: int = Field(
        default=0, ge=0, description="instead of share_validation; the paper: 9, 24"
    )
    l2: float = Field(default=0.01, ge=0, description="lambda of the squared weights in the loss")
    t_cpn: float = decoding(
        default=0.5, ge=0, le=1, description="least probability of a proposal (CPN)"
    )
    t_crn: float = decoding(
        default=0.5, ge=0, le=1, description="the same of a regressed one (CRN)"
    )
    t_nms: float | None = decoding(
        default=0.5, ge=0, le=1, description="overlap that is suppressed; none: no suppression"
    )
    nms: Literal["greedy", "simultaneous"] = decoding(
        default="greedy",
        description="whether what is itself suppressed suppresses nothing, or does (authors' tool)",
    )
    module: Literal["crn", "cpn"] = decoding(
        default="crn", description="intervals that are reported: regressed ones, or proposals"
    )
    decode: Literal["inverse", "proposal_length"] = decoding(
        default="inverse",
        description="length that offsets are parts of: the expression's (exact inverse of the "
        "training targets), or the proposal's",
    )
    formulation: Literal["blocked", "plain"] = Field(
        default="blocked",
        description="convolutions as matrix products (fast on a CPU), or lax.conv",
    )


@section
class Cnn3d:
    """Two-stream 3D-CNN; see `spotjax/systems/cnn3d.py` for the deviations.  k counts rows."""

    title: ClassVar[str] = "3D-CNN"
    name: Literal["cnn3d"] = "cnn3d"
    size: int = Field(default=112, ge=32, description="side of a crop in px, as in features.size")
    streams: Literal["both", "micro", "macro"] = Field(
        default="both", description="pairs of frames that it sees: a near, a far one, or both"
    )
    reference: Literal["forward", "backward", "centred"] = Field(
        default="forward",
        description="the other frame of a pair: k later, k earlier, or both ends k/2 away",
    )
    skips_micro: Range = Field(
        default=(3, 9), description="k drawn in training, near pair; SAMM-LV: 25,75"
    )
    skips_macro: Range = Field(default=(16, 50), description="the same, far pair; SAMM-LV: 200,400")
    k_micro: int = scoring(default=6, ge=1, description="k in scoring, near pair; SAMM-LV: 37")
    k_macro: int = scoring(default=19, ge=1, description="the same, far pair; SAMM-LV: 217")
    stride: int = Field(
        default=1,
        ge=1,
        le=64,
        description="an epoch sees one frame of every so many, drawn anew; SAMM-LV: 7",
    )
    augment: bool = Field(
        default=True, description="contrast, gamma, gain, flip and rotation in training"
    )
    lcn: bool = Field(default=True, description="local contrast normalisation, or its ablation")
    channels: Annotated[tuple[int, int, int], BeforeValidator(words)] = Field(
        default=(16, 32, 64), description="of the three blocks"
    )
    first_conv: Literal["separable", "regular"] = Field(
        default="separable", description="first convolution depthwise separable, or a usual one"
    )
    first_init: Literal["difference", "random"] = Field(
        default="difference",
        description="first filters at the start: what changes between both images alone, or any",
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, description="after each block")
    momentum: float = Field(
        default=0.99, gt=0, lt=1, description="of the batch statistics; 0.9 for short runs"
    )
    importance_micro: float = Field(default=1.0, ge=0, description="M of the loss; SAMM-LV: 0.9")
    importance_macro: float = Field(default=1.0, ge=0, description="the same; SAMM-LV: 0.1")
    positive: float = Field(
        default=1.0, gt=0, description="W: weight of frames in an expression; SAMM-LV: 3"
    )
    order: int = decoding(default=2, ge=1, le=8, description="of the Butterworth filter")
    cutoff: float = decoding(default=1.0, gt=0, description="of the filter, in cycles per k rows")
    threshold_rule: Literal["youden", "corner", "f1"] = decoding(
        default="youden",
        description="how evaluation.threshold_choice picks: largest TPR - FPR of frames, nearest "
        "to the corner of the ROC, or (ours) best F1 of intervals",
    )
    threshold_micro: float = decoding(
        default=0.5, ge=0, le=1, description="least smoothed score, where not chosen"
    )
    threshold_macro: float = decoding(default=0.5, ge=0, le=1, description="the same for macro")
    min_rows: int = decoding(default=1, ge=1, description="shortest interval in rows")
    formulation: Literal["shift", "conv"] = Field(
        default="shift",
        description="depthwise convolutions as shifted sums (fast on a CPU), or lax.conv",
    )


AnySystem = Softnet | Spotformer | Sfamnet | Mesnet | Cnn3d
"""What `Config.system` may be."""
SECTIONS: dict[str, Any] = {kind.name: kind for kind in get_args(AnySystem)}
TITLES: dict[str, str] = {name: kind.title for name, kind in SECTIONS.items()}
"""Names in print by the systems' own names."""
