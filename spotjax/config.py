"""Typed, frozen configuration: what a config file returns and a run directory stores.

Every section is a dataclass checked by pydantic: a wrong type, a value out of range or an
unknown key is refused.  Loading a file, overriding a key and printing the help stand in
`spotjax/cli.py`.  This room is shared with `data_prep`, so it imports neither JAX nor OpenCV.
"""

import hashlib
import json
import os
from typing import Annotated, Any, Literal, TypeVar, cast, dataclass_transform

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
def section(cls: type[T]) -> type[T]:
    """A frozen dataclass with keyword arguments only that refuses unknown keys."""
    made = dataclass(cls, frozen=True, config=ConfigDict(extra="forbid"), kw_only=True)
    return cast(type[T], made)


ExpressionType = Literal["macro", "micro"]
EXPRESSION_TYPES: tuple[ExpressionType, ...] = ("macro", "micro")


def _words(value: Any) -> Any:
    """`a,b` on the command line is ("a", "b")."""
    return [word for word in value.split(",") if word] if isinstance(value, str) else value


@section
class Synthetic:
    """A rendered stand-in for a licensed data set, used as long as `data.root` is not given."""

    root: str = Field(default="data/demo", description="folder that it is rendered into")
    subjects: int = Field(default=8, ge=1, le=22, description="number of subjects (LOSO folds)")
    videos: int = Field(default=2, ge=1, le=9, description="videos per subject")
    seconds: float = Field(default=30.0, gt=0, description="length of a video in seconds")
    seed: int = Field(default=0, ge=0, description="the frames' bytes are determined by it")


@section
class Data:
    """Where the videos are, how they are laid out, where the features go."""

    layout: Literal["casme2", "samm_lv"] = Field(
        default="casme2", description="on-disk layout of the data set below data.root"
    )
    root: str = Field(
        default="", description="folder of the data set, never written; empty: data.synthetic"
    )
    shards: str = Field(
        default="", description="folder for the features; empty: shards/<root>-<hash>"
    )
    jobs: int = Field(default=0, ge=0, description="worker processes; 0: one per core")
    skip_bad_videos: bool = Field(
        default=False,
        description="leave out videos that cannot be used (listed in the manifest) "
        "instead of stopping",
    )
    synthetic: Synthetic | None = Field(
        default=None, description="the set that is rendered if data.root is empty"
    )


@section
class Face:
    """How the face is found: once per video, as in the released crops of SOFTNet."""

    backend: Literal["dlib", "csv"] = Field(
        default="dlib", description="dlib: HOG box and 68 landmarks; csv: landmarks you have"
    )
    csv: str = Field(
        default="", description="csv backend: folder with <subject>/<video>.csv of 68 landmarks"
    )
    check_every: int = Field(
        default=30, ge=1, description="frames between two checks that the face is still there"
    )


@section
class Flow:
    """Optical flow between two grey face crops."""

    method: Literal["tvl1", "farneback", "dis"] = Field(
        default="tvl1", description="tvl1: the paper's, 0.2-1 s a pair; dis, farneback: 2-3 ms"
    )


@section
class SoftnetFeatures:
    """SOFTNet's input: flow and strain of the pair (i, i+k) on an eye strip and the mouth."""

    name: Literal["softnet"] = "softnet"
    k_macro: int | None = Field(
        default=None,
        ge=1,
        description="frames between the images of a pair for macro-expressions; "
        "none: half the mean length of the annotation",
    )
    k_micro: int | None = Field(default=None, ge=1, description="the same for micro-expressions")
    roi: Literal["strip", "two_eyes"] = Field(
        default="strip",
        description="eye part of the composite: one 21x42 strip (release) or two 21x21 (paper)",
    )
    face: Face = Field(default_factory=Face)
    flow: Flow = Field(default_factory=Flow)


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
    augment: Annotated[tuple[ExpressionType, ...], BeforeValidator(_words)] = Field(
        default=("micro",),
        description="types whose positives get a flipped, a blurred and a noisy copy",
    )
    smoothing: Literal["paper", "release"] = Field(
        default="paper",
        description="mean of 2k+1 scores, or the release's 2k with both ends cut off",
    )
    types: Annotated[tuple[ExpressionType, ...], BeforeValidator(_words)] = Field(
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


@section
class Train:
    """Optimisation of all LOSO folds together."""

    seed: int = Field(default=0, ge=0, description="initialisation, sampling, augmentation")
    epochs: int = Field(default=10, ge=1, description="passes over a fold's samples")
    batch: int = Field(default=12, ge=1, description="samples per update and fold")
    optimizer: Literal["sgd", "adam"] = Field(default="sgd", description="update rule")
    learning_rate: float = Field(default=5e-4, gt=0, description="constant step size")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="sgd only")
    reshuffle: bool = Field(
        default=True, description="a new order each epoch; False: the first epoch's, as released"
    )
    folds: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(
        default=(), description="subjects to hold out, for example s15,s16; empty: every subject"
    )
    fold_exec: Literal["auto", "vmap", "map"] = Field(
        default="auto",
        description="folds of a device side by side (vmap) or one after another (map); "
        "auto: map on CPU, vmap elsewhere",
    )
    fold_chunk: int = Field(
        default=0, ge=0, description="train so many folds at a time to save memory; 0: all"
    )
    devices: int = Field(
        default=0,
        ge=0,
        description="devices to use (on CPU: forced host devices); 0: all, on CPU one per core",
    )


@section
class Evaluate:
    """Scoring of the held-out subjects."""

    videos: Literal["all", "annotated_only"] = Field(
        default="all",
        description="all: MEGC's rule; annotated_only: the paper's videos that contain the type",
    )
    rule: Literal["one_to_one", "softnet"] = Field(
        default="one_to_one", description="matching rule of the headline result"
    )
    iou: float = Field(default=0.5, gt=0, le=1, description="smallest IoU of a true positive")
    bootstrap: int = Field(
        default=1000, ge=0, description="resamplings of subjects for the 95 % interval; 0: none"
    )
    chance_draws: int = Field(
        default=200, ge=1, description="random placements averaged for the chance level"
    )


@section
class Config:
    """A whole experiment.  `name` also names the default run directory, runs/<name>."""

    name: str = Field(description="short name of the experiment", pattern=r"^[A-Za-z0-9_.-]+$")
    data: Data = Field(default_factory=Data)
    features: SoftnetFeatures = Field(default_factory=SoftnetFeatures)
    system: Softnet = Field(default_factory=Softnet)
    train: Train = Field(default_factory=Train)
    evaluation: Evaluate = Field(default_factory=Evaluate)
    evaluate: bool = Field(default=True, description="evaluate after training")


_ADAPTER = TypeAdapter(Config)


def to_dict(config: Config) -> dict[str, Any]:
    """The config as plain JSON types."""
    return _ADAPTER.dump_python(config, mode="json")


def from_dict(values: dict[str, Any]) -> Config:
    """Build and check a Config.  Raises pydantic.ValidationError."""
    return _ADAPTER.validate_python(values)


def digest(values: Any) -> str:
    """Short, stable hash of JSON-like values (16 hex digits)."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cores() -> int:
    """Cores that this process may use: what 0 jobs or devices stands for."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
