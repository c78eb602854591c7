"""Rows of 16-bit codes by a packed weight, in the processor's products of bytes (VNNI).

A lane is an output: four inputs of each at a time, unsigned codes of the weight by both planes of
the rows. Sums of a group are whole numbers, its scales come behind them, and outputs are summed up
group by group: the same numbers for every count of rows, and of threads.
"""

from qcompile.emit.native.assembly import BYTES, FLOATS, INTS, LANES, Assembly, Signature, constant
from qcompile.emit.native.layout import CHUNK, QUARTET, VECTOR, steps_of, vectors_of

MOST_ROWS = 4
"""At a time, for which the weight is unpacked once."""
AHEAD = 4096
"""Bytes that the weight is fetched ahead of its use."""
CHAINS = 4
"""Sums that run beside each other, since the next product waits for the last one's sum."""
MULTIPLY = "llvm.x86.avx512.vpdpbusd.512"

DECLARED = f"""
declare {INTS} @{MULTIPLY}({INTS}, {INTS}, {INTS})
declare {FLOATS} @llvm.fma.v{LANES}f32({FLOATS}, {FLOATS}, {FLOATS})
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
"""


def signature(rows: int) -> Signature:
    return Signature(f"row_product_{rows}", ADDRESSES, NUMBERS)


ADDRESSES = ("high", "low", "xscales", "xsums", "weight", "scales", "zeros", "bias", "y")
NUMBERS = ("first", "last", "inputs", "groups", "chunks", "outputs")
"""Blocks ``first`` to ``last`` of 16 outputs each; groups of ``chunks`` times 32 inputs."""


def row_product(bits: int, rows: int) -> str:
    """For weights of ``bits`` bits, and ``rows`` rows of codes."""
    f = Assembly()
    f(
        signature(rows).definition(),
        "entry:",
        f"%bytes = mul i64 %chunks, {VECTOR * vectors_of(bits)}",
    )
    places = [_places(f, row) for row in range(rows)]
    f(
        "br label %block",
        "block:",
        "%n = phi i64 [%first, %entry], [%n.next, %finished]",
        f"%from = mul i64 %n, {LANES}",
        "%ng = mul i64 %n, %groups",
    )
    bias = f.load(FLOATS, f.at("float", "%bias", "%from"))
    f(
        "br label %group",
        "group:",
        "%g = phi i64 [0, %block], [%g.next, %summed]",
        *(
            f"%y{row} = phi {FLOATS} [{bias}, %block], [%y{row}.next, %summed]"
            for row in range(rows)
        ),
        "%at = add i64 %ng, %g",
        "%weightfrom = mul i64 %at, %bytes",
        f"%inputfrom = mul i64 %g, {CHUNK}",
        "%start = mul i64 %inputfrom, %chunks",
    )
    sums = _sums_of_group(f, bits, places)
    f(f"%side = mul i64 %at, {LANES}")
    scale = f.load(FLOATS, f.at("float", "%scales", "%side"))
    zero = f.load(BYTES, f.at("i8", "%zeros", "%side"))
    zero = f.value(f"zext {BYTES} {zero} to {INTS}")
    for row, (place, planes) in enumerate(zip(places, sums, strict=True)):
        total = _around_zero(f, place, planes, zero)
        f(
            f"%y{row}.next = call {FLOATS} @llvm.fma.v{LANES}f32({FLOATS} {total},"
            f" {FLOATS} {scale}, {FLOATS} %y{row})"
        )
    f.count("g", "%groups", "group", "finished")
    f("finished:")
    for row, place in enumerate(places):
        f.store(FLOATS, f"%y{row}.next", f.at("float", place["y"], "%from"))
    f.count("n", "%last", "block", "end")
    f("end:", "ret void")
    return f.text()


_PLANES = ("high", "low")
_OF_ROW = (
    *(("i8", plane, "inputs") for plane in _PLANES),
    ("float", "xscales", "groups"),
    ("i32", "xsums", "groups"),
    ("float", "y", "outputs"),
)


def _places(f: Assembly, row: int) -> dict[str, str]:
    """Where what belongs to ``row`` starts."""
    return {
        name: f.at(kind, f"%{name}", f.value(f"mul i64 %{size}, {row}"))
        for kind, name, size in _OF_ROW
    }


def _sums_of_group(f: Assembly, bits: int, places: list[dict[str, str]]) -> list[dict[str, str]]:
    """Of both planes of each row: chunk by chunk, in several sums that wait for none other."""
    chains = range(max(1, CHAINS // len(places)))
    codes = f.at("i8", "%weight", "%weightfrom")
    f("br label %chunk", "chunk:", "%c = phi i64 [0, %group], [%c.next, %chunk]")
    names = {
        (row, plane, chain): f"%{plane}{row}.{chain}"
        for row in range(len(places))
        for plane in _PLANES
        for chain in chains
    }
    for name in names.values():
        f(f"{name} = phi {INTS} [zeroinitializer, %group], [{name}.next, %chunk]")
    f(
        f"%bytefrom = mul i64 %c, {VECTOR * vectors_of(bits)}",
        f"%inside = mul i64 %c, {CHUNK}",
        "%input = add i64 %start, %inside",
    )
    here, sums = f.at("i8", codes, "%bytefrom"), dict(names)
    for number in range(CHUNK // QUARTET):
        weights = step_of_chunk(f, here, bits, number, ahead=True)
        input_ = f.value(f"add i64 %input, {QUARTET * number}")
        for (row, plane, chain), name in sums.items():
            if chain == number % len(chains):
                four = f.load("i32", f.at("i8", places[row][plane], input_))
                sums[row, plane, chain] = f.value(
                    f"call {INTS} @{MULTIPLY}({INTS} {name}, {INTS} {weights},"
                    f" {INTS} {f.everywhere('i32', four)})"
                )
    for key, name in names.items():
        # no operation: only what a phi asks for by name
        f(f"{name}.next = add {INTS} {sums[key]}, zeroinitializer")
    f.count("c", "%chunks", "chunk", "summed")
    f("summed:")
    return [
        {
            plane: f.added(f"{names[row, plane, chain]}.next" for chain in chains)
            for plane in _PLANES
        }
        for row in range(len(places))
    ]


def _around_zero(f: Assembly, place: dict[str, str], planes: dict[str, str], zero: str) -> str:
    """The group's sums of its numbers and of codes around the zero points."""
    high = f.value(f"shl {INTS} {planes['high']}, {constant(8)}")
    x_sum = f.everywhere("i32", f.load("i32", f.at("i32", place["xsums"], "%g")))
    offset = f.value(f"mul {INTS} {x_sum}, {zero}")
    total = f.value(f"sub {INTS} {f.added((high, planes['low']))}, {offset}")
    x_scale = f.everywhere("float", f.load("float", f.at("float", place["xscales"], "%g")))
    total = f.value(f"sitofp {INTS} {total} to {FLOATS}")
    return f.value(f"fmul {FLOATS} {total}, {x_scale}")


def step_of_chunk(f: Assembly, chunk: str, bits: int, number: int, ahead: bool = False) -> str:
    """Codes of the four inputs ``number`` of a chunk, for each output, a byte each."""
    vector, step = divmod(number, steps_of(bits))
    address = f.at("i8", chunk, VECTOR * vector)
    if ahead and not step:
        later = f.at("i8", address, AHEAD)
        f(f"call void @llvm.prefetch.p0(ptr {later}, i32 0, i32 3, i32 1)")
    word = f.load(INTS, address)
    if step:
        word = f.value(f"lshr {INTS} {word}, {constant(bits * step)}")
    if bits == 8:
        return word
    return f.value(f"and {INTS} {word}, {constant(((1 << bits) - 1) * 0x01010101)}")
