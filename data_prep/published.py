"""What is known about the data sets' releases, for `data_prep.check` to compare a copy with."""

from collections.abc import Mapping
from typing import NamedTuple


class Facts(NamedTuple):
    """Counts of a complete copy.  Types are macro and micro."""

    subjects: int
    videos: int
    """On disk, with those that have no annotation."""
    rows: Mapping[str, int]
    """Annotated expressions."""
    onset_zero: int
    """Macro-expressions with onset 0, which SOFTNet drops."""
    emotions: Mapping[str, int]
    """Of the micro-expressions (CAS(ME)^3) or of all (CAS(ME)^2)."""
    frames: int
    """0: not published."""
    k: Mapping[str, int]
    """The papers' k in frames; empty: none published."""
    source: str


FACTS: dict[str, Facts] = {
    "casme2": Facts(
        subjects=22,
        videos=98,
        rows={"macro": 300, "micro": 57},
        onset_zero=0,
        emotions={"negative": 126, "positive": 124, "others": 82, "surprise": 25},
        frames=254_094,
        k={"macro": 18, "micro": 6},
        source="SOFTNet (Liong et al. 2021); frames: video list of the MEGC 2020 baseline",
    ),
    "samm_lv": Facts(
        subjects=30,
        videos=147,
        rows={"macro": 343, "micro": 159},
        onset_zero=10,
        emotions={},
        frames=482_797,
        k={"macro": 174, "micro": 37},
        source="SAMM_LongVideos_V2_Release.xlsx and SOFTNet (Liong et al. 2021); papers say 32 "
        "subjects; frames: video list of the MEGC 2020 baseline (first release)",
    ),
    "casme3": Facts(
        subjects=98,
        videos=956,
        rows={"macro": 3346, "micro": 860},
        onset_zero=1,
        emotions={"negative": 457, "positive": 55, "surprise": 187, "others": 161},
        frames=0,
        k={},
        source="CAS(ME)3_part_A_v2.xls, the videos that have an annotation; SFAMNet says 3342 "
        "macro-expressions, 100 subjects",
    ),
}

RELEASES: dict[str, str] = {
    "6cde468bb6de74e5180309202da9947ca5e16300f2083353de45364f4e2d4797": "CAS(ME)^2code_final.xlsx "
    "(CASME_sq_gt.xlsx of MEGC 2021)",
    "0e86f08d5f2db657e8c688a5c0c44b5d94bc0de20de6b3759da1c380813c6f4a": "SAMM_LongVideos_V2_Release"
    ".xlsx (SAMMLV_gt.xlsx of MEGC 2021)",
    "d17cba37f59e5f686ec5ba72168a30d150af040634da20d56d81fdca6b5de32d": "CAS(ME)3_part_A_v2.xls",
    "2150e1160882d4731a18ee277a0b8c4d8481653ff4848714d5cba77c88991503": "cas(me)3_part_A_ME_label_"
    "JpgIndex_v2.xlsx (SFAMNet's copy, without the owners' four typos)",
}
"""sha256 of annotation files as released."""
