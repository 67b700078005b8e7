"""Weights that authors released, as `parameters.weights.Weights`: parameters with their config.

The config is what the weights were made with, as far as the release tells:

* SOFTNet: TV-L1 flow, one strip over both eyes, k of the data set, p = 0.55 and the asymmetric
  smoothing.  The release's placeholder for videos without a peak, which only matters to its
  counting, is left out.
* SFAMNet: every second frame of 30 per second.  The released code reads its three channels from
  files of "rgbd-flow": scene flow (u, v, w), in units that the release does not tell.  Nothing in
  it is said to be of the hybrid flow that gave the paper's best figures.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from spotjax import presets
from spotjax.config import (
    EXPRESSION_TYPES,
    Annotation,
    Config,
    Data,
    Flow,
    Sfamnet,
    SfamnetFeatures,
    SoftnetFeatures,
)
from spotjax.errors import UserError, one_line
from spotjax.parameters import released, released_files, weights
from spotjax.parameters.weights import Weights

DATA_SETS = {"casme2": "CAS(ME)^2", "samm_lv": "SAMM-LV"}
K = {"casme2": {"macro": 18, "micro": 6}, "samm_lv": {"macro": 174, "micro": 37}}
"""k of SOFTNet's paper: half the mean length of an expression, in frames of the data set."""
FPS = {"casme2": 30.0, "samm_lv": 200.0}
DATA_SET_NAMES = {
    "casme2": re.compile(r"CAS\(?ME\)?[_ ^-]*(sq|2)", re.I),
    "samm_lv": re.compile("SAMM", re.I),
}
TYPE_NAMES = {type: re.compile(type, re.I) for type in EXPRESSION_TYPES}
"""How file names and folders tell the data set and the type."""

Reader = Callable[[Path], dict[str, np.ndarray]]
Placer = Callable[[Mapping[str, np.ndarray]], dict[str, Any]]


class Read(NamedTuple):
    """A released file that can be used."""

    path: Path
    name: str
    params: dict[str, Any]
    sha256: str


def softnet(paths: Sequence[Path], type: str, dataset: str, skip_bad: bool) -> Weights:
    """SOFTNet's released files, all of one data set; several of one type are its folds.

    `type` and `dataset` are told by the names where they are empty.  Raises UserError naming the
    file: data set or type not told, of another data set than the others, not SOFTNet's, not finite.
    """
    given = [(path, dataset or _told(path, DATA_SET_NAMES, "--dataset")) for path in paths]
    for path, name in given:
        if name != given[0][1]:
            raise UserError(
                f"{path}: is of {DATA_SETS[name]}, {given[0][0]} of {DATA_SETS[given[0][1]]}: "
                "convert each data set to a file of its own"
            )
    data_set = given[0][1]
    kinds = {path: type or _told(path, TYPE_NAMES, "--type") for path in paths}
    files, left = _readable(paths, skip_bad, released_files.read_keras, released.softnet)
    of = {kind: [f for f in files if kinds[f.path] == kind] for kind in EXPRESSION_TYPES}
    members: dict[str, list[Read]] = {kind: mine for kind, mine in of.items() if mine}
    variables = {kind: _stacked([f.params for f in mine]) for kind, mine in members.items()}
    k = {kind: K[data_set][kind] for kind in members}
    release = presets.softnet("release")
    config = Config(
        name=f"softnet_{data_set}_released",
        data=Data(layout=cast(Any, data_set)),
        features=SoftnetFeatures(
            k_macro=k.get("macro"), k_micro=k.get("micro"), roi="strip", flow=Flow(method="tvl1")
        ),
        system=replace(release.system, types=cast(Any, tuple(k)), silent_proposal=False),
        train=release.train,
        evaluation=release.evaluation,
    )
    counts = ", ".join(f"{kind} {len(mine)}" for kind, mine in members.items())
    notes = (
        f"SOFTNet's released weights (Liong et al. 2021), trained on {DATA_SETS[data_set]}, whose "
        "licence is for academic research; the release states no licence of its own",
        *left,
    )
    source = f"SOFTNet as released, {DATA_SETS[data_set]}, folds: {counts}"
    ordered = [file for mine in members.values() for file in mine]
    return _weights(config, k, FPS[data_set], variables, ordered, source, notes)


def sfamnet(paths: Sequence[Path], flow: str, skip_bad: bool) -> Weights:
    """SFAMNet's released files, all of four or all of seven emotions: its folds.

    `flow` is what it is to be given: scene, hybrid or optical.  Raises UserError naming the file:
    not SFAMNet's, not finite, of another number of emotions than the others.
    """
    files, left = _readable(paths, skip_bad, released_files.read_torch, released.sfamnet)
    counts = [len(file.params["recognition"]["linear"]["bias"]) - 1 for file in files]
    for file, count in zip(files, counts, strict=True):
        if count not in (4, 7) or count != counts[0]:
            raise UserError(
                f"{file.path}: is of {count} emotions, {files[0].path} of {counts[0]}: give files "
                "that are all of four, or all of seven"
            )
    classes = "four" if counts[0] == 4 else "seven"
    config = Config(
        name=f"sfamnet_casme3_{classes}_released",
        data=Data(
            layout="casme3",
            sample_every=2,
            sample_rule="floor",
            annotation=Annotation(emotions="seven", long_micro="symmetric"),
        ),
        features=SfamnetFeatures(scene=flow != "optical"),
        system=Sfamnet(flow=cast(Any, flow), classes=cast(Any, classes)),
        train=presets.sfamnet_training(),
    )
    notes = [
        "SFAMNet's released weights (Liong et al. 2024): BSD 3-Clause, (c) 2023 Universiti Malaya; "
        "trained on CAS(ME)^3, whose licence is for academic research"
    ]
    if flow == "optical":
        notes.append(
            "trained on scene flow of colour and depth, but given optical flow and its strain: "
            "scores are not those that its authors measured"
        )
    else:
        notes.append(
            "trained on scene flow, which needs depth: a video without depth can only be given "
            "optical flow, which it was not trained on"
        )
    if flow == "hybrid":
        notes.append("given optical u and v with scene flow's w, where its release has scene flow")
    variables = {"both": _stacked([file.params for file in files])}
    source = f"SFAMNet as released, CAS(ME)^3, {classes} emotions, folds: {len(files)}"
    k = {"macro": 3, "micro": 3}  # rows in 0.2 s, of every second frame
    return _weights(config, k, 15.0, variables, files, source, [*notes, *left])


def _told(path: Path, known: Mapping[Any, re.Pattern[str]], option: str) -> str:
    """What the name of a file, or else of its two folders, says.  Raises UserError."""
    for part in path.resolve().parts[:-4:-1]:
        if found := [name for name, pattern in known.items() if pattern.search(part)]:
            if len(found) == 1:
                return found[0]
            break
    choices = " or ".join(known)
    raise UserError(f"{path}: neither its name nor its folders tell it: add {option} {choices}")


def _readable(
    paths: Sequence[Path], skip_bad: bool, read: Reader, place: Placer
) -> tuple[list[Read], list[str]]:
    """The files with their parameters, and what was left out; UserError for a bad file."""
    plain = [path.name for path in paths]
    found: dict[str, Read] = {}
    left: list[str] = []
    for path in paths:
        # as released, s1.hdf5 is in the folder of each type
        folder = f"{path.resolve().parent.name}/" if plain.count(path.name) > 1 else ""
        name = folder + path.name
        try:
            file = Read(path, name, _finite(path, read, place), _sha256(path))
        except UserError as error:
            if not skip_bad:
                hint = "; --skip-bad leaves it out" if len(paths) > 1 else ""
                raise UserError(f"{error}{hint}") from None
            left.append(f"left out: {one_line(error).replace(str(path), name, 1)}")
            continue
        if file.sha256 in found:
            raise UserError(f"{path}: has the same content as {found[file.sha256].path}")
        found[file.sha256] = file
    if not found:
        raise UserError(f"none of the {len(paths)} files can be converted; {left[0]}")
    return list(found.values()), left


def _finite(path: Path, read: Reader, place: Placer) -> dict[str, Any]:
    tensors = read(path)
    try:
        params = place(tensors)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if bad := released.non_finite(tensors):
        raise UserError(
            f"{path}: tensor {bad[0]} has NaN or infinite values ({len(bad)} of {len(tensors)} "
            "tensors have): this fold is dead, it can spot nothing"
        )
    return params


def _stacked(params: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Variables with leaves `[F, ...]` of the params of F folds."""
    return {"params": jax.tree.map(lambda *leaves: np.stack(leaves), *params)}


def _weights(
    config: Config,
    k: dict[str, int],
    fps: float,
    variables: dict[str, Any],
    files: Sequence[Read],
    source: str,
    notes: Sequence[str],
) -> Weights:
    return Weights(
        config=config,
        k=k,
        fps=fps,
        variables=variables,
        folds=tuple(file.name for file in files),
        options={},
        source=source,
        sha256=weights.content_hash(variables),
        notes=tuple(notes),
        origins=tuple((file.name, file.sha256) for file in files),
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
