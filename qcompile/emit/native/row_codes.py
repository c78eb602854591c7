"""Rows of floats as 16-bit codes in two planes of bytes, a scale for each group of inputs.

``code = 256 * high + low`` with ``low`` in [-128, 127], and the group's largest number is
``MOST``: the rounding of a number is at most its group's largest divided by 65,278.
"""

from qcompile.emit.native.assembly import BYTES, FLOATS, INTS, LANES, Assembly, Signature, constant

MOST = 32639
"""The largest code of which both bytes are signed ones: 127 * 256 + 127."""
LEAST = "0x39B4484C00000000"
"""1e-30: where all is smaller codes are zero, and neither scale nor its inverse is denormal."""
SIGNATURE = Signature("row_codes", ("x", "high", "low", "xscales", "xsums"), ("groups", "parts"))

DECLARED = f"""
declare {FLOATS} @llvm.fabs.v{LANES}f32({FLOATS})
declare {FLOATS} @llvm.maximum.v{LANES}f32({FLOATS}, {FLOATS})
declare {FLOATS} @llvm.roundeven.v{LANES}f32({FLOATS})
declare float @llvm.vector.reduce.fmaximum.v{LANES}f32({FLOATS})
declare float @llvm.maximum.f32(float, float)
declare {INTS} @llvm.fptosi.sat.v{LANES}i32.v{LANES}f32({FLOATS})
declare i32 @llvm.vector.reduce.add.v{LANES}i32({INTS})
"""


def row_codes() -> str:
    """All groups, of ``parts`` times 16 numbers each.

    ``xsums`` are those of the codes, 32 bits. A group with a number that is not finite has a scale
    that is not either, so that no result of it is.
    """
    f = Assembly()
    f(
        SIGNATURE.definition(),
        "entry:",
        f"%size = mul i64 %parts, {LANES}",
        "br label %group",
        "group:",
        "%g = phi i64 [0, %entry], [%g.next, %finished]",
        "%from = mul i64 %g, %size",
    )
    source, high, low = (f.at(*of) for of in (("float", "%x", "%from"), *_PLANES))
    f(
        "br label %largest",
        "largest:",
        "%m = phi i64 [0, %group], [%m.next, %largest]",
        f"%most = phi {FLOATS} [zeroinitializer, %group], [%mosts, %largest]",
        f"%mo = mul i64 %m, {LANES}",
    )
    x = f.load(FLOATS, f.at("float", source, "%mo"))
    x = f.value(f"call {FLOATS} @llvm.fabs.v{LANES}f32({FLOATS} {x})")
    f(f"%mosts = call {FLOATS} @llvm.maximum.v{LANES}f32({FLOATS} {x}, {FLOATS} %most)")
    f.count("m", "%parts", "largest", "scale")
    f("scale:")
    most = f.value(f"call float @llvm.vector.reduce.fmaximum.v{LANES}f32({FLOATS} %mosts)")
    most = f.value(f"call float @llvm.maximum.f32(float {most}, float {LEAST})")
    scale = f.value(f"fdiv float {most}, {MOST}.0")
    f.store("float", scale, f.at("float", "%xscales", "%g"))
    inverse = f.everywhere("float", f.value(f"fdiv float 1.0, {scale}"))
    f(
        "br label %part",
        "part:",
        "%p = phi i64 [0, %scale], [%p.next, %part]",
        f"%sum = phi {INTS} [zeroinitializer, %scale], [%summed, %part]",
        f"%po = mul i64 %p, {LANES}",
    )
    x = f.load(FLOATS, f.at("float", source, "%po"))
    x = f.value(f"fmul {FLOATS} {x}, {inverse}")
    x = f.value(f"call {FLOATS} @llvm.roundeven.v{LANES}f32({FLOATS} {x})")
    code = f.value(f"call {INTS} @llvm.fptosi.sat.v{LANES}i32.v{LANES}f32({FLOATS} {x})")
    f(f"%summed = add {INTS} %sum, {code}")
    upper = f.value(f"add {INTS} {code}, {constant(128)}")
    upper = f.value(f"ashr {INTS} {upper}, {constant(8)}")
    # what is left of the code is its low byte, read as a signed one
    for plane, of in ((high, upper), (low, code)):
        f.store(BYTES, f.value(f"trunc {INTS} {of} to {BYTES}"), f.at("i8", plane, "%po"))
    f.count("p", "%parts", "part", "finished")
    f("finished:")
    total = f.value(f"call i32 @llvm.vector.reduce.add.v{LANES}i32({INTS} %summed)")
    f.store("i32", total, f.at("i32", "%xsums", "%g"))
    f.count("g", "%groups", "group", "end")
    f("end:", "ret void")
    return f.text()


_PLANES = (("i8", "%high", "%from"), ("i8", "%low", "%from"))
