"""What the benchmarks of forecasts make of their rows."""

from tests.bench.forecast import line
from tests.bench.memory import lines

ROW = {"recipe": "m-w4", "seconds": 10.0, "seconds_forecast": 9.0, "bytes": 7, "bytes_forecast": 7}
STREAMS = {**ROW, "tune": "rtn", "peak_mb": 100.0, "peak_mb_forecast": 110.0}


def test_a_row_tells_measured_and_forecast_figures():
    assert line(STREAMS) == (
        "m-w4 tune rtn: seconds 10, forecast 9 (-10%); peak_mb 100, forecast 110 (+10%); "
        "bytes 7, forecast 7 (+0%)"
    )


def test_each_term_is_that_of_the_unit_whose_forecast_is_largest():
    runs = [
        {
            "units": {
                "a": {"streams": (s, 80), "statistics": (5, 4), "learning": (0, 0), "peak": (9, 8)},
                "b": {
                    "streams": (5, 60),
                    "statistics": (8, 9),
                    "learning": (0, 0),
                    "peak": (p, 12),
                },
            }
        }
        for s, p in ((90, 10), (70, 11), (200, 30))
    ]
    assert list(lines("m-w4", runs)) == [
        "| m-w4 | streams | a | 90 | 70, 200 | 80 | -11% |",
        "| m-w4 | statistics | b | 8 | 8, 8 | 9 | +12% |",
        "| m-w4 | learning | a | 0 | 0, 0 | 0 | - |",
        "| m-w4 | peak | b | 11 | 10, 30 | 12 | +9% |",
    ]
