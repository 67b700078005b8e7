"""How each value of the papers' tables comes about: data alone, which `reproduce` carries out.

A `Recipe` names the configs of a table's data sets and, for every printed row, a `How`: a training,
another decoding or counting of its saved scores, a baseline, a setting, or why not.  The values
themselves stand in `paper_tables.json` and nowhere else.
"""

from spotjax.papers.reproduce_plan import How, Recipe, Unseen

OTHER = How(why_not="another system, which is not built here")
ELSEWHERE = How(why_not="in the tables of its own paper")

# --- SOFTNet --------------------------------------------------------------------------------------

MACRO = {"system.types": "macro"}
_SOFTNET = Recipe(
    {"casme2": "configs/softnet_casme2.py", "samm_lv": "configs/softnet_samm_lv.py"},
    "configs/demo.py",
    {"SOFTNet": How()},
    protocol=("evaluation.videos=annotated_only", "evaluation.rule=softnet"),
)
_BACKBONES = {
    "MobileNetV2": "mobilenet_v2", "ResNet-18": "resnet18", "ResNet-50": "resnet50",
    "VGG-16": "vgg16",
}  # fmt: skip
_SOFTNET_TABLES = {
    "1": _SOFTNET._replace(
        rows={
            "SOFTNet": How(),
            "Ours w/o SOFTNet": How(baseline="strain_sum"),
            "Baseline MDMD [20]": How(baseline="mdmd"),
            "*": OTHER,
        },
    ),
    "2": _SOFTNET._replace(rows={"SOFTNet: p=0.55": How(decoding=("system.p=0.55",))}),
    "3": _SOFTNET._replace(
        rows={
            "SOFTNet": How(),
            **{row: How(preset, MACRO) for row, preset in _BACKBONES.items()},
        },
        notes=(
            "inference_time_s: the network on the pairs of a video of the data set's mean length, "
            "on this machine; the paper does not say of what its seconds are.",
            "parameters_M counts the statistics of batch norms, as Keras does; the printed "
            "ResNet-50 has biases before them too.",
        ),
    ),
    "text 3.2": _SOFTNET._replace(
        rows={
            "SOFTNet: pseudo-label unit step": How(),
            "SOFTNet: pseudo-label linear": How("linear", MACRO),
            "SOFTNet: pseudo-label step": How("step4", MACRO),
        }
    ),
    "4": _SOFTNET._replace(rows={"SOFTNet: p=*": How(decoding=("system.p={p}",))}),
    "5": _SOFTNET._replace(rows={"w/o SOFTNet: p=*": How(baseline="strain_sum", p="{p}")}),
    "6": _SOFTNET._replace(protocol=()),
}

# --- SFAMNet --------------------------------------------------------------------------------------

_FLOWS = {
    "SFAMNet: features O": How("optical"),
    "SFAMNet: features S": How("scene"),
    "SFAMNet: features H": How(),
}
_SCENE = {"system.flow": "scene"}
_SFAMNET = Recipe(
    {"casme3": "configs/sfamnet_casme3.py"},
    "configs/sfamnet_demo.py",
    _FLOWS,
    protocol=("evaluation.rule=sfamnet",),
)
_OF_SCENE = ("Its full rows repeat the values of scene flow, so all rows are of scene flow.",)
_SFAMNET_TABLES = {
    "1": _SFAMNET._replace(rows=_FLOWS | {"*": OTHER}),
    "2": _SFAMNET._replace(rows=_FLOWS | {"*": OTHER}),
    "3": _SFAMNET._replace(rows=_FLOWS | {"*": OTHER}),
    "4": _SFAMNET,
    "5": _SFAMNET._replace(
        rows={
            "SFAMNet: G/T": How("events", _SCENE),
            "SFAMNet: SW": How("windows", _SCENE),
            "SFAMNet: G/T+SW": How("scene"),
        },
        notes=(*_OF_SCENE, "training samples: of the first fold, negatives included."),
    ),
    "6": _SFAMNET._replace(
        rows={
            "SFAMNet: O_u,O_v": How("optical_uv"),
            "SFAMNet: O_eps": How("strain"),
            "SFAMNet: O_u,O_v,O_eps": How("optical"),
            "SFAMNet: S_u,S_v": How("scene_uv"),
            "SFAMNet: S_w": How("scene_w"),
            "SFAMNet: S_u,S_v,S_w": How("scene"),
            "SFAMNet: O_u,O_v,S_w": How(),
        }
    ),
    "7": _SFAMNET._replace(
        rows={
            "SFAMNet: hard pseudo-labels": How("scene"),
            "SFAMNet: soft pseudo-labels": How("soft", _SCENE),
        },
        notes=_OF_SCENE,
    ),
    "8": _SFAMNET._replace(
        rows={
            "SFAMNet: multi-stream": How("scene"),
            "SFAMNet: single-stream": How("joint", _SCENE),
        },
        notes=_OF_SCENE,
    ),
}

# --- MESNet ---------------------------------------------------------------------------------------

_CPN, _CRN = ("system.module=cpn",), ("system.module=crn",)
_MESNET = Recipe(
    {"casme2": "configs/mesnet_casme2.py", "samm": "configs/mesnet_samm_lv.py"},
    "configs/mesnet_demo.py",
    {},
    protocol=("evaluation.rule=mesnet",),
    notes=(
        "samm: SAMM-LV (147 videos) in place of SAMM's original release (224): precision does not "
        "compare.",
        "The paper reports the median of three splits: --seeds 3.",
    ),
)


def _modules(variant: str, decoding: tuple[str, ...] = (), preset: str = "") -> dict[str, How]:
    """Rows of both modules: of one variant, or with `*` of any."""
    return {
        f"MESNet-{name}: {variant}": How(preset, decoding=module + decoding)
        for name, module in (("CPN", _CPN), ("CRN", _CRN))
    }


_MESNET_TABLES = {
    "IV": _MESNET._replace(rows=_modules("general")),
    "V": _MESNET._replace(
        rows=_modules("without pretraining", preset="scratch") | _modules("with pretraining")
    ),
    "VI": _MESNET._replace(rows=_modules("share", preset="share") | _modules("not share")),
    "VII": _MESNET._replace(
        rows=_modules("T_CPN=*,T_CRN=*", decoding=("system.t_cpn={T_CPN}", "system.t_crn={T_CRN}"))
    ),
    "VIII": _MESNET._replace(rows=_modules("T_nms=*", decoding=("system.t_nms={T_nms}",))),
    "IX": _MESNET._replace(rows=_modules("T_eval=*", decoding=("evaluation.iou={T_eval}",))),
    "X": _MESNET._replace(
        rows={
            **_modules("general"),
            **_modules("high F1", decoding=("evaluation.threshold_choice=oracle",)),
            "MDMD: general": How(baseline="mdmd"),
            "MDMD: high F1": How(baseline="mdmd", p="best"),
            "LBP-chi2: general": How(baseline="lbp_chi2"),
            "LBP-chi2: high F1": How(baseline="lbp_chi2", p="best"),
            "*": OTHER,
        }
    ),
}

# --- two-stream 3D-CNN ----------------------------------------------------------------------------

_CNN3D = Recipe(
    {"samm_lv": "configs/cnn3d_samm_lv.py", "casme2": "configs/cnn3d_casme2.py"},
    "configs/cnn3d_demo.py",
    {},
)
_CHALLENGE = How(why_not="MEGC 2022 gives its test videos to the challenge's teams alone")
_CNN3D_TABLES = {
    "1": _CNN3D._replace(
        rows={
            "3D-CNN": How(
                keys={"k_frames": "system.k_{type}", "random_skip_range": "system.skips_{type}"}
            )
        },
        notes=("Settings of the configs; those of the rendered set are CAS(ME)^2's.",),
    ),
    "2": _CNN3D._replace(
        rows={"3D-CNN": How(), "3D-CNN: cropped": How(), "*": OTHER},
        own={"3D-CNN, no local contrast normalisation": How("no_lcn")},
        notes=(
            "cropped: the faces of the release; ours are aligned crops (features.alignment=box: "
            "the detector's box).",
        ),
    ),
    "3": _CNN3D._replace(
        sets={"samm_lv": "configs/cnn3d_samm_lv.py"},
        rows={"3D-CNN": _CHALLENGE},
        own={"3D-CNN, another data set, unseen": How(unseen=True)},
        unseen=Unseen(
            "casme2", "configs/cnn3d_casme2.py", "configs/cnn3d_demo.py",
            # as many frames as no video of the other has: spotjax.unseen refuses known videos
            {
                "data.synthetic.root": "data/demo_calm_unseen",
                "data.synthetic.seed": "1",
                "data.synthetic.seconds": "20",
            },
        ),
        notes=("Trained on SAMM-LV, tested on CAS(ME)^2, which no fold has seen.",),
    ),
    "text 4.1": _CNN3D._replace(
        sets={"casme2": "configs/cnn3d_casme2.py"},
        rows={"3D-CNN: OpenFace-aligned, as printed": How()},
        notes=("Aligned as OpenFace does, by our landmarks (features.alignment=landmarks).",),
    ),
}  # fmt: skip

# --- SpotFormer -----------------------------------------------------------------------------------

_SPOTFORMER = Recipe(
    {"samm_lv": "configs/spotformer_samm_lv.py", "casme2": "configs/spotformer_casme2.py"},
    "configs/spotformer_demo.py",
    {"SpotFormer": How()},
    protocol=("evaluation.epoch_choice=oracle", "evaluation.rule=spotformer"),
    always=("train.score_every=1",),
)
_WINDOWS, _WEIGHTS = (9, 11, 15, 19, 21, 25), ("0.0", "0.001", "0.003", "0.008", "0.01", "0.03",
                                               "0.05")  # fmt: skip
_SPOTFORMER_TABLES = {
    "I": _SPOTFORMER._replace(
        rows={
            "SpotFormer": How(),
            **dict.fromkeys(("SOFTNet", "MESNet", "3D-CNN", "MDMD"), ELSEWHERE),
            "*": OTHER,
        }
    ),
    "II": _SPOTFORMER._replace(
        sets={"casme3": "configs/spotformer_casme3.py"}, rows={"SpotFormer": How(), "*": OTHER}
    ),
    "III": _SPOTFORMER._replace(
        rows={
            "SpotFormer: row1 (no SW-MRO, no FLGP)": How("adjacent_no_flgp"),
            "SpotFormer: row2": How("adjacent"),
            "SpotFormer: row3": How("no_flgp"),
            "SpotFormer: row4 full": How(),
        },
        notes=(
            "row2: FLGP without SW-MRO (by the gain that the text states); row3: SW-MRO alone.",
        ),
    ),
    "IV": _SPOTFORMER._replace(
        rows={
            "SpotFormer: Simul-ST": How(),
            "SpotFormer: Seq-ST": How("seq_st"),
            "SpotFormer: Paral-ST": How("paral_st"),
            "SpotFormer: Paral-ST (no addi. para.)": How("paral_st_shared"),
            "SpotFormer: Simul-TS": How("simul_ts"),
        }
    ),
    "V": _SPOTFORMER._replace(
        sets={"samm_lv": "configs/spotformer_samm_lv.py"},
        rows={
            "SpotFormer: window=17": How(),
            **{f"SpotFormer: window={w}": How(f"window{w}") for w in _WINDOWS},
        },
    ),
    "VI": _SPOTFORMER._replace(
        rows={
            "SpotFormer: lambda=0.005": How(),
            **{f"SpotFormer: lambda={w}": How(f"lambda{float(w):g}") for w in _WEIGHTS},
        }
    ),
    "VII": _SPOTFORMER,
}

RECIPES: dict[str, dict[str, Recipe]] = {
    "softnet": _SOFTNET_TABLES,
    "sfamnet": _SFAMNET_TABLES,
    "mesnet": _MESNET_TABLES,
    "cnn3d": _CNN3D_TABLES,
    "spotformer": _SPOTFORMER_TABLES,
}
"""By paper and table."""

NOT_HERE: dict[str, dict[str, str]] = {
    "softnet": {
        "repository": "of the authors' weights: spotjax.convert reads them if you have them"
    },
    "sfamnet": {"text 4.3": "settings; they are the defaults of config.system"},
    "mesnet": {"III": "the authors' pre-training of one fold; ours stands in each run's log.jsonl"},
    "cnn3d": {"text": "settings; they stand in configs/cnn3d_samm_lv.py"},
    "spotformer": {
        "text 4.1": "settings; they are the defaults of config.system and of the configs",
        "text 4.2": "a count of annotations: python -m data_prep.check",
    },
    "megc2020": {"README": "python -m spotjax.score on the public predictions"},
    "megc2025": {"MEAN": "another system, which is not built here"},
}
"""Tables that are not reproduced, and why."""
