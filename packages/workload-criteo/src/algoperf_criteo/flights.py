"""Flights as rows of a click log: what is known of a flight before it leaves, as 13 integers and 26 categories.

The label, in place of a click, is whether a flight arrived more than 15 minutes late. Nothing else that happens after
the scheduled departure is read (`dep_time`, `dep_delay`, `arr_time`, `air_time`). What is counted is scheduled flights,
those among them that were cancelled: who is left out afterwards says how the day went.
"""

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping

import polars as pl

from algoperf_criteo.spec import NUM_CATEGORICAL, NUM_DENSE

# Minutes.
LATE = 15
_WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
_DATE = ("month", "day")

INTEGERS: Mapping[str, pl.Expr] = {
    "minutes from midnight to departure": 60 * pl.col("hour") + pl.col("minute"),
    "minutes from midnight to arrival": 60 * (pl.col("sched_arr_time") // 100) + pl.col("sched_arr_time") % 100,
    "miles": pl.col("distance"),
    # Exact values would tell the date, which says nothing of other dates.
    "temperature": 10 * (pl.col("temp") / 10).round(),
    "wind": pl.col("wind_speed"),
    "gusts": pl.col("wind_gust"),
    "precipitation": 100 * pl.col("precip"),
    "visibility": 10 * pl.col("visib"),
    "age of the plane": 2013 - pl.col("built"),
    "seats": pl.col("seats"),
    "departures in that hour": pl.len().over("origin", *_DATE, "hour"),
    "departures of the carrier on that day": pl.len().over("carrier", *_DATE),
    "earlier departures of the plane on that day": pl.int_range(pl.len()).over(
        "tailnum", *_DATE, order_by="sched_dep_time"
    ),
}

# In this order, those of few values stand in columns that Criteo's numbering has few numbers for.
CATEGORIES: Mapping[str, pl.Expr] = {
    "plane": pl.col("tailnum"),
    "flight": pl.col("flight"),
    "destination": pl.col("dest"),
    "seats": pl.col("seats"),
    "model": pl.col("model"),
    "precipitation": pl.col("precip"),
    "visibility": pl.col("visib") // 1,
    "pressure": pl.col("pressure") // 5,
    "hour": pl.col("hour"),
    "minute": pl.col("minute"),
    "hour of arrival": pl.col("sched_arr_time") // 100,
    "year of the plane": pl.col("built"),
    "engine": pl.col("engine"),
    "temperature": pl.col("temp") // 10,
    "dew point": pl.col("dewp") // 10,
    "carrier": pl.col("carrier"),
    "engines": pl.col("engines"),
    "gusts": pl.col("wind_gust") // 5,
    "weekday": pl.date("year", *_DATE).dt.weekday(),
    "humidity": pl.col("humid") // 10,
    "wind direction": pl.col("wind_dir"),
    "month": pl.col("month"),
    "manufacturer": pl.col("manufacturer"),
    "wind": pl.col("wind_speed") // 4,
    "origin": pl.col("origin"),
    "type": pl.col("type"),
}
assert (len(INTEGERS), len(CATEGORIES)) == (NUM_DENSE, NUM_CATEGORICAL)


def read_flights(read: Callable[[str], bytes]) -> pl.DataFrame:
    """The flights that arrived, with the weather at their origin and their planes, in the order of their departure.

    Args:
        read: gives the contents of a file of the package's folder `data`.

    Returns:
        `day`, the day of the month, and `row`, the flight as a line of a click log without its end.
    """
    with zipfile.ZipFile(io.BytesIO(read("flights.csv.zip"))) as file:
        flights = _table(file.read("flights.csv"))
    # The hour in which clocks were set back is there twice.
    weather = _table(read("weather.csv")).unique(["origin", "time_hour"], keep="first", maintain_order=True)
    planes = _table(read("planes.csv")).rename({"year": "built"}).drop("speed")
    flights = flights.join(
        weather.select("origin", "time_hour", *_WEATHER), ["origin", "time_hour"], "left", maintain_order="left"
    ).join(planes, "tailnum", "left", maintain_order="left")
    label = (pl.col("arr_delay") > LATE).cast(pl.Int8).cast(pl.String)
    integers = flights.select(
        value.round().cast(pl.Int32).cast(pl.String).fill_null("").alias(f"integer {name}")
        for name, value in INTEGERS.items()
    )
    texts = flights.select(value.cast(pl.String).alias(f"category {name}") for name, value in CATEGORIES.items())
    categories = [text.replace_strict(_hexadecimals(text), default="") for text in texts]
    fields = [label, *integers.columns, *texts.columns]
    rows = flights.with_columns(*integers, *categories)
    return rows.filter(pl.col("arr_delay").is_not_null()).select("day", row=pl.concat_str(fields, separator="\t"))


def _table(content: bytes) -> pl.DataFrame:
    return pl.read_csv(content, null_values="NA", infer_schema_length=None)


def _hexadecimals(texts: pl.Series) -> Mapping[str, str]:
    """For each text eight hexadecimal digits, as Criteo writes categories."""
    return {text: hashlib.sha256(text.encode()).hexdigest()[:8] for text in texts.drop_nulls().unique()}
