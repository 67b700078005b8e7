"""The printed values: none lost, none changed, and exactly the marked ones contradict a check."""

import json
from collections import Counter

import pytest
from paper_checks import failed_checks
from reference import shared_file

from spotjax.errors import UserError
from spotjax.papers import published
from spotjax.papers.published import Counts, find

TYPES = {"MaE": "macro", "ME": "micro", "Overall": "overall"}
PAPERS = ("softnet", "sfamnet", "mesnet", "cnn3d", "spotformer")
CHALLENGES = {
    "MEGC2020 baseline README": "megc2020",
    "MEGC2025 paper, MEAN baseline": "megc2025",
}
TABLES = {
    "text 3.2 / 7": "text 3.2",
    "repository (released weights)": "repository",
    "MEGC2020 baseline README": "README",
    "MEGC2025 paper, MEAN baseline": "MEAN",
}
METRICS = {"AP@[.5:.95]": "AP", "find": "found", "prediction": "predictions"}
records = published.records()
marked = {record for record in records if record.erratum}


def same_names(entry):
    """The names of a research record as this project writes them."""
    number = entry["seed"]
    paper = PAPERS[int(number)] if number.isdigit() else CHALLENGES[entry["table"]]
    type, metric, system = TYPES.get(entry.get("class")), entry["metric"], entry["system"]
    first, _, rest = metric.partition(" ")
    if first in TYPES and rest == "F1":
        type, metric = TYPES[first], "F1"
    elif first in ("CPN", "CRN"):
        system, metric = f"MESNet-{first}", rest
    elif first in ("4-class", "7-class") or paper == "megc2025":
        type = "micro"
    data_set = entry["dataset"].replace(" reduced (LGSNet rule)", "")
    table = TABLES.get(entry["table"], entry["table"])
    return (
        *(paper, table, data_set, system, entry.get("variant"), type),
        METRICS.get(metric, metric),
    )


def same_counts(entry):
    if "tp" in entry:
        assert entry.get("n_gt", entry["tp"] + entry["fn"]) == entry["tp"] + entry["fn"]
        return Counts(entry["tp"], entry["fp"], entry["fn"], entry["tp"])
    if "b_tp" in entry:
        fp = entry["n_pred"] - entry["b_tp"] if "n_pred" in entry else None
        return Counts(entry["b_tp"], fp, entry["n_gt"] - entry["a_find"], entry["a_find"])
    return None


def test_no_value_of_the_research_file_is_lost_or_changed():
    source = json.loads(shared_file("specs/paper_tables.json").read_text())["records"]
    ours = {}
    for record in records:
        printed = published.papers()[record.paper].data_sets[record.data_set]
        names = (*record[:2], printed, record.system, record.variant, record.type, record.metric)
        assert names not in ours, names
        ours[names] = record
    assert len(ours) == len(source) == 1207
    for entry in source:
        record = ours[same_names(entry)]
        value = entry["value"]
        assert record.value == (tuple(value) if isinstance(value, list) else value)
        assert record.counts == same_counts(entry)
        extra = {"authors", "seconds"} & entry.keys()
        assert all(str(entry[key]) in record.note for key in extra) or record.note == "this paper"


NOT_RECOMPUTABLE = {
    ("cnn3d", "3", "F1"),  # the abstract's value is in no table
    ("spotformer", "text 4.1", "k_mae"),  # the released settings are in no table
    ("spotformer", "text 4.1", "j_me"),
}


def test_only_marked_values_contradict_a_check():
    assert len(failed_checks()) > 50
    for check in failed_checks():
        assert marked & set(check.about), check.about


def test_every_marked_value_contradicts_a_check():
    failed = {record for check in failed_checks() for record in check.about}
    left = {(r.paper, r.table, r.metric) for r in marked - failed}
    assert left == NOT_RECOMPUTABLE


def test_the_corrected_values_pass():
    mended = [
        check
        for check in failed_checks()
        if all(r.corrected is not None for r in marked & set(check.about))
    ]
    assert len({r for check in mended for r in check.about} & marked) > 15
    for check in mended:
        assert check.passes(corrected=True), check.about


def test_corrections_belong_to_errata():
    assert all(r.erratum for r in records if r.corrected is not None)
    assert Counter(r.paper for r in marked) == {
        **{"softnet": 20, "sfamnet": 2, "mesnet": 33, "cnn3d": 4, "spotformer": 9}
    }


def test_every_table_and_data_set_is_described():
    for name, paper in published.papers().items():
        mine = [r for r in records if r.paper == name]
        assert list(dict.fromkeys(r.table for r in mine)) == list(paper.tables)
        assert {r.data_set for r in mine} == set(paper.data_sets)


def test_find_ignores_case_and_reads_roman_numbers():
    assert find(paper="SoftNet", system="softnet", metric="f1") == find(
        paper="softnet", system="SOFTNet", metric="F1"
    )
    assert find(paper="mesnet", table="10") == find(paper="mesnet", table="X")
    assert find(paper="softnet", table="II") == find(paper="softnet", table="2")
    assert find() == records


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"paper": "sofnet"}, "no paper 'sofnet': did you mean 'softnet'? there is softnet, "),
        ({"paper": "softnet", "table": "9"}, "no table '9' in paper softnet: there is 1, 2, 3"),
        (
            {"paper": "softnet", "table": "3", "data_set": "samm_lv"},
            "no data set 'samm_lv' in paper softnet, table 3: there is casme2",
        ),
        ({"metric": "F2"}, "no metric 'F2': did you mean 'F1'?"),
        ({"system": "Softnte"}, "no system 'Softnte': did you mean 'SOFTNet'?"),
        (
            {"paper": "sfamnet", "table": "text 4.3", "type": "micro"},
            "no type 'micro' in paper sfamnet, table text 4.3: leave it out",
        ),
    ],
)
def test_find_names_the_nearest_word(words, message):
    with pytest.raises(UserError) as error:
        find(**words)
    assert str(error.value).startswith(message)


def results(**protocol):
    """metrics.json of a run, as far as it matters here."""
    row = {"tp": 3, "fp": 4, "fn": 5, "precision": 3 / 7, "recall": 3 / 8, "f1": 0.4, "ap": 0.1}
    rows = dict.fromkeys(("macro", "micro", "overall"), row)
    about = {"system": "softnet", "data_set": "casme2", "p": 0.55, "k": {"macro": 18, "micro": 6}}
    strain = dict.fromkeys(rows, {**row, "f1": 0.2})
    baselines = {"strain_sum": strain, "mdmd": strain}
    return {"protocol": about | protocol, "results": rows, "baselines": baselines}


def test_a_run_stands_beside_the_rows_of_its_system():
    pairs = published.beside(results(), find(paper="softnet", table="2"))
    assert len(pairs) == 12
    assert {pair.record.data_set for pair in pairs} == {"casme2"}
    assert {pair.counts for pair in pairs} == {(3, 4, 5)}
    values = {pair.record.metric: pair.value for pair in pairs}
    assert values == {"precision": 3 / 7, "recall": 3 / 8, "F1": 0.4, "AP": 0.1}


def test_baselines_stand_beside_their_rows():
    pairs = published.beside(results(), find(paper="softnet", table="1"))
    assert {(p.record.system, p.by, p.value) for p in pairs} == {
        ("SOFTNet", "softnet", 0.4),
        ("Ours w/o SOFTNet", "strain_sum", 0.2),
        ("Baseline MDMD [20]", "mdmd", 0.2),
    }


def test_summed_strain_has_a_p_of_its_own():
    pairs = published.beside(results(p=0.6), find(paper="softnet", table="5"))
    assert {(p.record.variant, p.by) for p in pairs} == {("p=0.50", "strain_sum")}


@pytest.mark.parametrize(
    ("p", "variants"), [(0.55, {"p=0.55"}), (0.6, {"p=0.60"}), (0.33, None), (None, None)]
)
def test_of_a_sweep_over_p_the_own_p_is_kept(p, variants):
    chosen = find(paper="softnet", table="4", data_set="casme2")
    pairs = published.beside(results(p=p), chosen)
    assert {pair.record.variant for pair in pairs} == (variants or {r.variant for r in chosen})


def test_a_table_of_another_p_is_kept():
    assert len(published.beside(results(p=0.6), find(paper="softnet", table="2"))) == 12


def test_k_comes_from_the_protocol():
    pairs = published.beside(results(), find(paper="softnet", table="6"))
    assert {(p.record.type, p.value, p.counts) for p in pairs} == {
        ("macro", 18, None),
        ("micro", 6, None),
    }
    assert not published.beside(results(k={}), find(paper="softnet", table="6"))


def test_rendered_data_is_known_by_its_name_or_an_empty_root():
    assert published.rendered({"data_set": "synthetic_casme2"})
    assert published.rendered({"data_set": "casme2", "config": {"data": {"root": ""}}})
    assert not published.rendered({"data_set": "casme2", "config": {"data": {"root": "/x"}}})
    run = results(data_set="synthetic_casme2")
    assert len(published.beside(run, find(paper="softnet", table="2"))) == 12


def test_systems_name_rows_that_exist():
    for printed in published.SYSTEMS.values():
        assert all(find(system=row) for row in printed.rows)
        assert find(paper=printed.paper, system=printed.rows[0])
    assert all(find(system=row) for rows in published.BASELINES.values() for row in rows)


def test_other_systems_have_no_row():
    pairs = published.beside(results(system="new"), records)
    assert {pair.by for pair in pairs} == {"strain_sum", "mdmd"}


@pytest.mark.parametrize(
    ("paper", "metric", "decimals"),
    [
        ("softnet", "F1", 4),
        ("mesnet", "F1", 3),
        ("mesnet", "recall", 2),
        ("softnet", "k_frames", 0),
    ],
)
def test_decimals_are_those_of_the_paper(paper, metric, decimals):
    assert published.decimals(paper, metric) == decimals
