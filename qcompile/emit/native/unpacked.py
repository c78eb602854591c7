"""A packed weight as rows of bfloat16, for products of many rows."""

from qcompile.emit.native.assembly import BYTES, FLOATS, INTS, LANES, Assembly, Signature, constant
from qcompile.emit.native.layout import CHUNK, QUARTET, VECTOR, vectors_of
from qcompile.emit.native.row_product import step_of_chunk

SIGNATURE = Signature(
    "unpacked",
    ("weight", "scales", "zeros", "y"),
    ("first", "last", "inputs", "groups", "chunks", "origin"),
)
OUTPUTS = LANES // QUARTET
"""Of which a vector of floats has four inputs each."""
HALF = 0x7FFF
"""What is added to a float32 before its lower half is cut off; one more where the upper is odd."""


def unpacked(bits: int) -> str:
    """Blocks of 16 outputs become rows of ``y``, which begins with the block ``origin``."""
    f = Assembly()
    f(
        SIGNATURE.definition(),
        "entry:",
        "br label %block",
        "block:",
        "%n = phi i64 [%first, %entry], [%n.next, %finished]",
        "%ng = mul i64 %n, %groups",
        "%behind = sub i64 %n, %origin",
        f"%row = mul i64 %behind, {LANES}",
        "%rowfrom = mul i64 %row, %inputs",
        "br label %group",
        "group:",
        "%g = phi i64 [0, %block], [%g.next, %filled]",
        "%at = add i64 %ng, %g",
        f"%side = mul i64 %at, {LANES}",
    )
    scale = f.load(FLOATS, f.at("float", "%scales", "%side"))
    zero = f.load(BYTES, f.at("i8", "%zeros", "%side"))
    zero = f.value(f"zext {BYTES} {zero} to {INTS}")
    sides = [
        (_of_four(f, INTS, zero, quarter), _of_four(f, FLOATS, scale, quarter))
        for quarter in range(QUARTET)
    ]
    f(
        "br label %chunk",
        "chunk:",
        "%c = phi i64 [0, %group], [%c.next, %chunk]",
        "%before = mul i64 %at, %chunks",
        "%whole = add i64 %before, %c",
        f"%bytefrom = mul i64 %whole, {VECTOR * vectors_of(bits)}",
        "%chunkbefore = mul i64 %g, %chunks",
        "%chunkwhole = add i64 %chunkbefore, %c",
        f"%input = mul i64 %chunkwhole, {CHUNK}",
        "%to = add i64 %rowfrom, %input",
    )
    here, y = f.at("i8", "%weight", "%bytefrom"), f.at("i16", "%y", "%to")
    steps = [_bytes(f, here, bits, number) for number in range(CHUNK // QUARTET)]
    # four rows at a time: their lines are filled before others take their place in the cache
    for quarter, side in enumerate(sides):
        for number, word in enumerate(steps):
            values = _dequantized(f, word, quarter, *side)
            _stored(f, values, y, quarter, QUARTET * number)
    f.count("c", "%chunks", "chunk", "filled")
    f("filled:")
    f.count("g", "%groups", "group", "finished")
    f("finished:")
    f.count("n", "%last", "block", "end")
    f("end:", "ret void")
    return f.text()


def _bytes(f: Assembly, chunk: str, bits: int, number: int) -> str:
    word = step_of_chunk(f, chunk, bits, number)
    return f.value(f"bitcast {INTS} {word} to <{VECTOR} x i8>")


def _picked(lanes: list[int]) -> str:
    return f"<{len(lanes)} x i32> <" + ", ".join(f"i32 {lane}" for lane in lanes) + ">"


def _of_four(f: Assembly, vector: str, values: str, quarter: int) -> str:
    """Each of four lanes, four times."""
    lanes = [quarter * OUTPUTS + lane // QUARTET for lane in range(LANES)]
    return f.value(f"shufflevector {vector} {values}, {vector} poison, {_picked(lanes)}")


def _dequantized(f: Assembly, word: str, quarter: int, zero: str, scale: str) -> str:
    """Four inputs of four outputs, from bytes of 16."""
    lanes = list(range(LANES * quarter, LANES * quarter + LANES))
    of = f"<{VECTOR} x i8>"
    codes = f.value(f"shufflevector {of} {word}, {of} poison, {_picked(lanes)}")
    codes = f.value(f"zext {BYTES} {codes} to {INTS}")
    codes = f.value(f"sub {INTS} {codes}, {zero}")
    values = f.value(f"sitofp {INTS} {codes} to {FLOATS}")
    return f.value(f"fmul {FLOATS} {values}, {scale}")


def _stored(f: Assembly, values: str, y: str, quarter: int, offset: int) -> None:
    values, vector, part = _rounded(f, values), f"<{LANES} x i16>", f"<{QUARTET} x i16>"
    for output in range(OUTPUTS):
        lanes = list(range(QUARTET * output, QUARTET * output + QUARTET))
        four = f.value(f"shufflevector {vector} {values}, {vector} poison, {_picked(lanes)}")
        start = f.value(f"mul i64 %inputs, {OUTPUTS * quarter + output}")
        start = f.value(f"add i64 {start}, {offset}")
        f.store(part, four, f.at("i16", y, start))


def _rounded(f: Assembly, values: str) -> str:
    """To bfloat16, half to even."""
    whole = f.value(f"bitcast {FLOATS} {values} to {INTS}")
    odd = f.value(f"lshr {INTS} {whole}, {constant(16)}")
    odd = f.value(f"and {INTS} {odd}, {constant(1)}")
    whole = f.value(f"add {INTS} {whole}, {constant(HALF)}")
    whole = f.value(f"add {INTS} {whole}, {odd}")
    whole = f.value(f"lshr {INTS} {whole}, {constant(16)}")
    return f.value(f"trunc {INTS} {whole} to <{LANES} x i16>")
