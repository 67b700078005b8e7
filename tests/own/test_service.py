"""The desk of the service page: videos in line, their files, and that these go away again."""

import csv
import io
import multiprocessing
import shutil
import time
import zipfile
from pathlib import Path

import pytest
from own_clips import images, swing, write_clip

from spotjax import spot
from spotjax.errors import UserError
from spotjax.own import service, service_page
from spotjax.own.service import Desk, Job, left
from spotjax.own.worker import Asked, Found, Row, State, keep
from spotjax.parameters import weights

CACHE = Path(__file__).resolve().parents[2] / ".jax_cache"
NASTY = "my <img src=x onerror=alert(1)> & 'clip'.avi"
PATIENCE_S = 400
ENDS = ("spot.csv", "frames.csv", "spot.json", "eaf", "boris", "boris.tsv", "srt", "html")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.avi", images(swing(60)))


@pytest.fixture(scope="module")
def known():
    return weights.load(spot.DEMO)


@pytest.fixture(scope="module")
def desk(tmp_path_factory, known):
    """One for most tests, since its process takes its time to begin."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(CACHE))
        patch.setenv("JAX_PLATFORMS", "cpu")
        found = Desk(known, tmp_path_factory.mktemp("root"))
        yield found
        found.close()


def upload(desk, session, clip, name):
    """What the page does with a file: a folder of its own in `uploads`."""
    folder = desk.uploads / (session + name[:3])
    folder.mkdir(exist_ok=True)
    path = Path(shutil.copy(clip, folder / name))
    desk.claim(session, path)
    return path


def wait(holds):
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def ended(job):
    wait(lambda: job.ended)
    return job.state


@pytest.fixture(scope="module")
def seen(desk, clip):
    """The states of a job whose file has a name that is HTML."""
    job = desk.start("first", upload(desk, "first", clip, NASTY))
    return list(job.states())


def test_a_job_goes_through_its_phases(seen):
    order = ("waiting", "starting", "looking", "drawing", "found")
    places = [order.index(state.phase) for state in seen]
    assert places == sorted(places) and seen[-1].phase == "found"
    looked = [state for state in seen if state.phase == "looking"]
    assert [state.expected for state in looked] == [60] * len(looked)
    done = [state.done for state in seen if state.phase in ("looking", "drawing")]
    assert done == sorted(done) and done[-1] == 60


def test_what_was_found_is_in_the_files(seen):
    found = seen[-1].found
    stem = NASTY.removesuffix(".avi")
    names = {path.name for path in (*found.files, found.page)}
    assert names == {f"{stem}.{end}" for end in ENDS}
    (table,) = (path for path in found.files if path.name.endswith(".spot.csv"))
    with open(table, newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert rows
    assert [(row.type, row.frames) for row in found.rows] == [
        (row["type"], f"{row['onset_frame']} to {row['offset_frame']}") for row in rows
    ]
    assert any("rendered faces" in note for note in found.notes)
    assert found.summary.startswith(NASTY) and found.summary.endswith("in 00:02.00")


def test_the_archive_holds_every_file_as_it_is(seen):
    found = seen[-1].found
    with zipfile.ZipFile(io.BytesIO(found.archive.read_bytes())) as packed:
        assert packed.testzip() is None
        held = {name: packed.read(name) for name in packed.namelist()}
    assert held == {path.name: path.read_bytes() for path in (*found.files, found.page)}


def test_elan_looks_for_the_video_beside_the_file(seen):
    (eaf,) = (path for path in seen[-1].found.files if path.suffix == ".eaf")
    text = eaf.read_text()
    assert 'RELATIVE_MEDIA_URL="./my &lt;img' in text and "/uploads/" not in text


def test_the_result_on_the_page_can_run_nothing(seen):
    shown = service_page.found(seen[-1].found)
    assert "<img" not in shown and shown.count("<iframe ") == 1
    assert '<iframe sandbox=""' in shown
    held = shown.partition('srcdoc="')[2]
    assert '"' not in held.partition('"></iframe>')[0]
    assert shown.count("gradio_api/file=") == len(ENDS) + 1
    address = seen[-1].found.archive.parent.as_posix()
    assert f"{address}/my%20%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%20%26" in shown


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.mp4", b"no video", "text.mp4: cannot be opened as a video: save it again"),
        ("empty.mkv", b"", "empty.mkv: the file is empty: copy it anew"),
        ("head.avi", None, "head.avi: cannot be opened as a video: save it again"),
    ],
)
def test_a_bad_video_is_one_line_without_private_paths(
    desk, clip, tmp_path, name, content, message
):
    bad = tmp_path / name
    bad.write_bytes(clip.read_bytes()[:100] if content is None else content)
    job = desk.start("bad", upload(desk, "bad", bad, name))
    state = ended(job)
    assert state.phase == "failed" and state.text.startswith(message)
    assert "\n" not in state.text and str(desk.uploads) not in state.text
    assert not job.asked.folder.exists()
    assert service_page.state(state).count("<p>") == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"video": None}, "choose a video first"),
        ({"video": Path("a.txt")}, "a.txt: is no mp4, mov, avi, mkv, webm file"),
        ({"video": Path("/gone/a.MP4")}, "a.MP4: is not here any more: upload it again"),
        ({"face": 0}, "face 0: count faces from 1"),
        ({"face": 1.5}, "face 1.5: count faces from 1"),
        ({"face": float("nan")}, "face nan: count faces from 1"),
        ({"face": None}, "face None: count faces from 1"),
        ({"flow": "pwc"}, "flow pwc: choose one of tvl1, tvl1_jax, dis, farneback"),
    ],
)
def test_what_cannot_begin(desk, clip, changed, message):
    with pytest.raises(UserError, match=f"^{message}"):
        desk.start("wrong", **({"video": clip} | changed))


def test_one_after_the_other_and_each_can_be_cancelled(desk, clip):
    first = desk.start("a", upload(desk, "a", clip, "one.avi"), flow="tvl1")
    wait(lambda: first.state.phase != "waiting")
    with pytest.raises(UserError, match="one video at a time"):
        desk.start("a", clip)
    second = desk.start("b", upload(desk, "b", clip, "two.avi"))
    third = desk.start("c", upload(desk, "c", clip, "three.avi"))
    assert (second.state, third.state) == (State("waiting", ahead=1), State("waiting", ahead=2))
    desk.cancel("b")
    assert second.state.phase == "cancelled" and third.state == State("waiting", ahead=1)
    desk.cancel("a")
    assert ended(first).phase == "cancelled"
    assert not first.asked.folder.exists() and first.asked.video.exists()
    assert ended(third).phase == "found"
    desk.cancel("c")
    assert third.state.phase == "found"
    for session in "abc":
        desk.leave(session)
    assert not any(job.asked.video.exists() for job in (first, second, third))
    assert not third.asked.folder.exists()


def test_leaving_while_it_runs(desk, clip):
    job = desk.start("gone", upload(desk, "gone", clip, "clip.avi"))
    wait(lambda: job.state.phase != "waiting")
    desk.leave("gone")
    assert ended(job).phase == "cancelled"
    assert not job.asked.video.parent.exists() and not job.asked.folder.exists()


def test_a_process_that_breaks_off(desk, clip):
    """As when the decoder crashes or the system ends what takes too much memory."""
    job = desk.start("broken", upload(desk, "broken", clip, "clip.avi"))
    wait(lambda: job.state.phase != "waiting" and multiprocessing.active_children())
    for process in multiprocessing.active_children():
        process.kill()
    state = ended(job)
    assert state.phase == "failed" and state.text.startswith("clip.avi: the program broke off")
    again = desk.start("broken", upload(desk, "broken", clip, "clip.avi"))
    assert ended(again).phase == "found"
    desk.leave("broken")


def test_equal_uploads_of_two_are_one_file(desk, clip):
    path = upload(desk, "one", clip, "clip.avi")
    desk.claim("two", path)
    desk.leave("one")
    assert path.exists()
    desk.claim("two", None)  # taken back
    assert not path.parent.exists()


def test_a_new_upload_takes_the_place_of_the_old(desk, clip):
    old = upload(desk, "new", clip, "old.avi")
    new = upload(desk, "new", clip, "new.avi")
    assert not old.exists() and new.exists()
    desk.leave("new")


def test_uploads_that_nobody_has_are_deleted_after_a_while(desk, clip):
    mine = upload(desk, "mine", clip, "clip.avi")
    part = desk.uploads / "tmp123"
    part.write_bytes(b"broken off")
    desk.sweep(time.time() + service.STALE_S / 2)
    assert part.exists()
    desk.sweep(time.time() + service.STALE_S + 60)
    assert not part.exists() and mine.exists()
    desk.leave("mine")


def test_the_end_deletes_everything_and_what_is_kept_stays(tmp_path, known, clip, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(CACHE))
    before = set(multiprocessing.active_children())
    root, out = tmp_path / "root", tmp_path / "out" / "found"
    root.mkdir()
    desk = Desk(known, root, out)
    job = desk.start("s", upload(desk, "s", clip, "clip.avi"))
    assert ended(job).text == f"also kept in {out / 'clip'}"
    waiting = desk.start("s", job.asked.video)
    desk.close()
    assert waiting.state.phase == "cancelled"
    assert not root.exists() and set(multiprocessing.active_children()) <= before
    assert {path.name for path in (out / "clip").iterdir()} == {
        *(f"clip.{end}" for end in ENDS), "clip.zip",
    }  # fmt: skip


def test_results_of_one_name_are_kept_beside_each_other(tmp_path):
    files = [tmp_path / name for name in ("a.csv", "a.html", "a.zip")]
    for path in files:
        path.write_text(path.name)
    found = Found("", (), (), (files[0],), files[1], files[2])
    for name in ("a", "a-2", "a-3"):
        assert keep(found, "a", tmp_path / "out") == tmp_path / "out" / name
    assert (tmp_path / "out" / "a-3" / "a.csv").read_text() == "a.csv"


def test_a_job_that_has_ended_stays_so():
    job = Job(Asked(Path("v.mp4"), Path("f"), 1, ""))
    job.set(State("cancelled"))
    job.set(State("looking", done=3))
    assert list(job.states()) == [State("cancelled")]


def test_the_time_that_is_left():
    assert left(State("looking", done=50, expected=200), 10.0) == 30.0
    assert left(State("looking", done=0, expected=200), 10.0) is None
    assert left(State("looking", done=200, expected=200), 10.0) is None
    assert left(State("drawing", done=50, expected=200), 10.0) is None


def test_the_caution_stands_there_with_what_belongs_to_it():
    text = service_page.caution("this machine", "", ("trained on <rendered> faces",))
    assert "not a lie detector and not a diagnosis" in text
    assert "trained on &lt;rendered&gt; faces" in text and "stays in" not in text
    assert "stays in /my/out" in service_page.caution("this machine", "/my/out", ())


def test_progress_in_words_and_as_a_bar():
    html = service_page.state(State("looking", done=25, expected=100, left_s=90.0))
    assert 'value="0.25"' in html and "25 of 100 frames, about 2 min left" in html
    unknown = service_page.state(State("looking", done=25, expected=0))
    assert "<progress>" in unknown and "Looking: 25 frames" in unknown
    last = service_page.words(State("looking", done=100, expected=100))
    assert last == "Looking: 100 of 100 frames, now the last scores"
    assert "<progress" not in service_page.state(State("cancelled"))
    shown = service_page.failed(UserError("<b>.mp4: is empty"))
    assert "&lt;b&gt;.mp4: is empty" in shown and "bad" in shown


def test_a_table_without_findings_and_one_with_emotions(tmp_path):
    for name in ("a.html", "a.zip"):
        (tmp_path / name).write_text("<head></head>")
    nothing = Found("a: 0 macro", (), (), (), tmp_path / "a.html", tmp_path / "a.zip")
    assert "Nothing was found." in service_page.found(nothing)
    row = Row("macro", "00:01.00", "00:01.50", "00:02.00", "1.00 s", "30 to 60", "0.812", "joy")
    shown = service_page.found(nothing._replace(rows=(row,)))
    assert '<th scope="col">emotion</th>' in shown and "<td>joy</td>" in shown
    plain = service_page.found(nothing._replace(rows=(row._replace(emotion=""),)))
    assert "emotion" not in plain


def test_links_inside_the_page_stay_inside():
    page = service_page.framed("<html><head><title>t</title></head><a href='#d1'>")
    assert page.startswith('<html><head>\n<base href="about:srcdoc"><title>')
