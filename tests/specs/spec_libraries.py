"""Files that the recipes of the specs may import."""

SCHEMES = """\
qrecipe 1
param bits: int = 4 in 2..8
let small = 64
scheme w4 { weight int4 per_channel bits=bits }
scheme w8 { weight int8 per_channel }
select thin = depthwise
policy base {
  use w4 for conv or linear
  use w8 for thin
}
"""

NESTED = """\
qrecipe 1
import "schemes.qrecipe" as lib
scheme w3 extends lib.w4 { weight with bits=3 }
policy gentle extends lib.base { use lib.w8 for linear }
"""

LIBRARIES = {
    "lib/schemes.qrecipe": SCHEMES,
    "lib/nested.qrecipe": NESTED,
    "lib/itself.qrecipe": 'qrecipe 1\nimport "itself.qrecipe" as me\n',
    "lib/two-words.qrecipe": "qrecipe 1\nscheme w8 { weight int8 }\n",
}
