"""What the forecast benchmark makes of its rows."""

from tests.bench.forecast import line, term_lines

ROW = {"recipe": "m-w4", "seconds": 10.0, "seconds_forecast": 9.0, "bytes": 7, "bytes_forecast": 7}
STREAMS = {**ROW, "tune": "rtn", "peak_mb": 100.0, "peak_mb_forecast": 110.0}
SOLVED = {**ROW, "tune": "hybrid", "peak_mb": 150.0, "peak_mb_forecast": 150.0}
LEARNED = {**ROW, "tune": "brecq { steps = 20 }", "peak_mb": 120.0, "peak_mb_forecast": 140.0}


def test_a_row_tells_measured_and_forecast_figures():
    assert line(STREAMS) == (
        "m-w4 tune rtn: seconds 10, forecast 9 (-10%); peak_mb 100, forecast 110 (+10%); "
        "bytes 7, forecast 7 (+0%)"
    )


def test_memory_terms_are_what_a_run_takes_beyond_the_streams():
    assert list(term_lines([STREAMS, LEARNED, SOLVED])) == [
        "m-w4 statistics and solvers: 50.0 MB more than `rtn`, forecast 40.0 (-6.7% of the peak)",
        "m-w4 learning: 20.0 MB more than `rtn`, forecast 30.0 (+8.3% of the peak)",
    ]
    assert list(term_lines([LEARNED])) == []
