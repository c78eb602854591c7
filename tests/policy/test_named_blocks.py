from qcompile.policy.blocks import named_blocks
from tests.policy.compiled import marked, recipe_of, small_cnn

SITES = small_cnn()


def bound(rows):
    blocks, diagnostics = named_blocks(recipe_of(f"blocks {{\n{rows}\n}}"), SITES)
    return [(block.name, sorted(block.sites)) for block in blocks], marked(diagnostics)


def test_each_matched_module_is_a_block():
    assert bound('each "layer.*"') == ([("layer.0", [1, 2, 3]), ("layer.1", [4, 5, 6])], [])


def test_outermost_match_is_the_block():
    assert bound('each "layer" or "layer.*"') == ([("layer", [1, 2, 3, 4, 5, 6])], [])


def test_group_is_a_module_a_selector_or_a_stretch():
    rows = 'group head = linear\ngroup body = "layer"\ngroup stem = "conv1"'
    assert bound(rows)[0] == [("stem", [0]), ("body", [1, 2, 3, 4, 5, 6]), ("head", [7])]
    assert bound('group all_but_stem = "layer.0" .. "fc"')[0] == [
        ("all_but_stem", [1, 2, 3, 4, 5, 6, 7])
    ]


def test_overlap_blames_the_later_row():
    row = 'group late = "layer.1.add" .. "fc"'
    blocks, diagnostics = bound(f'each "layer.*"\n{row}')
    assert [name for name, _ in blocks] == ["layer.0", "layer.1", "late"]
    assert diagnostics == [("QR701", row)]


def test_pattern_that_names_no_module_is_an_error():
    assert bound('each "layers.*"') == ([], [("QR301", '"layers.*"')])


def test_group_of_nothing_is_an_error():
    assert bound("group g = embedding") == ([], [("QR302", "embedding")])
