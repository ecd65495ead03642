"""When a run began and when it last wrote, by the times of its files."""

import datetime
from pathlib import Path

ENDS = ("metrics.jsonl", "events.jsonl", "members.csv")


def timing(directory: Path, description: str, steps: int) -> list[tuple[str, str]]:
    """Begin, last write, and what lies between: compiling, evaluating and any pause are in it.

    Args:
        directory: of the run.
        description: the file that was written first.
        steps: of the environment, of all seeds; 0 where none are counted.
    """
    begin = (directory / description).stat().st_mtime
    ends = [(directory / name).stat().st_mtime for name in ENDS if (directory / name).is_file()]
    seconds = max([begin, *ends]) - begin
    told = [
        ("begun", _date(begin)),
        ("last written", _date(begin + seconds)),
        ("from the one to the other", _duration(seconds)),
    ]
    if steps and seconds >= 1:
        told.append(("environment steps a second", f"{steps / seconds:,.0f}, all seeds together"))
    return told


def _date(time: float) -> str:
    return datetime.datetime.fromtimestamp(time).strftime("%Y-%m-%d %H:%M:%S")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return str(datetime.timedelta(seconds=round(seconds)))
