"""The product of any number of rows: a few at a time, by as much of the weight as stays cached."""

from qcompile.emit.native.assembly import Assembly, Signature
from qcompile.emit.native.row_product import ADDRESSES, MOST_ROWS, NUMBERS, signature

SIGNATURE = Signature("all_rows", ADDRESSES, (*NUMBERS, "count", "most"))


def all_rows() -> str:
    """For ``count`` rows, ``most`` blocks of outputs at a time."""
    f = Assembly()
    f(
        SIGNATURE.definition(),
        "entry:",
        "br label %part",
        "part:",
        "%start = phi i64 [%first, %entry], [%start.next, %behind]",
        "%end.most = add i64 %start, %most",
        "%is.less = icmp ult i64 %end.most, %last",
        "%stop = select i1 %is.less, i64 %end.most, i64 %last",
        "br label %rows",
        "rows:",
        "%row = phi i64 [0, %part], [%row.next, %done]",
        "%left = sub i64 %count, %row",
    )
    inputs, groups, outputs = (
        f.value(f"mul i64 %row, %{size}") for size in ("inputs", "groups", "outputs")
    )
    places = {
        "high": f.at("i8", "%high", inputs),
        "low": f.at("i8", "%low", inputs),
        "xscales": f.at("float", "%xscales", groups),
        "xsums": f.at("i32", "%xsums", groups),
        "y": f.at("float", "%y", outputs),
        "first": "%start",
        "last": "%stop",
    }
    few = range(1, MOST_ROWS)
    cases = " ".join(f"i64 {count}, label %by{count}" for count in few)
    f(f"switch i64 %left, label %by{MOST_ROWS} [{cases}]")
    for count in (*few, MOST_ROWS):
        f(f"by{count}:", signature(count).call(**places), "br label %done")
    f(
        "done:",
        f"%row.next = add i64 %row, {MOST_ROWS}",
        "%more.rows = icmp ult i64 %row.next, %count",
        "br i1 %more.rows, label %rows, label %behind",
        "behind:",
        "%start.next = add i64 %start, %most",
        "%more = icmp ult i64 %start.next, %last",
        "br i1 %more, label %part, label %end",
        "end:",
        "ret void",
    )
    return f.text()
