"""Where the videos are, how their annotation is read, where the features go."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from spotjax.config.base import number, section


@section
class Synthetic:
    """A rendered stand-in for a licensed data set, used as long as `data.root` is not given."""

    root: str = Field(default="data/demo", description="folder that it is rendered into")
    subjects: int = Field(default=8, ge=1, le=98, description="number of subjects (LOSO folds)")
    videos: int = Field(default=2, ge=1, le=13, description="videos per subject")
    seconds: float = Field(default=30.0, gt=0, description="length of a video in seconds")
    seed: int = Field(default=0, ge=0, description="the frames' bytes are determined by it")
    calm: bool = Field(
        default=False,
        description="no blinks, talking, sniffs, swallows or nods: expressions alone",
    )


@section
class Annotation:
    """What becomes of the oddities of an annotation; the defaults are the choices of the papers.

    Each rule that fires is listed with its rows in the manifest, the report and
    `data_prep.check`.  `paper` stands for what the data set's first paper did.
    """

    onset_zero: Literal["paper", "drop", "keep"] = Field(
        default="paper",
        description="macro-expressions with onset 0 (unknown): drop, or keep from the first frame; "
        "paper: drop in CAS(ME)^2 and SAMM-LV (SOFTNet), keep elsewhere",
    )
    missing_offset: Literal["apex", "apex_plus_20", "drop"] = Field(
        default="apex",
        description="an offset of 0: the apex takes its place (SOFTNet), apex + 20 frames "
        "wherever the offset is not after the apex (LGSNet), or the row is dropped",
    )
    fractions: Literal["truncate", "round"] = Field(
        default="truncate",
        description="frame numbers such as 566.6: cut (SOFTNet) or rounded half up (MEGC 2020)",
    )
    long_micro: Literal["keep", "symmetric"] = Field(
        default="keep",
        description="micro-expressions with offset - onset > 30: symmetric moves the offset to "
        "apex + (apex - onset) and drops those whose apex is the onset (SFAMNet's evaluation)",
    )
    longest_micro: int = Field(
        default=0, ge=0, description="drop micro-expressions with a larger offset - onset; 0: none"
    )
    longest_macro: int = Field(default=0, ge=0, description="the same for macro-expressions")
    outside: Literal["clip", "drop"] = Field(
        default="clip",
        description="intervals that leave their video: cut at its ends or dropped; one that lies "
        "wholly outside is always dropped",
    )
    duplicates: Literal["error", "drop", "keep"] = Field(
        default="error", description="rows that repeat another row in everything"
    )
    missing_frames: Literal["paper", "error", "allow"] = Field(
        default="paper",
        description="images missing inside a video: the video cannot be used, or its frames close "
        "up; paper: allow in CAS(ME)^3, where many are missing, error elsewhere",
    )
    emotions: Literal["four", "seven"] = Field(
        default="four",
        description="CAS(ME)^3: negative, positive, surprise, others, or the seven named emotions",
    )


@section
class Data:
    """Where the videos are, how they are laid out, where the features go."""

    layout: Literal["casme2", "samm_lv", "casme3", "folder"] = Field(
        default="casme2", description="on-disk layout of the data set below data.root"
    )
    root: str = Field(
        default="", description="folder of the data set, never written; empty: data.synthetic"
    )
    shards: str = Field(
        default="", description="folder for the features; empty: shards/<root>-<hash>"
    )
    jobs: int = Field(
        default=0,
        ge=0,
        description="worker processes; 0: one per core, with Ray as many as the cluster takes",
    )
    runner: Literal["local", "ray"] = Field(
        default="local",
        description="who computes the features: processes of this machine, or tasks of the Ray "
        "cluster of RAY_ADDRESS, whose nodes share the folders (extra [cluster])",
    )
    skip_bad_videos: bool = Field(
        default=False,
        description="leave out videos that cannot be used (listed in the manifest) "
        "instead of stopping",
    )
    sample_every: Annotated[int | float, BeforeValidator(number)] = Field(
        default=1,
        ge=1,
        description="take every Nth frame: 7 makes about 30 fps of SAMM-LV's 200 (SpotFormer); a "
        "fraction takes frame round(N j): 6.7 (MESNet)",
    )
    sample_rule: Literal["round", "floor"] = Field(
        default="round",
        description="sampled frame of an annotated frame: the nearest (SpotFormer) or the one "
        "before (ABPN)",
    )
    fps: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="layout folder: frames per second of image folders, and of videos whose "
        "header lacks it",
    )
    first_frame: Literal[0, 1] = Field(
        default=0, description="layout folder: number of a video file's first frame in the CSV"
    )
    annotation: Annotation = Field(default_factory=Annotation)
    synthetic: Synthetic | None = Field(
        default=None, description="the set that is rendered if data.root is empty"
    )
