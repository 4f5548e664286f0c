"""The published files: Criteo's click logs of 24 days, of which the last one is for evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from algoperf.data.archives import Archive
from algoperf_criteo.store import training_folder

COMMAND = "algoperf-orchestrate data prepare criteo1tb --scale full --source FOLDER"
_URL = "https://huggingface.co/datasets/criteo/CriteoClickLogs"


@dataclass(frozen=True, kw_only=True)
class Day(Archive):
    """The click log of a day.

    Attributes:
        parts: the folders that its rows go to, each with its number of rows, in this order.
        digest: nobody published one; what is checked is the file's own CRC and the number of rows.
    """

    parts: Mapping[str, int]
    digest: str = ""

    @property
    def num_rows(self) -> int:
        """All rows of the day."""
        return sum(self.parts.values())


def _day(number: int, parts: Mapping[str, int]) -> Day:
    name = f"day_{number}.gz"
    return Day(
        name=name,
        obtain=f"download it from {_URL} (CC BY-NC-SA 4.0) into the folder of the others, and run `{COMMAND}`",
        parts=parts,
    )


_TRAIN_ROWS = (
    195_841_983,
    199_563_535,
    196_792_019,
    181_115_208,
    152_115_810,
    172_548_507,
    204_846_845,
    200_801_003,
    193_772_492,
    198_424_372,
    185_778_055,
    153_588_700,
    169_003_364,
    194_216_520,
    194_081_279,
    187_154_596,
    177_984_934,
    163_382_602,
    142_061_091,
    156_534_237,
    193_627_464,
    192_215_183,
    189_747_893,
)
_EVALUATED = {"test": 95_000_000, "validation": 83_274_637}

PUBLISHED = (
    *(_day(number, {training_folder(Path(), number).name: rows}) for number, rows in enumerate(_TRAIN_ROWS)),
    _day(len(_TRAIN_ROWS), _EVALUATED),
)
