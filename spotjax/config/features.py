"""What is computed from the frames: faces, flow, the systems' features."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo

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


def _for_tvl1(backend: str, values: ValidationInfo) -> str:
    """`backend`, refused if it does not have the method."""
    method = values.data.get("method", "tvl1")  # missing: it was refused itself
    if backend == "jax" and method != "tvl1":
        raise ValueError(f"jax has tvl1 only: leave backend at opencv for method={method}")
    return backend


@section
class Flow:
    """Optical flow between two grey face crops."""

    method: Literal["tvl1", "farneback", "dis"] = Field(
        default="tvl1", description="tvl1: the paper's, 0.2-1 s a pair; dis, farneback: 2-3 ms"
    )
    backend: Annotated[Literal["opencv", "jax"], AfterValidator(_for_tvl1)] = Field(
        default="opencv",
        description="who computes tvl1: OpenCV as the papers did, or spotjax.flow, the same "
        "procedure 10 to 14 times as fast and within 0.02 px on average (as much as two versions "
        "of OpenCV differ)",
    )


@section
class SoftnetFeatures:
    """SOFTNet's input: flow and strain of the pair (i, i+k) on an eye strip and the mouth."""

    name: Literal["softnet"] = "softnet"
    k_macro: int | None = Field(
        default=None,
        ge=1,
        description="frames (of the data set, before data.sample_every) between the images of a "
        "pair for macro-expressions; none: half the mean length of the annotation",
    )
    k_micro: int | None = Field(default=None, ge=1, description="the same for micro-expressions")
    roi: Literal["strip", "two_eyes"] = Field(
        default="strip",
        description="eye part of the composite: one 21x42 strip (release) or two 21x21 (paper)",
    )
    face: Face = Field(default_factory=Face)
    flow: Flow = Field(default_factory=Flow)


def _odd(window: int) -> int:
    """`window`, refused if it has no middle frame."""
    if window % 2 == 0:
        raise ValueError(f"a clip is centred on a frame: use {window - 1} or {window + 1}")
    return window


@section
class SpotformerFeatures:
    """SpotFormer's input: flow of ten face regions from a clip's first frame (SW-MRO)."""

    flow_method: ClassVar[str] = "farneback"  # no key chooses it
    name: Literal["spotformer"] = "spotformer"
    window: Annotated[int, AfterValidator(_odd)] = Field(
        default=17, ge=3, le=33, description="frames of a clip, odd"
    )
    motion: Literal["window", "adjacent"] = Field(
        default="window",
        description="flow from the clip's first frame (SW-MRO), or between neighbours (ablation)",
    )
    reduction: Literal["mdmo8", "mean", "topk", "abpn"] = Field(
        default="mdmo8", description="how the flow of a region becomes one vector"
    )
    align: bool = Field(default=True, description="move the face box with the nose")
    residual: bool = Field(
        default=True, description="subtract the nose's remaining flow from every region's"
    )
    crops: Literal["regions", "face"] = Field(
        default="regions",
        description="flow on region crops, the whole face only where motion is large (fast), or "
        "always on the whole face (reference)",
    )
    margin: int = Field(
        default=18,
        ge=0,
        le=320,
        description="px around the 20x20 px boxes of a region crop: more is nearer to the whole "
        "face and slower",
    )
    face: Face = Field(default_factory=Face)


@section
class SceneFlow:
    """RGB-D scene flow (Herbst et al. 2013); see `data_prep/scene_flow.py`."""

    focal: float = Field(
        default=920.0,
        gt=0,
        description="focal length of the depth-aligned colour image in px, as its intrinsics say; "
        "CAS(ME)^3's D415 at 1280x720: about 920",
    )
    solver: Literal["fast", "released"] = Field(
        default="fast",
        description="fast, or the effort of the authors' released demo: 10 to 50 times as long",
    )


@section
class SfamnetFeatures:
    """SFAMNet's input: optical flow, its strain and scene flow of pairs 0.2 s apart."""

    name: Literal["sfamnet"] = "sfamnet"
    seconds: float = Field(
        default=0.2,
        gt=0,
        le=2,
        description="time between the images of a pair (6 frames at 30 fps)",
    )
    scene: bool = Field(
        default=True,
        description="also scene flow, which needs depth images; False: system.flow=optical only",
    )
    w_unit: Literal["px", "mm"] = Field(
        default="px",
        description="of the motion in depth: mm, or mm seen as px (times focal / depth)",
    )
    face: Face = Field(default_factory=Face)
    flow: Flow = Field(default_factory=Flow)
    scene_flow: SceneFlow = Field(default_factory=SceneFlow)


def _at_least_size(flow_size: int, values: ValidationInfo) -> int:
    """`flow_size`, refused if its flow would have to be enlarged to `size`."""
    size = values.data.get("size", 0)  # missing: it was refused itself
    if 0 < flow_size < size:
        raise ValueError(f"flow is averaged down to size={size}: use 0 or at least {size}")
    return flow_size


@section
class MesnetFeatures:
    """MESNet's input: flow of the face between neighbouring frames."""

    name: Literal["mesnet"] = "mesnet"
    size: int = Field(
        default=112,
        ge=32,
        le=256,
        description="side of the face crop in px; the paper: 227, 4 times the memory and time",
    )
    flow_size: Annotated[int, AfterValidator(_at_least_size)] = Field(
        default=0,
        ge=0,
        le=1024,
        description="side of the crop that flow is computed on, before it is averaged down to "
        "size; 0: size itself",
    )
    box: Literal["landmarks", "detector"] = Field(
        default="landmarks",
        description="face crop: around the landmarks, with the forehead (MEGC 2020's baseline), or "
        "the face detector's box",
    )
    face: Face = Field(default_factory=Face)
    flow: Flow = Field(default_factory=lambda: Flow(method="farneback"))


@section
class Cnn3dFeatures:
    """The two-stream 3D-CNN's input: grey crops of the aligned face."""

    name: Literal["cnn3d"] = "cnn3d"
    size: int = Field(default=112, ge=32, le=256, description="side of the face crop in px")
    alignment: Literal["landmarks", "box", "ready"] = Field(
        default="landmarks",
        description="landmarks: turned, scaled and shifted as OpenFace does, once per video; box: "
        "the face detector's box; ready: the images are aligned crops already, made by OpenFace",
    )
    face: Face = Field(default_factory=Face)


AnyFeatures = (
    SoftnetFeatures | SpotformerFeatures | SfamnetFeatures | MesnetFeatures | Cnn3dFeatures
)
"""What `Config.features` may be."""
