import json
import subprocess
import sys

import pytest
from reference import shared_file

from spotjax import score
from spotjax.counting import score_inputs
from spotjax.counting.interval_files import VideoName
from spotjax.counting.matching import RULES

PRED = """video,type,onset,offset,score
a,macro,10,20,0.9
a,macro,11,21,0.8
a,micro,50,60,0.7
b,micro,5,9,0.6
"""
TRUTH = """video,type,onset,offset
a,macro,10,20
a,micro,51,60
b,macro,70,90
"""


def files(tmp_path, pred=PRED, gt=TRUTH, videos=None):
    arguments = []
    for option, text in (("--pred", pred), ("--gt", gt), ("--videos", videos)):
        if text is not None:
            path = tmp_path / f"{option[2:]}.csv"
            path.write_text(text)
            arguments += [option, str(path)]
    return arguments


def test_a_table_by_hand(tmp_path, capsys):
    out = tmp_path / "out.json"
    assert score.main([*files(tmp_path), "--json", str(out)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert json.loads(out.read_text()) == {
        "one_to_one": {
            "macro": {"tp": 1, "fp": 1, "fn": 1, "precision": 0.5, "recall": 0.5, "f1": 0.5},
            "micro": {"tp": 1, "fp": 1, "fn": 0, "precision": 0.5, "recall": 1.0, "f1": 2 / 3},
            "overall": {
                "tp": 2, "fp": 2, "fn": 1, "precision": 0.5, "recall": 2 / 3, "f1": 4 / 7
            },
        }
    }  # fmt: skip
    for words in (
        "pred.csv: 4 (2 macro, 2 micro)",
        "gt.csv: 3 (2 macro, 1 micro)",
        "gt.csv: 2, set all (2 macro, 2 micro)",
        "IoU threshold 0.5, predictions ranked by score",
        "epoch choice unknown (external predictions)",
        RULES["one_to_one"].text[:60],
        "AP",
    ):
        assert words in shown.out, words
    overall = next(line for line in shown.out.splitlines() if line.startswith("overall"))
    # AP: macro one of two truths at rank 1; micro IoU 10/11 up to the threshold .9
    assert overall.split() == ["overall", "0.5714", "0.5000", "0.6667", "0.7000", "2", "2", "1"]


def test_rules_video_sets_and_thresholds(tmp_path, capsys):
    inputs, out = files(tmp_path), tmp_path / "out.json"

    def run(*options):
        assert score.main([*inputs, "--json", str(out), *options]) == 0
        return json.loads(out.read_text())

    assert list(run("--rule", "all")) == list(RULES)
    found = run("--rule", "strs_tool, mesnet")
    assert list(found) == ["mesnet", "strs_tool"]
    assert found["mesnet"]["macro"]["precision"] == 1
    assert found["strs_tool"]["micro"]["fp"] == 0  # video b has no micro-expression
    annotated = run("--video-set", "annotated_only")["one_to_one"]
    assert annotated["micro"]["fp"] == 0 and annotated["macro"]["fn"] == 1
    strict = run("--iou", "0.95")["one_to_one"]
    assert (strict["micro"]["tp"], strict["macro"]["tp"]) == (0, 1)
    capsys.readouterr()
    assert "annotated_only (2 macro, 1 micro)" in (
        score.main([*inputs, "--video-set", "annotated_only"]), capsys.readouterr().out
    )[1]  # fmt: skip


def test_details_hold_everything(tmp_path, capsys):
    out = tmp_path / "details.json"
    videos = "video,frames\na,100\nb,80\nsilent,60\n"
    arguments = [*files(tmp_path, videos=videos), "--rule", "all", "--details", str(out)]
    assert score.main(arguments) == 0
    found = json.loads(out.read_text())
    assert list(found) == [
        "protocol", "versions", "notes", "rules", "results", "ap", "videos", "matches",
        "recognition",
    ]  # fmt: skip
    assert found["protocol"]["num_videos"] == 3
    assert found["protocol"]["scored_videos"] == {"macro": 3, "micro": 3}
    assert "gt.csv: intervals that end after the last frame" in found["notes"][0]
    assert f"note: {found['notes'][0]}\n" == capsys.readouterr().err
    assert found["videos"]["one_to_one"]["a"]["macro"] == {"tp": 1, "fp": 1, "fn": 0}
    assert found["videos"]["one_to_one"]["silent"]["micro"] == {"tp": 0, "fp": 0, "fn": 0}
    assert found["matches"]["sfamnet"] == [
        {"video": "a", "type": "macro", "prediction_line": 2, "truth_lines": [2]},
        {"video": "a", "type": "macro", "prediction_line": 3, "truth_lines": [2]},
        {"video": "a", "type": "micro", "prediction_line": 4, "truth_lines": [3]},
    ]
    assert found["ap"]["overall"] == 0.7 and found["recognition"] == {}
    assert set(found["versions"]) == {"spotjax", "numpy", "python"}


def test_empty_tables(tmp_path, capsys):
    header = "video,type,onset,offset,score\n"
    assert score.main(files(tmp_path, pred=header)) == 0
    assert "overall     0.0000" in capsys.readouterr().out
    assert score.main(files(tmp_path, gt=header)) == 2
    assert "gt.csv: holds no row: list all videos of the set" in capsys.readouterr().err
    assert score.main(files(tmp_path, gt=header, videos="video,frames\na,99\nb,99\n")) == 0
    overall = capsys.readouterr().out.splitlines()[-1].split()
    assert overall[0] == "overall" and overall[-3:] == ["0", "4", "0"]


def emotional(rows):
    return "video,type,onset,offset,emotion\n" + "".join(
        f"{video},micro,{onset},{offset},{emotion}\n" for video, onset, offset, emotion in rows
    )


def test_recognition(tmp_path, capsys):
    pred = emotional(
        [("a", 10, 20, "negative"), ("a", 40, 52, "positive"), ("b", 5, 15, "neutral")]
    )
    gt = emotional([("a", 11, 21, "negative"), ("a", 40, 50, "surprise"), ("b", 50, 60, "others")])
    out = tmp_path / "details.json"
    arguments = [*files(tmp_path, pred, gt), "--rule", "all", "--details", str(out)]
    assert score.main(arguments) == 0
    found = json.loads(out.read_text())["recognition"]
    assert {rule: round(row["strs"], 4) for rule, row in found.items()} == {
        "one_to_one": 0.2222, "sfamnet": 0.2222, "strs_tool": 0.1667
    }  # fmt: skip
    assert found["one_to_one"]["uar"] == 0.5 and found["sfamnet"]["uar"] == 0
    assert found["one_to_one"]["confusion"][2] == [0, 1, 0, 0, 0]
    shown = capsys.readouterr().out
    assert (
        "recognition of 2 spotted micro-expressions under sfamnet: UF1 0.3333, UAR 0.0000" in shown
    )
    assert "= STRS 0.1667" in shown
    assert score.main([*files(tmp_path, pred, gt), "--rule", "abpn"]) == 0
    assert "recognition of" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pred", "gt", "message"),
    [
        ("fear", "negative", "no set of emotion classes holds fear, negative: use the classes of"),
        ("glee", "negative", "pred.csv, line 2: emotion 'glee' is not known"),
        ("negative", "neutral", "gt.csv, line 2: a truth is neutral, which only a prediction may"),
    ],
)
def test_bad_emotions(tmp_path, capsys, pred, gt, message):
    tables = [emotional([("a", 1, 9, emotion)]) for emotion in (pred, gt)]
    assert score.main(files(tmp_path, *tables)) == 2
    assert message in capsys.readouterr().err
    assert score.main([*files(tmp_path, *tables), "--rule", "megc2020"]) == 0


def error(capsys, arguments):
    assert score.main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and shown.err.count("\n") == 1
    return shown.err


def test_bad_arguments(tmp_path, capsys):
    inputs = files(tmp_path)
    pred, gt = inputs[1], inputs[3]
    assert "did you mean 'softnet'?" in error(capsys, [*inputs, "--rule", "one_to_one,sofnet"])
    for value in ("0", "1.5", "nan"):
        assert "give a number above 0, at most 1" in error(capsys, [*inputs, "--iou", value])
    assert "pred.csv: is given twice" in error(capsys, ["--pred", pred, "--gt", pred])
    assert "gt.csv: is given twice" in error(capsys, [*inputs, "--videos", gt])
    assert "would overwrite a table" in error(capsys, [*inputs, "--json", gt])
    out = str(tmp_path / "x.json")
    assert "is the file of --json" in error(capsys, [*inputs, "--json", out, "--details", out])
    missing = str(tmp_path / "none.csv")
    assert "No such file" in error(capsys, ["--pred", missing, "--gt", gt])
    assert "s a directory" in error(capsys, ["--pred", str(tmp_path), "--gt", gt])
    assert "No such file" in error(capsys, [*inputs, "--json", str(tmp_path / "no" / "x.json")])


def test_subject_and_video_joined_as_in_submissions_to_megc(tmp_path, capsys):
    pred = "vid,pred_onset,pred_offset,type\ns15_0101,10,20,mae\nspNO.1_a,5,9,me\n"
    truth = "subject,video,type,onset,offset\ns15,0101,macro,10,20\nspNO.1,a,micro,5,9\n"
    assert score.main(files(tmp_path, pred, truth)) == 0
    out = capsys.readouterr().out
    assert "overall     1.0000" in out
    # two known names that join alike are nobody's
    truth = "subject,video,type,onset,offset\na_b,c,macro,1,2\na,b_c,macro,1,2\n"
    pred = "vid,pred_onset,pred_offset,type\na_b_c,1,2,mae\n"
    assert "video 'a_b_c' is not in" in error(capsys, files(tmp_path, pred, truth))


def test_videos_that_are_not_known(tmp_path, capsys):
    pred = PRED + "c2,macro,1,2,0\n"
    message = error(capsys, files(tmp_path, pred, TRUTH + "c1,macro,1,2\n"))
    assert "pred.csv, line 6: video 'c2' is not in" in message
    assert "gt.csv: list all videos of the set with --videos" in message
    assert score.main(files(tmp_path, pred, videos="video,frames\na,99\nb,99\nc2,99\n")) == 0
    capsys.readouterr()
    message = error(capsys, files(tmp_path, videos="video,frames\na,99\n"))
    assert "gt.csv, line 4: video 'b' is not in" in message and "videos.csv" in message


OURS = "subject,video,type,onset,apex,offset,score\ns1,a,macro,10,12,20,0.9\ns2,b,macro,1,2,3,0.5\n"


@pytest.mark.parametrize(
    ("pred", "gt"),
    [
        (OURS, "video,type,onset,offset\ns1/a,macro,10,20\ns2/b,macro,1,3\n"),
        (OURS, "video,type,onset,offset\na,macro,10,20\nb,macro,1,3\n"),
        (OURS, OURS),
        ("vid,pred_onset,pred_offset,type\na,10,20,mae\nb,1,3,mae\n", OURS),
    ],
    ids=["joined", "plain truths", "both", "plain predictions"],
)
def test_names_of_videos(tmp_path, pred, gt):
    out = tmp_path / "out.json"
    assert score.main([*files(tmp_path, pred, gt), "--json", str(out)]) == 0
    assert json.loads(out.read_text())["one_to_one"]["overall"]["tp"] == 2


def test_names_that_two_subjects_share(tmp_path, capsys):
    shared = OURS + "s3,a,macro,1,2,3,0.1\n"
    plain = "video,type,onset,offset\na,macro,10,20\nb,macro,1,3\n"
    for pred, gt in ((shared, plain), (plain, shared)):
        message = error(capsys, files(tmp_path, pred, gt))
        assert "video" in message and "subjects s1, s3 have a video of this name" in message
    other = OURS.replace("s1,a", "s4,a")  # a list of plain names must not join s1/a and s4/a
    listed = "video,frames\na,99\nb,99\n"
    assert "subjects s1, s4" in error(capsys, files(tmp_path, OURS, other, listed))


def test_place():
    known = [VideoName("s1", "a"), VideoName("s2", "b")]
    names = [VideoName("", "a"), VideoName("", "s2/b"), VideoName("s9", "b"), VideoName("", "x")]
    found = score_inputs.place(names[:2], known, known)
    assert list(found.values()) == ["s1/a", "s2/b"]
    assert score_inputs.place(names[2:], known, known) == {}


@pytest.mark.parametrize("name", ["casme2", "samm_lv"])
def test_the_published_baseline_of_megc_2020(tmp_path, capsys, name):
    expected = json.loads(shared_file("goldens/mdmd_megc2020/expected.json").read_text())
    folder, out = shared_file("goldens/mdmd_megc2020"), tmp_path / "out.json"
    arguments = ["--rule", "megc2020", "--json", str(out)]
    for option, table in (("--pred", "pred"), ("--gt", "gt"), ("--videos", "videos")):
        arguments += [option, str(folder / f"{name}_{table}.csv")]
    assert score.main(arguments) == 0
    found = json.loads(out.read_text())["megc2020"]
    for type, counts in expected["tp_fp_fn"][name].items():
        assert [found[type][key] for key in ("tp", "fp", "fn")] == counts
        assert found[type]["tp"] + found[type]["fn"] == expected["counts"][name][type]
    for type, f1 in expected["published_f1"][name].items():
        assert round(found[type]["f1"], 4) == f1, type
    capsys.readouterr()


def test_help_teaches_the_formats_and_rules(capsys):
    with pytest.raises(SystemExit) as caught:
        score.main(["--help"])
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    for words in (*RULES, "vid,pred_onset,pred_offset,type", "video,frames", "neutral"):
        assert words in shown
    assert max(len(line) for line in shown.splitlines()) <= 100


def test_the_command_loads_no_jax(tmp_path):
    code = (
        "import sys; from spotjax import score; status = score.main(sys.argv[1:]);"
        "sys.exit(status or 'jax' in sys.modules)"
    )
    arguments = [sys.executable, "-c", code, *files(tmp_path)]
    subprocess.run(arguments, check=True, capture_output=True)
