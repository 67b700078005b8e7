"""Rows that come to the devices piece by piece train the same parameters, bit by bit."""

import dataclasses
import itertools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import on_cpus
from toy import K, small_softnet, toy_clips, toy_rgbd

from spotjax.config import Mesnet, Sfamnet, Train
from spotjax.data import plans
from spotjax.errors import UserError
from spotjax.loso import feeding, training
from spotjax.loso import folds as folds_lib
from spotjax.systems import build
from spotjax.systems.sfamnet_net import Outputs

SOFTNET = small_softnet()


def judge_of_means(system, inputs, outputs, answer):
    """`system` with a single layer of `inputs` numbers, for its samples alone.

    `answer` gives the system's outputs from those of the layer f32[B, `outputs`].
    """

    def init(key):
        return {"params": {"kernel": jax.random.normal(key, (inputs, outputs))}}

    def apply(variables, given, weight, train, key):
        images = given["flow"] if isinstance(given, dict) else given
        means = images.astype(jnp.float32).reshape(len(images), -1, inputs).mean(1)
        return answer(means @ variables["params"]["kernel"]), variables

    return system._replace(init=init, apply=apply, constants=None)


SFAMNET = judge_of_means(
    build(Sfamnet(), K), 3, 6, lambda y: Outputs(jax.nn.sigmoid(y[:, 0]), y[:, 1:])
)
STAGE = judge_of_means(build(Mesnet(size=32), {}).before, 2, 2, lambda y: (y, jnp.zeros(())))


def run(data, system, train, piece=None, devices=1, streams=None):
    """All epochs, resident or in pieces of some steps; and the feed."""
    mesh, problem = folds_lib.make_mesh(devices), system.problems[0]
    members = plans.loso(system, data, problem, train, data.subjects[:3])
    if piece is None:
        members, feed = training.place(system, problem, data.streams, members, mesh)
    else:
        feed = feeding.Streamed(system, problem, streams or data.streams, mesh, piece)
    return list(training.train_folds(system, problem, members, feed, train, mesh)), feed


def same(found, expected):
    for one, other in itertools.zip_longest(found, expected):
        jax.tree.map(np.testing.assert_array_equal, one, other)


ADAM = Train(epochs=2, optimizer="adam", learning_rate=1e-3, decay=0.9)


@pytest.mark.parametrize("fold_exec", ["map", "vmap"])
def test_softnet_in_pieces(toy, fold_exec):
    train = dataclasses.replace(ADAM, fold_exec=fold_exec)
    whole, _ = run(toy, SOFTNET, train)
    steps = len(whole[0].losses[0])
    assert steps > 7 and steps % 7  # the last piece is filled up
    same(run(toy, SOFTNET, train, piece=7)[0], whole)
    same(run(toy, SOFTNET, train, piece=steps + 9)[0], whole)


@on_cpus
def test_each_device_has_the_rows_of_its_own_folds(toy):
    whole, _ = run(toy, SOFTNET, ADAM)
    pieces, feed = run(toy, SOFTNET, ADAM, piece=5, devices=2)
    same(pieces, whole)
    row = toy.streams["flow_macro"][0].nbytes
    assert feed.row_bytes == 2 * 5 * ADAM.batch * row  # two folds of a device, five steps
    chunked, feed = run(toy, SOFTNET, dataclasses.replace(ADAM, fold_chunk=1), piece=5)
    same(chunked, whole)
    assert feed.row_bytes == 5 * ADAM.batch * row


def test_events_of_sfamnet():
    train = dataclasses.replace(ADAM, batch=16)
    data = toy_rgbd()
    same(run(data, SFAMNET, train, piece=2)[0], run(data, SFAMNET, train)[0])


def test_samples_of_several_rows_and_their_validation():
    train = Train(
        epochs=2, batch=4, optimizer="adam", learning_rate=1e-3, validation=1, validate_every=1
    )
    data = toy_clips()
    whole, _ = run(data, STAGE, train)
    same(run(data, STAGE, train, piece=2)[0], whole)
    assert whole[-1].merits is not None and np.isfinite(whole[-1].merits).all()


class Watched(dict):
    """Streams that note which rows are asked for, and by which thread; or fail."""

    def __init__(self, streams, fail_at=-1):
        super().__init__(streams)
        self.calls, self.fail_at = [], fail_at

    def row_bytes(self, name):
        return self[name][0].nbytes

    def take(self, names, rows):
        self.calls.append((threading.current_thread().name, len(rows)))
        if len(self.calls) == self.fail_at:
            raise UserError("this shard has gone")
        return {name: self[name][rows] for name in names}


def test_rows_are_read_by_a_thread_and_never_more_than_a_piece(toy):
    streams = Watched(toy.streams)
    whole, _ = run(toy, SOFTNET, ADAM, piece=4, streams=streams)
    names, counts = zip(*streams.calls, strict=True)
    assert all(name.startswith("rows") for name in names)
    assert max(counts) <= 3 * 4 * ADAM.batch  # three folds
    assert len(counts) == 2 * -(-len(whole[0].losses[0]) // 4)


def test_a_failed_read_ends_in_its_own_error(toy):
    with pytest.raises(UserError, match="this shard has gone"):
        run(toy, SOFTNET, ADAM, piece=4, streams=Watched(toy.streams, fail_at=3))


@on_cpus
def test_what_fits_is_resident(toy, monkeypatch):
    mesh = folds_lib.make_mesh(2)
    members = plans.loso(SOFTNET, toy, "macro", ADAM)
    used = np.unique(np.concatenate([fold.samples["row"] for fold in members]))
    need = len(used) * toy.streams["flow_macro"][0].nbytes
    for room, fits in ((2 * need, False), (2 * need + 2, True)):
        monkeypatch.setattr(feeding, "host_memory", lambda room=room: room)
        assert feeding.fits(SOFTNET, "macro", toy.streams, members, mesh) is fits


@on_cpus
def test_devices_of_a_cpu_share_the_room_for_their_pieces(toy, monkeypatch):
    row = toy.streams["flow_macro"][0].nbytes
    step = 2 * ADAM.batch * row  # of the two folds of a device
    monkeypatch.setattr(feeding, "host_memory", lambda: 2 * 16 * (3 * step + 1))
    _, feed = run(toy, SOFTNET, dataclasses.replace(ADAM, epochs=1), piece=0, devices=2)
    assert feed.row_bytes == 3 * step


@on_cpus
def test_as_many_steps_as_fit_a_sixteenth_of_the_memory(toy, monkeypatch):
    row = toy.streams["flow_macro"][0].nbytes
    step = 3 * ADAM.batch * row
    monkeypatch.setattr(feeding, "host_memory", lambda: 16 * (5 * step + 1))
    _, feed = run(toy, SOFTNET, dataclasses.replace(ADAM, epochs=1), piece=0)
    assert feed.row_bytes == min(5 * step, len(toy.streams["face"]) * row)


def test_the_memory_of_a_container_counts():
    assert 1e8 < feeding.host_memory() < 1e14
