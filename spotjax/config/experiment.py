"""Training, evaluation, and the whole experiment."""

import hashlib
import json
import os
from dataclasses import fields, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from spotjax.config.base import number, section, share, words
from spotjax.config.baselines import Baselines
from spotjax.config.data import Data
from spotjax.config.features import AnyFeatures, SoftnetFeatures
from spotjax.config.systems import AnySystem, Softnet

Rule = Literal[
    "one_to_one", "softnet", "mean", "sfamnet", "megc2020", "mesnet", "abpn", "spotformer",
    "strs_tool",
]  # fmt: skip


@section
class Stage:
    """Optimisation of one stage of all LOSO folds together."""

    epochs: int = Field(default=10, ge=1, description="passes over a fold's samples")
    updates: int = Field(
        default=0, ge=0, description="a fold stops after so many updates; 0: after its epochs"
    )
    batch: int = Field(default=12, ge=1, description="samples per update and fold")
    optimizer: Literal["sgd", "adam", "adamw"] = Field(default="sgd", description="update rule")
    learning_rate: float = Field(default=5e-4, gt=0, description="step size of the first epoch")
    decay: float = Field(
        default=1.0, gt=0, le=1, description="factor on the step size after each epoch"
    )
    momentum: float = Field(default=0.0, ge=0, lt=1, description="sgd only")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="adam, adamw")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="adam, adamw")
    weight_decay: float = Field(
        default=0.0, ge=0, description="adamw: of the weights of dense and convolution layers"
    )
    validate_every: int = Field(
        default=0,
        ge=0,
        description="after every Nth epoch a fold is judged by its validation samples and its best "
        "parameters are kept, for systems or stages that can; 0: the last ones",
    )
    patience: int = Field(
        default=0,
        ge=0,
        description="a fold stops after so many validations without a better one; 0: never",
    )
    patience_after: int = Field(
        default=0, ge=0, description="validations before so many updates try no patience"
    )
    initialisations: int = Field(
        default=1,
        ge=1,
        description="trained side by side for each fold; the one best in validation stays "
        "(needs validate_every beside it)",
    )
    checkpoint_every: int = Field(
        default=1, ge=1, description="epochs between two checkpoints; the last one has its own"
    )
    reshuffle: bool = Field(
        default=True, description="a new order each epoch; False: the first epoch's, as released"
    )
    fold_exec: Literal["auto", "vmap", "map"] = Field(
        default="auto",
        description="folds of a device side by side (vmap) or one after another (map); "
        "auto: map on CPU, vmap elsewhere",
    )
    fold_chunk: int = Field(
        default=0, ge=0, description="train so many folds at a time to save memory; 0: all"
    )


@section
class Train(Stage):
    """Optimisation of all LOSO folds together."""

    seed: int = Field(default=0, ge=0, description="initialisation, sampling, augmentation")
    start: str = Field(
        default="",
        description="run directory whose trained folds are the start, each fold from the one that "
        "held out the same subject (SFAMNet's fine-tuning for seven emotions)",
    )
    validation: Annotated[int | float, BeforeValidator(number), AfterValidator(share)] = Field(
        default=0,
        ge=0,
        description="kept out of each fold's training, to choose by: so many of its other subjects "
        "(or videos), or a share of them such as 0.3; 0: none",
    )
    validation_of: Literal["subjects", "videos"] = Field(
        default="subjects", description="what train.validation counts"
    )
    score_every: int = Field(
        default=0,
        ge=0,
        description="keep the score curves after every Nth epoch, for an epoch choice other than "
        "last; 0: none",
    )
    folds: Annotated[tuple[str, ...], BeforeValidator(words)] = Field(
        default=(), description="subjects to hold out, for example s15,s16; empty: every subject"
    )
    devices: int = Field(
        default=0,
        ge=0,
        description="devices of each process to use (on CPU: forced host devices); 0: all, on CPU "
        "one per core",
    )
    distributed: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="one training over several processes or hosts, which JAX finds by SLURM, Open "
        "MPI, GKE or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID; auto: if the "
        "environment says that there are several",
    )
    residency: Literal["auto", "resident", "streamed"] = Field(
        default="auto",
        description="features on every device once, or piece by piece as they are read from the "
        "shards, for more than fits; auto: streamed if they need over half of a device's memory",
    )
    piece: int = Field(
        default=0,
        ge=0,
        description="streamed: steps whose features are on the devices at a time; 0: what fits a "
        "sixteenth of the memory",
    )


@section
class Evaluate:
    """Scoring of the held-out subjects."""

    videos: Literal["all", "annotated_only"] = Field(
        default="all",
        description="all: MEGC's rule; annotated_only: the paper's videos that contain the type",
    )
    rule: Rule = Field(
        default="one_to_one",
        description="matching rule of the headline result (spotjax.score --help explains them)",
    )
    iou: float = Field(default=0.5, gt=0, le=1, description="smallest IoU of a true positive")
    epoch_choice: Literal["last", "validation", "oracle"] = Field(
        default="last",
        description="validation: the epoch with the best F1 on the fold's validation subjects; "
        "oracle: on the held-out subject itself, only to compare with papers that did so",
    )
    threshold_choice: Literal["fixed", "validation", "oracle"] = Field(
        default="fixed",
        description="thresholds as configured, those (of a grid) that are best on each fold's "
        "validation videos, or (oracle) on the held-out videos, only to compare with papers that "
        "did so",
    )
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
    features: AnyFeatures = Field(default_factory=SoftnetFeatures, discriminator="name")
    system: AnySystem = Field(default_factory=Softnet, discriminator="name")
    pretrain: Stage | None = Field(
        default=None,
        description="training of the stage before (MESNet's backbone), on the folds of train; "
        "none: without",
    )
    train: Train = Field(default_factory=Train)
    evaluation: Evaluate = Field(default_factory=Evaluate)
    baselines: Baselines = Field(default_factory=Baselines)
    evaluate: bool = Field(default=True, description="evaluate after training")

    @property
    def pretraining(self) -> Train | None:
        """All settings of the stage before: its own, and the folds of `train`."""
        if self.pretrain is None:
            return None
        own = {key: getattr(self.pretrain, key) for key in fields_of(Stage)}
        return replace(self.train, **own, start="", score_every=0)


def fields_of(kind: Any) -> tuple[str, ...]:
    """Names of the keys of a section."""
    return tuple(field.name for field in fields(kind))


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
