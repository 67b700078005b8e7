"""What cannot work is refused before any work."""

import pytest

from spotjax.cli import load_config
from spotjax.errors import UserError
from spotjax.loso import start
from spotjax.systems import build


def check(config, *overrides):
    loaded = load_config(f"configs/{config}.py", list(overrides))
    start.check(loaded, build(loaded.system, {"macro": 18, "micro": 6}))


@pytest.mark.parametrize("name", ["demo", "mesnet_demo", "cnn3d_demo", "spotformer_demo"])
def test_the_demos_can_begin(name):
    check(name)


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        ("mesnet_demo", ["train.start=runs/x"], "each fold starts from the pre-training"),
        ("demo", ["evaluation.threshold_choice=oracle"], "softnet has no thresholds to choose"),
        ("mesnet_demo", ["pretrain=none", "train.validation=0",
                         "evaluation.threshold_choice=validation"], "keeps nothing aside"),
        ("demo", ["evaluation.epoch_choice=oracle"], "set --config.train.score_every=1"),
        ("mesnet_demo", ["train.validate_every=1"], "its pre-training can: pretrain.validate_ev"),
        ("cnn3d_demo", ["train.validation=0", "evaluation.threshold_choice=fixed"],
         "needs train.validation, for example 0.2"),
        ("cnn3d_demo", ["train.validate_every=0", "train.patience=3"],
         "train.patience=3 needs train.validate_every"),
        ("mesnet_demo", ["pretrain.validate_every=0"], "pretrain.patience=4 needs pretrain.valid"),
        ("demo", ["train.initialisations=2"], "train.initialisations=2 needs train.validate_eve"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(config, overrides, message):
    with pytest.raises(UserError, match=message):
        check(config, *overrides)


def test_an_evaluation_that_is_not_asked_for_may_ask_for_anything():
    check("demo", "evaluation.threshold_choice=oracle", "evaluate=false")


@pytest.mark.parametrize("value", ["1.5", "-0.1", "many"])
def test_validation_is_a_share_or_a_whole_number(value):
    with pytest.raises(UserError, match="train.validation: input should be"):
        load_config("configs/demo.py", [f"train.validation={value}"])
    assert load_config("configs/demo.py", ["train.validation=2.0"]).train.validation == 2
