"""Each config loads, says what it is, and builds; overrides are typed and checked."""

import json
import re
from pathlib import Path

import jax
import pytest

from spotjax import cli, config
from spotjax.errors import UserError
from spotjax.systems import build

FILES = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))
DEMO = "configs/demo.py"
SAMM_LV = "configs/spotformer_samm_lv.py"


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
def test_every_config_loads_documents_itself_and_builds(file):
    loaded = cli.load_config(str(file))
    text = file.read_text().split('"""')[1]
    for word in ("Command:", "Cost:", "Expect:", "Differs from the paper:"):
        assert word in text
    assert loaded.name in (file.stem, "demo")
    system = build(loaded.system, {"macro": 18, "micro": 6})
    shapes = jax.eval_shape(system.init, jax.random.key(0))["params"]
    demo = file.stem.endswith("_demo")
    seven = file.stem.endswith("7class")
    expected = {
        "softnet": 314_817,
        "spotformer": 52_042 if demo else 3_168_778,
        "sfamnet": 8_386 if seven else 7_207,
        "cnn3d": 12_701,
        "mesnet": {64: 1_218_606, 112: 2_840_622, 227: 10_065_966}.get(
            getattr(loaded.system, "size", 0)
        ),
    }
    assert sum(x.size for x in jax.tree.leaves(shapes)) == expected[loaded.system.name]
    assert config.from_dict(config.to_dict(loaded)) == loaded


def test_the_rules_are_those_of_the_table():
    from typing import get_args

    from spotjax.counting.matching import RULES

    assert get_args(config.Rule) == tuple(RULES)


def test_a_runs_config_is_a_config_file(tmp_path):
    file = tmp_path / "config.json"
    demo = cli.load_config(DEMO)
    file.write_text(json.dumps({"config": config.to_dict(demo)}))
    assert cli.load_config(str(file)) == demo
    assert cli.load_config(str(file), ["train.epochs=7"]).train.epochs == 7
    file.write_text(json.dumps({"config": config.to_dict(demo) | {"nmae": 1}}))
    with pytest.raises(UserError, match=r"config\.json: nmae: unknown key; did you mean"):
        cli.load_config(str(file))
    file.write_text("[1]")
    with pytest.raises(UserError, match=r"config\.json: is no run's config: name a config file"):
        cli.load_config(str(file))


def test_presets():
    release = cli.load_config("configs/softnet_casme2.py:release")
    assert release.system.smoothing == "release" and release.system.silent_proposal
    assert release.evaluation.rule == "softnet" and not release.train.reshuffle
    paper = cli.load_config("configs/softnet_casme2.py:paper")
    assert paper == cli.load_config("configs/softnet_casme2.py")
    assert (paper.features.k_macro, paper.features.k_micro) == (18, 6)
    with pytest.raises(UserError, match="unknown preset 'x'"):
        cli.load_config("configs/softnet_casme2.py:x")


def test_overrides_are_literals():
    loaded = cli.load_config(
        DEMO, ["train.epochs=3", "train.folds=('s15',)", "evaluate=False", "data.root=x=y"]
    )
    assert loaded.train.epochs == 3 and loaded.train.folds == ("s15",)
    assert loaded.evaluate is False and loaded.data.root == "x=y"
    assert cli.load_config(DEMO, ["features.k_macro=none"]).features.k_macro is None
    assert cli.load_config(DEMO, ["train.folds=s15,s16"]).train.folds == ("s15", "s16")
    assert cli.load_config(DEMO, ["data.synthetic=none"]).data.synthetic is None


@pytest.mark.parametrize(("text", "step"), [("7", 7), ("6.7", 6.7), ("7.0", 7), ("1", 1)])
def test_a_step_is_whole_where_it_can_be(text, step):
    """7 and 7.0 are one run: the same JSON, folder of shards and hash."""
    loaded = cli.load_config(DEMO, [f"data.sample_every={text}"])
    assert loaded.data.sample_every == step
    assert type(loaded.data.sample_every) is type(step)
    assert config.from_dict(config.to_dict(loaded)) == loaded
    values = json.dumps(config.to_dict(loaded))
    assert f'"sample_every": {step},' in values
    assert config.from_dict(json.loads(values)) == loaded


def test_the_hash_of_data_settings_has_not_changed():
    """Shards and runs that users have are found again under the names that they were made with."""
    for file, known in ((DEMO, "25740a5dc0646dc9"), (SAMM_LV, "180e4eb1d06ec089")):
        loaded = cli.load_config(file, ["data.root=/x/y"])
        values = config.to_dict(loaded)["data"]
        if values["synthetic"] is not None:  # a later key, which names no shards
            assert values["synthetic"].pop("calm") is False
        assert values.pop("runner") == "local"  # so is this one
        assert config.digest(values) == known


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lerning_rate=1", "train.lerning_rate: unknown key; did you mean --config.train.l"),
        ("trian.epochs=1", "trian.epochs: unknown key; did you mean --config.train.epochs"),
        ("train.epochs=2.5", "train.epochs: input should be a valid integer"),
        ("train.epochs=ten", 'train.epochs: .*got "ten"'),
        ("features.k_micro=0", "features.k_micro: input should be greater than or equal to 1"),
        ("features.k_macro=-3", "features.k_macro: input should be greater than or equal to 1"),
        ("data.sample_every=0.5", "data.sample_every: input should be greater than or equal to 1"),
        ("data.sample_every=often", "sample_every: input should be a number such as 7 or 6.7, got"),
        ("data.sample_every=1e999", "sample_every: input should be a number such as 7 or 6.7, got"),
        ("train=3", "train: is a section"),
        ("system.interval=left", "system.interval: input should be 'published' or 'centred'"),
        ("name.x=3", "name.x: unknown key"),
    ],
)
def test_wrong_overrides_name_the_key(override, message):
    with pytest.raises(UserError, match=message):
        cli.load_config(DEMO, [override])


def test_wrong_files_name_the_file(tmp_path):
    with pytest.raises(UserError, match="no such file; did you mean configs/demo.py"):
        cli.load_config("configs/demmo.py")
    for text, message in [
        ("def get_config(:", "SyntaxError"),
        ("x = 1", "get_config is not defined"),
        ("def get_config(): return 3", "returned int, not a Config"),
        ("from spotjax.config import *\ndef get_config(): return Config(nam='x')", "nam: unknown"),
    ]:
        file = tmp_path / "c.py"
        file.write_text(text)
        with pytest.raises(UserError, match=message):
            cli.load_config(str(file))


def test_arguments_that_are_no_overrides_are_refused():
    parser = cli.parser("p", "d")
    parser.add_argument("--config")
    options, overrides = cli.parse(
        parser, ["--config", "c.py", "--config.a.b", "3", "--config.c=4"]
    )
    assert options.config == "c.py" and overrides == ["a.b=3", "c=4"]
    with pytest.raises(UserError, match="unknown argument '--wokdir=x'"):
        cli.parse(parser, ["--wokdir=x"])
    with pytest.raises(UserError, match="has no value"):
        cli.parse(parser, ["--config.a"])


def test_a_system_may_read_the_features_of_another(monkeypatch):
    with pytest.raises(UserError, match="config.system is softnet, which reads softnet's"):
        cli.override(config.Config(name="x", features=config.MesnetFeatures()), [])
    monkeypatch.setattr(config.Softnet, "reads", "mesnet", raising=False)
    assert cli.override(config.Config(name="x", features=config.MesnetFeatures()), [])


def test_a_system_that_is_not_registered_or_varies_what_it_does_not_tell(monkeypatch):
    from spotjax import systems

    class Other:
        name = "other"

    with pytest.raises(ValueError, match="other: has no builder in spotjax/systems/__init__.py"):
        build(Other(), {})
    made = build(config.Softnet(), {"macro": 12, "micro": 4})
    lacking = made._replace(about={"p": 0.5}, variants=({"interval": "centred"},))
    monkeypatch.setitem(systems._BUILDERS, "softnet", lambda section, k: lacking)
    with pytest.raises(ValueError, match="`about` lacks interval, which `variants` has"):
        build(config.Softnet(), {})


def test_help_lists_the_keys_of_all_configs_or_every_key_of_one(tmp_path, capsys):
    rows = cli.describe(config.Config)
    assert all(len(meaning) > 10 for _, _, meaning in rows)
    text = cli.parser("p", "d").format_help()
    assert "train.learning_rate" in text and "[0.0005]" in text
    assert all((f"  {key} " in text) is not key.startswith(cli.OF_A_SYSTEM) for key, _, _ in rows)

    def helped(*words):
        with pytest.raises(SystemExit):
            cli.parse(cli.parser("p", "d"), [*words, "--help"])
        return capsys.readouterr().out

    demo = cli.load_config("configs/mesnet_demo.py")
    (tmp_path / "config.json").write_text(json.dumps({"config": config.to_dict(demo)}))
    own = helped("--config", "configs/mesnet_demo.py")
    assert "system.t_crn" in own and "features.flow_size" in own and "system.p " not in own
    assert re.search(r"train.learning_rate +float +\[0.0003\]", own)
    assert helped(f"--workdir={tmp_path}") == own
    assert helped("--config", "nowhere.py") == helped() == text
