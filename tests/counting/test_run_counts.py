"""Counts per subject from a run's files, and what keeps runs from being compared."""

import numpy as np
import pytest
from made_runs import TRUTHS, VIDEOS, write_run

from spotjax.counting import run_counts
from spotjax.errors import UserError

FOUND = (
    ("s1", "a", "macro", 10, 30),  # hit
    ("s1", "a", "macro", 60, 70),  # false
    ("s2", "b", "micro", 40, 44),  # half of the truth: hit at 0.5
    ("s3", "a", "micro", 21, 40),  # 8 of 21 frames: false
)


def test_counts_of_every_subject_by_hand(tmp_path):
    run = run_counts.read(write_run(tmp_path / "r", FOUND))
    assert run.types == ("macro", "micro") and run.label == str(tmp_path / "r")
    assert run.subjects == {"s1/a": "s1", "s2/a": "s2", "s2/b": "s2", "s3/a": "s3"}
    table = run_counts.table([run, run], "macro", "one_to_one", 0.5)
    assert table.tolist() == [[[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]]] * 2
    micro = run_counts.table([run], "micro", "one_to_one", 0.5)[0]
    assert micro.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 1, 0]]
    assert run_counts.table([run], "micro", "one_to_one", 0.6)[0, 1].tolist() == [0, 1, 1, 0]
    overall = run_counts.table([run], "overall", "one_to_one", 0.5)
    assert (overall == table[:1] + micro).all()


def test_videos_without_the_type_may_be_left_out(tmp_path):
    found = (*FOUND, ("s2", "b", "macro", 5, 9))
    run = run_counts.read(write_run(tmp_path / "r", found))
    every, some = (
        run_counts.counts(run, "one_to_one", 0.5, videos)["macro"]["s2"]
        for videos in ("all", "annotated_only")
    )
    assert (every.fp, some.fp) == (1, 0)


def test_the_surplus_of_mesnets_rule_is_kept(tmp_path):
    truths = (("s1", "a", "micro", 10, 19), ("s1", "a", "micro", 10, 20))
    run = run_counts.read(write_run(tmp_path / "r", truths[:1], truths=truths))
    counts = run_counts.table([run], "micro", "mesnet", 0.5)
    assert counts[0, 0].tolist() == [1, 0, 0, 1]  # one interval finds both


def test_only_types_that_are_spotted(tmp_path):
    both = run_counts.read(write_run(tmp_path / "a"))
    micro = run_counts.read(write_run(tmp_path / "b", (), "configs/mesnet_demo.py"))
    assert run_counts.types_of([both]) == ("macro", "micro", "overall")
    assert run_counts.types_of([both, micro]) == ("micro",)
    assert list(run_counts.counts(micro, "one_to_one", 0.5)) == ["micro"]
    macro = run_counts.read(write_run(tmp_path / "c", overrides=("system.types=macro",)))
    assert run_counts.types_of([micro, macro]) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"videos": VIDEOS[:3], "truths": TRUTHS[:4]},
         "b: did not score the video s3/a, which .*a did"),
        ({"videos": (*VIDEOS, ("s4", "a", 9))}, "a: did not score the video s4/a, which .*b did"),
        ({"videos": (*VIDEOS[:3], ("s3", "a", 99))},
         "b: s3/a ends with frame 99, in .*a with 100"),
        ({"truths": TRUTHS[1:]}, "b: s1/a has no macro-expression from 10 to 30, in .*a it has"),
        ({"truths": (*TRUTHS, ("s2", "a", "micro", 1, 5), ("s2", "a", "micro", 2, 5))},
         "a: s2/a has no micro-expression from 1 to 5, in .*b it has"),
        ({"truths": (*TRUTHS, TRUTHS[0])}, "a: s1/a has no macro-expression from 10 to 30"),
    ],
)  # fmt: skip
def test_the_first_difference_is_named(tmp_path, change, message):
    one = run_counts.read(write_run(tmp_path / "a"))
    other = run_counts.read(write_run(tmp_path / "b", (), **change))
    with pytest.raises(UserError, match=f"{message}.*: do this"):
        run_counts.refuse_different([one, other], "do this")


def test_common_videos(tmp_path):
    one = run_counts.read(write_run(tmp_path / "a", FOUND))
    change = {"videos": (VIDEOS[2], VIDEOS[0], ("s9", "x", 50)), "truths": TRUTHS[:2] + TRUTHS[3:4]}
    other = run_counts.read(write_run(tmp_path / "b", FOUND[:3], **change))
    both = run_counts.common([one, other])
    run_counts.refuse_different(both, "")
    assert [list(run.frames) for run in both] == [["s1/a", "s2/b"]] * 2
    tables = [run_counts.table([run], "overall", "one_to_one", 0.5) for run in both]
    np.testing.assert_array_equal(*tables)
    apart = run_counts.read(write_run(tmp_path / "c", (), videos=(("s9", "x", 50),), truths=()))
    with pytest.raises(UserError, match="--common: no video was scored by all of"):
        run_counts.common([one, apart])


def test_what_is_no_evaluated_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="no run directory"):
        run_counts.read(tmp_path)
    run = write_run(tmp_path / "a")
    (run / "truths.csv").unlink()
    with pytest.raises(
        UserError, match=r"truths.csv: is not there: run python -m spotjax.evaluate"
    ):
        run_counts.read(run)
    other = run_counts.read(write_run(tmp_path / "b", config={"nmae": 1}))
    with pytest.raises(UserError, match="protocol.config is not a config of this version"):
        run_counts.evaluated(other)


def test_the_evaluated_config_has_the_defaults_of_later_keys(tmp_path):
    run = run_counts.read(write_run(tmp_path / "a"))
    config = run_counts.evaluated(run)
    del run.metrics["protocol"]["config"]["train"]["piece"]
    assert run_counts.evaluated(run) == config
