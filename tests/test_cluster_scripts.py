"""The cluster examples run, with stand-ins for SLURM, and their commands are valid ones."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from spotjax import sweep
from spotjax.cli import load_config, parse, parser
from spotjax.loso.hosts import announced
from spotjax.sweeps import sweep_plan

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "configs" / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))
CONFIG = "configs/softnet_casme2.py"
VARIABLES = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")

PYTHON = f"""#!{sys.executable}
import json, os, sys
line = {{"argv": sys.argv[1:], "task": os.environ.get("SLURM_ARRAY_TASK_ID"),
        "slurm": {{name: os.environ.get(name) for name in {VARIABLES!r}}}}}
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps(line) + "\\n")
"""
SRUN = """#!/bin/bash
# as many processes as --ntasks says, else two: what SLURM does for a job of two tasks
tasks=2
while [[ "$1" == --* ]]; do
    [[ "$1" == --ntasks=* ]] && tasks=${1#--ntasks=}
    shift
done
for ((rank = 0; rank < tasks; rank++)); do
    SLURM_JOB_ID=7 SLURM_STEP_NODELIST='node[1-2]' SLURM_NTASKS=$tasks SLURM_PROCID=$rank \\
        SLURM_LOCALID=0 "$@" &
done
wait
"""
SBATCH = """#!/bin/bash
# runs the job at once, an array task by task, and prints its number
echo "$@" >> "$CALLS.sbatch"
number=$(wc -l < "$CALLS.sbatch")
array=""
while [[ "$1" == --* ]]; do
    case "$1" in
        --wrap=*) bash -c "${1#--wrap=}" >&2 ;;
        --array=1-*) array=${1#--array=1-} ;;
    esac
    shift
done
for ((task = 1; task <= ${array:-0}; task++)); do
    SLURM_ARRAY_TASK_ID=$task bash "$@" >&2
done
echo "$number;cluster"
"""


@pytest.fixture
def slurm(tmp_path):
    """Runs a script where srun, sbatch and python are stand-ins; the calls of python."""
    for name, text in (("python", PYTHON), ("srun", SRUN), ("sbatch", SBATCH)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    calls = tmp_path / "calls"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls)}

    def run(script, *words, **variables):
        done = subprocess.run(
            ["bash", str(CLUSTER / script), *words], cwd=ROOT, env=environment | variables,
            capture_output=True, text=True,
        )  # fmt: skip
        lines = calls.read_text().splitlines() if calls.exists() else []
        return done, [json.loads(line) for line in lines]

    run.folder = tmp_path
    return run


def checked(words):
    """The config of a command's words, read as the command itself reads them."""
    assert words[:2] == ["-m", "spotjax.train"] or words[:2] == ["-m", "spotjax.data_prep"]
    arguments = parser("x", "x")
    arguments.add_argument("--config", required=True)
    if words[1] == "spotjax.train":
        arguments.add_argument("--workdir")
    options, overrides = parse(arguments, words[2:])
    return options, load_config(options.config.removeprefix("/spotjax/"), overrides)


def planned(words):
    """The runs of a sweep's words."""
    assert words[:2] == ["-m", "spotjax.sweep"]
    options, overrides = parse(sweep._arguments(), words[2:])
    files = [file.removeprefix("/spotjax/") for several in options.config for file in several]
    grid, seeds = sweep_plan.parse_grid(options.grid), sweep_plan.parse_seeds(options.seeds)
    return options, sweep_plan.plan(files, [], grid, seeds, overrides)


# --- SLURM ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_are_valid_shell_that_stops_at_an_error(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert text.startswith("#!/bin/bash\n") and "\nset -euo pipefail\n" in text
    # sbatch reads its options up to the first command
    assert text.rindex("#SBATCH") < text.index("set -euo pipefail")


def test_one_training_over_several_nodes(slurm, monkeypatch):
    words = [CONFIG, "--config.data.root=/data/CASME SQ", "--config.train.epochs=2"]
    done, calls = slurm("slurm.sh", *words, WORKDIR="runs/my run")
    assert done.returncode == 0, done.stderr
    assert [call["argv"][1] for call in calls] == ["spotjax.data_prep", *["spotjax.train"] * 2]
    _, prepared = checked(calls[0]["argv"])
    for rank, call in enumerate(sorted(calls[1:], key=lambda call: call["slurm"]["SLURM_PROCID"])):
        options, config = checked(call["argv"])
        assert options.workdir == "runs/my run" and config.train.distributed == "auto"
        assert config.data == prepared.data and config.data.root == "/data/CASME SQ"
        assert call["slurm"]["SLURM_PROCID"] == str(rank)
        for name, value in call["slurm"].items():
            monkeypatch.setenv(name, value)
        assert announced()  # train.distributed=auto joins


def test_no_config_is_told(slurm):
    done, calls = slurm("slurm.sh")
    assert done.returncode != 0 and "usage: sbatch slurm.sh CONFIG" in done.stderr and not calls
    done, calls = slurm("slurm_array.sh")
    assert "usage: bash slurm_array.sh NUMBER_OF_TASKS" in done.stderr and not calls


def test_an_array_covers_the_sweep(slurm):
    words = ["--config", CONFIG, "--seeds", "5", "--together", "2", "--config.data.root=/a b"]
    done, calls = slurm("slurm_array.sh", "2", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "features: job 1, runs: 2, table: 3\n"
    first, *tasks, last = calls
    assert first["argv"][-2:] == ["--only", "prepare"] and last["argv"][-2:] == ["--only", "table"]
    assert [call["task"] for call in tasks] == ["1", "2"]
    for call in calls:
        options, runs = planned(call["argv"])
        assert len(runs) == 5 and runs[0].config.data.root == "/a b"
        part = sweep_plan.parse_task(options.task) if options.task else None
        assert part == ((int(call["task"]), 2) if call["task"] else None)
    submitted = Path(f"{slurm.folder / 'calls'}.sbatch").read_text().splitlines()
    assert "--dependency=afterok:1 --array=1-2" in submitted[1]
    assert "--dependency=afterany:2" in submitted[2]


# --- Kubernetes -----------------------------------------------------------------------------------


def read(name):
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((CLUSTER / name).read_text())


def test_the_ray_job():
    job = read("ray_job.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[0] == "python"
    options, runs = planned(words[1:])
    assert options.runner == "ray" and len(runs) == 10
    cluster = job["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    for group in (cluster["headGroupSpec"], workers):
        assert_shares_the_data(group["template"]["spec"], [options.out, *paths_of(runs[0].config)])
    limits = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"  # what a task takes by default


def test_the_job_set():
    jobs = read("jobset.yaml")
    assert (jobs["apiVersion"], jobs["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (slice_,) = jobs["spec"]["replicatedJobs"]
    job = slice_["template"]["spec"]
    assert job["completionMode"] == "Indexed" and job["parallelism"] == job["completions"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"][0] == "python"
    options, config = checked(container["command"][1:])
    assert config.train.distributed == "auto"
    assert_shares_the_data(pod, [options.workdir, *paths_of(config)])
    rows, columns = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
    chips = int(container["resources"]["limits"]["google.com/tpu"])
    assert chips * job["parallelism"] == int(rows) * int(columns)


def paths_of(config):
    return [config.data.root, config.data.shards]


def assert_shares_the_data(pod, paths):
    """All that is written or read lies on a volume of the pod; the image is to be filled in."""
    (container,) = pod["containers"]
    assert container["image"] == "IMAGE"
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    for path in paths:
        assert any(path.startswith(f"{mount}/") for mount in mounts.values()), path
