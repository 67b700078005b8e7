"""Named sets of choices: what a paper says, and what its authors' code does."""

from dataclasses import replace
from typing import Any, NamedTuple

from spotjax.config import Evaluate, Softnet, Stage, Train


class Preset(NamedTuple):
    """The sections of a Config that a preset decides."""

    system: Softnet
    train: Train
    evaluation: Evaluate


def softnet(name: str) -> Preset:
    """SOFTNet's `paper` or `release`, or one of `SOFTNET_ABLATIONS` of the paper's.

    The differences of the first two stand in `spotjax/systems/softnet.py`.

    `paper`: plain SGD 5e-4, batch 12, 10 epochs, symmetric smoothing, all videos counted one to
    one.  `release`: the same training with one order of samples, the onset lost from the labels,
    int(max(count0, count1) / 2) negatives, the asymmetric window, a placeholder prediction in
    silent videos, and only videos that contain the type counted, by the release's rule.
    Raises ValueError for another name.
    """
    known = ("paper", "release", *SOFTNET_ABLATIONS)
    if name not in known:
        raise ValueError(f"unknown preset {name!r}: {', '.join(known)}")
    release = name == "release"
    change = SOFTNET_ABLATIONS.get(name, Ablation(""))
    system: dict[str, Any] = {"pseudo_label": "unit_release" if release else "unit"}
    return Preset(
        system=Softnet(
            **(system | change.system),
            negatives="half_release" if release else "half",
            smoothing="release" if release else "paper",
            silent_proposal=release,
        ),
        train=Train(
            epochs=10, batch=12, optimizer="sgd", learning_rate=5e-4, reshuffle=not release
        ),
        evaluation=Evaluate(
            videos="annotated_only" if release else "all",
            rule="softnet" if release else "one_to_one",
        ),
    )


def spotformer_training() -> Train:
    """SpotFormer's optimisation: 32 blocks of 16 clips a step, 100 epochs of AdamW, step x 0.96."""
    return Train(
        epochs=100,
        batch=32,
        optimizer="adamw",
        learning_rate=2e-4,
        decay=0.96,
        beta1=0.7,
        beta2=0.9,
        weight_decay=0.1,
    )


def sfamnet_training() -> Train:
    """SFAMNet's optimisation as released: 1,001 updates of Adam with 1,024 samples each."""
    return Train(epochs=1001, updates=1001, batch=1024, optimizer="adam", learning_rate=1e-4)


def sfamnet_fine_tuning(start: str) -> Train:
    """The same, each fold from the fold of the run `start` that held out the same subject."""
    return replace(sfamnet_training(), start=start)


def mesnet_pretraining() -> Stage:
    """At most 10,000 updates, judged about every 250; the best of 3 initialisations."""
    return Stage(
        epochs=200,
        updates=10_000,
        batch=2,
        optimizer="adam",
        learning_rate=1e-4,
        validate_every=5,
        patience=10,
        patience_after=1500,
        initialisations=3,
        checkpoint_every=5,
    )


def mesnet_training(epochs: int) -> Train:
    """MESNet's main stage: 7:3 of the videos, batches of two clips, the last parameters."""
    return Train(
        epochs=epochs,
        batch=2,
        optimizer="adam",
        learning_rate=1e-4,
        validation=0.3,
        validation_of="videos",
    )


def cnn3d_training() -> Train:
    """The 3D-CNN's optimisation: a fifth of the subjects judge, three epochs of patience."""
    return Train(
        epochs=20,
        batch=32,
        optimizer="adam",
        learning_rate=1e-3,
        validation=0.2,
        validate_every=1,
        patience=3,
    )


class Ablation(NamedTuple):
    """A named change of a config: what it is, and the keys of its system and features."""

    text: str
    system: dict[str, Any] = {}
    features: dict[str, Any] = {}
    pretrain: bool = True
    """Whether there is a stage before, where the system has one."""
    seed: int = 0


SOFTNET_RELEASE = {"release": "the choices of the authors' code"}
SOFTNET_ABLATIONS = {
    "linear": Ablation("pseudo-labels are the overlap itself (section 3.2)",
                       {"pseudo_label": "linear"}),
    "step4": Ablation("pseudo-labels rise in four steps (section 3.2)", {"pseudo_label": "step4"}),
    "mobilenet_v2": Ablation("MobileNetV2 as the network (table 3)", {"backbone": "mobilenet_v2"}),
    "resnet18": Ablation("ResNet-18 as the network (table 3)", {"backbone": "resnet18"}),
    "resnet50": Ablation("ResNet-50 as the network (table 3)", {"backbone": "resnet50"}),
    "vgg16": Ablation("VGG-16 as the network (table 3)", {"backbone": "vgg16"}),
}  # fmt: skip
SPOTFORMER_ABLATIONS = {
    "adjacent": Ablation("flow between neighbours instead of SW-MRO (table III)",
                         features={"motion": "adjacent"}),
    "no_flgp": Ablation("mean over the nodes instead of FLGP (table III)", {"pooling": "mean"}),
    "adjacent_no_flgp": Ablation("both of them (table III)", {"pooling": "mean"},
                                 {"motion": "adjacent"}),
    "seq_st": Ablation("spatial, then temporal attention (table IV)", {"variant": "seq_st"}),
    "simul_ts": Ablation("temporal before spatial attention (table IV)", {"variant": "simul_ts"}),
    "paral_st": Ablation("both side by side (table IV)", {"variant": "paral_st"}),
    "paral_st_shared": Ablation("both side by side, shared (table IV)",
                                {"variant": "paral_st_shared"}),
    **{
        f"window{w}": Ablation(f"a clip of {w} frames (table V)", {"window": w}, {"window": w})
        for w in (9, 11, 15, 19, 21)
    },
    "window25": Ablation("a clip of 25 frames, down-sampled five times (table V)",
                         {"window": 25, "paddings": (0, 1, 1, 1, 1)}, {"window": 25}),
    **{
        f"lambda{weight:g}": Ablation(f"contrastive loss times {weight:g} (table VI)",
                                      {"contrastive": weight})
        for weight in (0.0, 0.001, 0.003, 0.008, 0.01, 0.03, 0.05)
    },
}  # fmt: skip
SFAMNET_ABLATIONS = {
    "optical": Ablation("u, v and strain of optical flow (tables 1 and 4: O)", {"flow": "optical"}),
    "scene": Ablation("u, v and w of scene flow (tables 1 and 4: S)", {"flow": "scene"}),
    "events": Ablation("trained on onset-apex pairs alone (table 5: G/T)", {"sampling": "events"}),
    "windows": Ablation("trained on sliding windows alone (table 5: SW)", {"sampling": "windows"}),
    "optical_uv": Ablation("optical u and v (table 6)", {"flow": "optical", "streams": ("u", "v")}),
    "strain": Ablation("optical strain alone (table 6)", {"flow": "optical", "streams": ("w",)}),
    "scene_uv": Ablation("scene flow's u and v (table 6)",
                         {"flow": "scene", "streams": ("u", "v")}),
    "scene_w": Ablation("motion in depth alone (table 6)", {"flow": "scene", "streams": ("w",)}),
    "soft": Ablation("soft pseudo-labels (table 7)", {"soft": True}),
    "joint": Ablation("one stream for all channels (table 8)", {"joint": True}),
    "no_cbam": Ablation("without attention", {"cbam": False}),
    "first_half": Ablation("positive rows in the first half of the onset phase (paper's text)",
                           {"pseudo_label": "paper"}),
}  # fmt: skip
CNN3D_ABLATIONS = {
    "no_lcn": Ablation("without local contrast normalisation", {"lcn": False}),
    "near": Ablation("the near pair alone", {"streams": "micro"}),
    "far": Ablation("the far pair alone", {"streams": "macro"}),
    "backward": Ablation("the reference is an earlier frame", {"reference": "backward"}),
    "centred": Ablation("the frame lies in the middle of its pair", {"reference": "centred"}),
    "regular": Ablation("a usual first convolution", {"first_conv": "regular"}),
    "random": Ablation("first filter begins at random", {"first_init": "random"}),
    "no_augment": Ablation("without augmentation", {"augment": False}),
    "corner": Ablation("threshold nearest to the corner of the ROC", {"threshold_rule": "corner"}),
    "f1": Ablation("threshold of best F1 of intervals", {"threshold_rule": "f1"}),
}
MESNET_ABLATIONS = {
    "scratch": Ablation("without pre-training (table V)", pretrain=False),
    "share": Ablation("CPN and CRN share the temporal convolutions (table VI)", {"share": True}),
    "proposal_length": Ablation("ends off by parts of the proposal's length, not the expression's",
                                {"decode": "proposal_length"}),
    "simultaneous": Ablation("what is itself suppressed suppresses others",
                             {"nms": "simultaneous"}),
}  # fmt: skip
"""Rows of the papers' tables."""
MESNET_SPLITS = {
    f"split{seed}": Ablation(f"another split and initialisation (seed {seed})", seed=seed)
    for seed in (1, 2)
}
"""With the plain config the three of which MESNet's paper reports the median."""


def texts(ablations: dict[str, Ablation]) -> dict[str, str]:
    """A config file's `PRESETS`."""
    return {name: ablation.text for name, ablation in ablations.items()}


def chosen(ablations: dict[str, Ablation], name: str) -> Ablation:
    """The ablation `name`, empty for none.  Raises ValueError for an unknown one."""
    if name and name not in ablations:
        raise ValueError(f"unknown preset {name!r}: {', '.join(ablations)}")
    return ablations.get(name, Ablation(""))


def suffix(name: str) -> str:
    """What a preset adds to the name of a config."""
    return f"_{name}" if name else ""
