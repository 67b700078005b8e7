"""The contract of spotjax: read this first.  Imports nothing of ours.

**Axis letters**: F folds, S steps, B batch, N samples, R rows, T frames of a video, C channels.

**Frames** are 0-based and inclusive everywhere inside; `frame_ids` maps them to the data set's own
numbers, at the readers and the writers only.  Times are in seconds, displacements in px.

**Rows.**  A shard holds, for a video of T frames, *streams*: arrays whose first axis is T.  Row i
belongs to frame i, whatever a system computes there: the pair (i, i+k) of SOFTNet and SFAMNet,
the 17-frame window around i of SpotFormer, the flow i -> i+1 of MESNet, the crop of frame i of
cnn3d.  Where nothing can be computed (no face, the last k frames) the row is zero and its
`valid_*` stream is 0.  All videos' rows are concatenated; those that training samples read lie on
the device once.

**Events.**  A shard may also hold *event streams*, one row per annotated interval of the video:
SFAMNet's flow from onset to apex.  They are named `event_*` and `valid_event_*` and concatenated
over videos likewise.  A sample whose field `event` is 1 takes its row there.

**Problem.**  One network to train and score.  SOFTNet has two (macro, micro: own k, own stream,
own parameters); SFAMNet, SpotFormer, MESNet and cnn3d have one whose outputs serve both types.

**System.**  Pure functions that know no path, data set, fold or optimiser:

    targets(video, valid, problem) -> Samples     NumPy: every training sample a video offers
    select(samples, rng, problem) -> Samples      NumPy: what one fold trains on of all of them
    init(key) -> variables                        {"params": ..., "batch_stats": ... if any}
    inputs(arrays, samples, key, problem) -> inputs    gather rows, augment: inside the step
    apply(variables, inputs, weight, train, key) -> (outputs, variables)
    loss(outputs, samples, weight) -> (f32[], info)    weight f32[B] is 0 for padding
    scores(outputs) -> f32[B] or f32[B, C]        what decoding needs, per row
    decode(curves, valid, **overrides) -> ([Detection], {type: Curve})   NumPy: one video
    streams(problem) -> names                     what must lie on the device
    valid(problem) -> name                        the stream that says which rows there are
    transfer(variables, earlier) -> variables     start from what was learnt before
    frozen(params) -> tree of bool                what training leaves as it is

and, where a system needs them,

    scored(video, valid, problem) -> Samples      NumPy: what is scored of a video, if not its rows
    constants(streams, rows) -> tree              NumPy: measured on the rows a fold trains on; it
                                                  becomes `variables["constants"]`, of which `init`
                                                  gives one of the same shapes
    accepts(training, validation) -> str          why such a split of videos is no good
    judge(outputs, samples) -> f32[B, K]          merits of a validation sample, compared in order
                                                  (its inputs see a field `judged`: no augmentation)
    tune(curves, valid, videos) -> overrides      NumPy: decoding options chosen on these videos
    before: System                                the stage that is trained first

A *sample* is one line of a table (`Samples`: arrays with a common first axis): SOFTNet's is
(row, label, augmentation); SpotFormer's is a block of 16 rows with 8 label tracks; MESNet's is the
start of a clip with its expressions; cnn3d's is a row whose skips are drawn in `inputs` from the
key.  Its field `row` i32[N] or i32[N, n] names the rows that it reads, each with the `reach - 1`
rows after it.
A system with emotion `classes` gives them as the last columns of its scores, neutral last of all;
it is also asked for its scores of the events, which recognition is judged by.
Losses of any number of terms (SpotFormer's contrastive one included) live in `loss`; batch norm
keeps its statistics in `variables` and masks padding with `weight`.

**Fold plan.**  A fold is one LOSO subject of one problem.  Its sample table is made of the other
subjects' videos alone, so a label of the held-out subject cannot reach training.  An epoch is
`i32[F, S, B]` into those tables, -1 for padding; a step of padding only is an exact no-op, so
ragged folds share one program.  Randomness is drawn from (seed, fold, step); a
fold's result does not depend on which folds ran beside it.

**Stages.**  A system may have a stage `before` it (MESNet's pre-training): a `System` of its own,
trained on the same folds, whose result each fold starts from.  SFAMNet's 7-class fine-tuning is a
run of its own that starts from an earlier one (`train.start`): each fold from the fold that held
out the same subject.

**Validation.**  Some of the other subjects' videos may be kept out of a fold's training
(`train.validation`).  A fold then remembers the parameters that they like best and may stop when
they like nothing new (`train.validate_every`, `train.patience`); a stopped fold is a no-op of the
common program.  Several initialisations of a fold (`train.initialisations`) are further folds of
that program, and the one that its validation likes best stays.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Samples = dict[str, np.ndarray]
"""Sample table: arrays `[N, ...]` with a common first axis."""


class Interval(NamedTuple):
    """An annotated expression; frames 0-based inclusive, apex -1 where unknown."""

    onset: int
    apex: int
    offset: int
    type: str
    emotion: str = ""


class Detection(NamedTuple):
    """A spotted expression; frames 0-based inclusive, apex is the frame of highest score."""

    onset: int
    apex: int
    offset: int
    type: str
    score: float
    emotion: str = ""
    """Recognised emotion, `neutral` included; empty where the system recognises none."""


class Video(NamedTuple):
    """One long video of a loaded data set."""

    subject: str
    name: str
    fps: float
    first_row: int
    """Row of frame 0 in the concatenated streams."""
    num_frames: int
    frame_ids: np.ndarray
    """i32[T]: the data set's own number of each frame."""
    intervals: tuple[Interval, ...]
    first_event: int = 0
    """Row of its first interval in the concatenated event streams."""

    @property
    def rows(self) -> slice:
        """This video's rows in the concatenated streams."""
        return slice(self.first_row, self.first_row + self.num_frames)

    @property
    def events(self) -> slice:
        """The rows of this video's intervals in the concatenated event streams."""
        return slice(self.first_event, self.first_event + len(self.intervals))

    @property
    def id(self) -> str:
        """`subject/name`."""
        return f"{self.subject}/{self.name}"


class Dataset(NamedTuple):
    """All videos of a manifest with their streams concatenated over videos."""

    name: str
    videos: tuple[Video, ...]
    streams: Mapping[str, np.ndarray]
    """`[R, ...]` per stream, R the frames of all videos (event streams: their intervals)."""
    k: Mapping[str, int]
    """Frames between the images of a pair, per expression type."""
    manifest: Mapping[str, Any]

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects in the order of the videos (natural order of the data set)."""
        return tuple(dict.fromkeys(video.subject for video in self.videos))


class System(NamedTuple):
    """The functions described above.  Built by `spotjax.systems.build(config, k)`."""

    name: str
    problems: tuple[str, ...]
    targets: Callable[..., Samples]
    select: Callable[..., Samples]
    init: Callable[..., Any]
    inputs: Callable[..., Any]
    apply: Callable[..., Any]
    loss: Callable[..., Any]
    scores: Callable[..., Any]
    decode: Callable[..., tuple[list[Detection], dict[str, Any]]]
    streams: Callable[[str], tuple[str, ...]]
    types: tuple[str, ...] = ("macro", "micro")
    """Expression types that it spots."""
    about: Mapping[str, Any] = {}
    """How it decodes, in words for the protocol."""
    variants: tuple[Mapping[str, Any], ...] = ({},)
    """Decoding options shown side by side in the report."""
    valid: Callable[[str], str] = "valid_{}".format
    reach: int = 1
    """Rows that a training sample reads, from its own on."""
    classes: tuple[str, ...] = ()
    """Emotions that it recognises, `neutral` last; empty if it only spots."""
    transfer: Callable[[Any, Any], Any] | None = None
    frozen: Callable[[Any], Any] | None = None
    scored: Callable[..., Samples] | None = None
    look: int = 1
    """Rows that scoring a sample reads, from its own on."""
    constants: Callable[[Mapping[str, np.ndarray], np.ndarray], Any] | None = None
    accepts: Callable[[Sequence[Video], Sequence[Video]], str] | None = None
    judge: Callable[[Any, Any], Any] | None = None
    merits: int = 0
    """K, the number of merits that `judge` gives."""
    tune: Callable[..., Mapping[str, Any]] | None = None
    before: Any = None
    sweeps: Mapping[str, tuple[Any, ...]] = {}
    """Values of decoding options that `spotjax.vary` shows, as in the paper's tables."""
