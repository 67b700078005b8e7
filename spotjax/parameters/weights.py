"""A trained system apart from its training: parameters, and what using them takes.

**File**: one `.npz` (`NAME.spotjax.npz`), read without pickle.  The array `meta` is a JSON text
with the config, the frame rate, k, the folds and where they come from; every other array is a leaf
of the parameters by its place, `macro/params/conv_u/kernel`, the folds first: f32[F, 5, 5, 1, 3].
The same weights give the same bytes.

**Run directory**: the parameters that the training of each fold has ended with.  Frame rate and k
are those of its shards, or what the run and the data set's layout say where the shards are gone.
"""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import jax
import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from spotjax import files
from spotjax.config import Config, ExpressionType, section
from spotjax.errors import UserError
from spotjax.parameters import run_weights
from spotjax.parameters.released_files import ZIP
from spotjax.systems import build
from spotjax.types import System

SUFFIX = ".spotjax.npz"
VERSION = 1
CONVERT = "python -m spotjax.convert makes one of a run or of released weights"
SLACK = 4096  # bytes of an array's header, at most
LARGEST_META = 1 << 24  # bytes


class Weights(NamedTuple):
    """A trained system; see the module."""

    config: Config
    """Its `features` and `system` are what counts."""
    k: dict[str, int]
    """Frames between the images of a pair by expression type, at `fps`."""
    fps: float
    """Frames per second of the rows that it was trained on, after `data.sample_every`."""
    variables: dict[str, Any]
    """By problem; leaves `[F, ...]` of F trained folds, whose scores are averaged.  Of released
    weights each problem may have an F of its own: `num_folds`."""
    folds: tuple[str, ...]
    """Held-out subjects of the F folds, or the names of the released files of all problems."""
    options: dict[str, Any]
    """Decoding options (keys of `config.system`) that replace the config's."""
    source: str
    """Where it comes from, in one line."""
    sha256: str
    """Of the file, or of a run's parameters."""
    notes: tuple[str, ...]
    """What must be said with every result."""
    origins: tuple[tuple[str, str], ...] = ()
    """(name, SHA-256) of every file, or of the run, that it was made of."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Networks that score."""
        return tuple(self.variables)

    def num_folds(self, problem: str) -> int:
        """F, the trained folds of a problem."""
        return len(jax.tree.leaves(self.variables[problem])[0])

    def system(self) -> System:
        """The `System` of the config at this k."""
        return build(self.config.system, self.k)


@section
class _Meta:
    """The JSON text of a file."""

    format: Literal["spotjax weights"] = "spotjax weights"
    version: int = VERSION
    config: Config
    k: dict[ExpressionType, int]
    fps: float = Field(gt=0, le=1000, allow_inf_nan=False)
    folds: tuple[str, ...] = Field(min_length=1)
    options: dict[str, Any]
    source: str
    notes: tuple[str, ...]
    origins: tuple[tuple[str, str], ...]


_META = TypeAdapter(_Meta)


def load(path: Path, fold: str = "") -> Weights:
    """Weights of a file that `save` wrote, or of a run directory; one `fold` alone if it is named.

    Raises UserError naming the file and the field or tensor: no such file, damaged or foreign, a
    tensor that is missing, unknown, of another shape or type or not finite, no such fold; a run
    whose training is not done.
    """
    path = Path(path)
    if path.is_dir():
        return from_run(path, fold)
    found = _read(path)
    if not fold:
        return found
    same = all(found.num_folds(problem) == len(found.folds) for problem in found.problems)
    if not same or fold not in found.folds:
        hint = (
            f"it has {', '.join(found.folds)}" if same else "its problems have folds of their own"
        )
        raise UserError(f"{path}: has no fold {fold}: {hint}")
    number = found.folds.index(fold)
    one = jax.tree.map(lambda leaf: leaf[number : number + 1], found.variables)
    return found._replace(variables=one, folds=(fold,), source=f"{found.source}, fold {fold} alone")


def save(path: Path, weights: Weights) -> None:
    """Write weights as one file, all of it or nothing; what `load` would refuse is refused here.

    Raises UserError as `load`, OSError.
    """
    _refuse_unfit(path, weights)
    meta = _META.dump_json(
        _Meta(
            config=weights.config,
            k=cast(dict[ExpressionType, int], weights.k),
            fps=weights.fps,
            folds=weights.folds,
            options=weights.options,
            source=weights.source,
            notes=weights.notes,
            origins=weights.origins,
        )
    )
    arrays = {"meta": np.array(meta.decode())} | dict(leaves(weights.variables))
    files.write_npz(Path(path), arrays)


def from_run(workdir: Path, fold: str = "") -> Weights:
    """What the folds of a run have ended with; `fold` takes the one that held out this subject.

    Thresholds that the folds' validation has chosen become `options`, their mean.  Raises UserError
    if it is no run, not trained to the end, or has no such fold; and if neither the shards nor the
    run say which k and frame rate it was trained at.
    """
    facts = run_weights.read(workdir, fold)
    config = facts.config
    digest = content_hash(facts.variables)
    name, one = workdir.resolve().name, f", fold {fold} alone" if fold else ""
    found = Weights(
        config=config,
        k=facts.k,
        fps=facts.fps,
        variables=facts.variables,
        folds=facts.folds,
        options=facts.options,
        source=f"run {name}: {config.system.name} trained on {facts.data_set}{one}",
        sha256=digest,
        notes=facts.notes,
        origins=((name, digest),),
    )
    _refuse_unfit(workdir, found)
    return found


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The leaves of nested dicts, arrays `dtype[...]`, by their place.

    >>> [(place, int(leaf)) for place, leaf in leaves({"a": {"b": np.array(1)}, "c": np.array(2)})]
    [('a/b', 1), ('c', 2)]
    """
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}/")
        else:
            yield prefix + name, np.asarray(value)


def content_hash(variables: Mapping[str, Any]) -> str:
    """SHA-256 over places, shapes and values of all leaves."""
    digest = hashlib.sha256()
    for place, leaf in sorted(leaves(variables)):
        digest.update(f"{place} {leaf.dtype} {leaf.shape}\n".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


# --- the file -------------------------------------------------------------------------------------


def _read(path: Path) -> Weights:
    try:
        data = path.read_bytes()
        if not data.startswith(ZIP):
            raise UserError(f"{path}: no weights of spotjax: {CONVERT}")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            if "meta" not in archive.files:
                raise UserError(f"{path}: no weights of spotjax: {CONVERT}")
            meta = _meta(path, archive)
            variables = _variables(path, archive, meta)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: {CONVERT}") from None
    except (ValueError, EOFError, KeyError, RuntimeError, AttributeError, MemoryError,
            zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        raise UserError(f"{path}: damaged, or no weights of spotjax ({error}): {CONVERT}") from None
    found = Weights(
        config=meta.config,
        k={str(type): k for type, k in meta.k.items()},
        fps=meta.fps,
        variables=variables,
        folds=meta.folds,
        options=meta.options,
        source=meta.source,
        sha256=hashlib.sha256(data).hexdigest(),
        notes=meta.notes,
        origins=meta.origins,
    )
    _refuse_unfit(path, found)
    return found


def _meta(path: Path, archive: Any) -> _Meta:
    if archive.zip.getinfo("meta.npy").file_size > LARGEST_META:
        raise UserError(f"{path}: field meta is too large: {CONVERT}")
    text = str(archive["meta"])
    try:
        meta = _META.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(["meta", *map(str, first["loc"])])
        raise UserError(
            f"{path}: field {place}: {first['msg']}: written by another version of spotjax, or "
            f"damaged; {CONVERT}"
        ) from None
    if meta.version != VERSION:
        raise UserError(
            f"{path}: field meta.version is {meta.version}, this program reads {VERSION}: "
            "install the spotjax that wrote it, or convert the weights again"
        )
    return meta


def _variables(path: Path, archive: Any, meta: _Meta) -> dict[str, Any]:
    """The leaves as nested dicts; one that is larger than it can be is not read."""
    system = _system(path, meta.config, meta.k)
    wanted = _wanted(system)
    found: dict[str, Any] = {}
    for name in archive.files:
        if name == "meta":
            continue
        problem, _, place = name.partition("/")
        if problem not in system.problems or place not in wanted:
            raise UserError(f"{path}: tensor {name} is not one of {system.name}'s")
        leaf = wanted[place]
        most = leaf.size * leaf.dtype.itemsize * len(meta.folds) + SLACK
        if archive.zip.getinfo(f"{name}.npy").file_size > most:
            raise UserError(f"{path}: tensor {name} is larger than {leaf.shape} for each fold")
        node = found.setdefault(problem, {})
        *parents, last = place.split("/")
        for parent in parents:
            node = node.setdefault(parent, {})
        try:
            node[last] = archive[name]
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{path}: tensor {name} is damaged ({error}): {CONVERT}") from None
    return {problem: found[problem] for problem in system.problems if problem in found}


# --- what weights must be -------------------------------------------------------------------------


def _system(path: Path, config: Config, k: Mapping[Any, int]) -> System:
    for type in getattr(config.system, "types", ()):
        if k.get(type, 0) < 1:
            raise UserError(f"{path}: field k: says nothing about {type}-expressions")
    return build(config.system, dict(k))


def _wanted(system: System) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and type of every leaf of one fold, by its place."""
    tree = jax.eval_shape(system.init, jax.random.key(0))
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(str(part.key) for part in place): leaf for place, leaf in flat}


def _refuse_unfit(path: Path, weights: Weights) -> None:
    """Raise UserError if these are not finite parameters of their system."""
    system = _system(path, weights.config, weights.k)
    wanted = _wanted(system)
    for problem in system.problems:
        given = dict(leaves(weights.variables.get(problem, {})))
        for place in dict.fromkeys([*wanted, *given]):
            name = f"{problem}/{place}"
            if place not in given or place not in wanted:
                what = "is missing" if place in wanted else f"is not one of {system.name}'s"
                raise UserError(f"{path}: tensor {name} {what}: {CONVERT}")
            leaf, like = given[place], wanted[place]
            folds = len(next(iter(given.values()))) if leaf.ndim else 0
            if leaf.shape != (folds, *like.shape) or not 1 <= folds <= len(weights.folds):
                raise UserError(
                    f"{path}: tensor {name} has shape {leaf.shape}: {system.name}'s is "
                    f"{like.shape} for each of at most {len(weights.folds)} folds"
                )
            if leaf.dtype != like.dtype:
                raise UserError(f"{path}: tensor {name} is {leaf.dtype}: it must be {like.dtype}")
            if not np.isfinite(leaf).all():
                count = int((~np.isfinite(leaf)).sum())
                raise UserError(f"{path}: tensor {name} is not finite in {count} places")
    if unknown := set(weights.variables) - set(system.problems):
        raise UserError(f"{path}: {system.name} has no problem {sorted(unknown)[0]}")
    try:
        replace(weights.config.system, **weights.options)
    except (ValidationError, TypeError) as error:
        raise UserError(f"{path}: field options: {str(error).splitlines()[0]}") from None
