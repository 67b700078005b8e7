"""What is computed from the frames: faces, flow, the systems' features."""

from typing import Literal

from pydantic import Field

from spotjax.config.base import section


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
