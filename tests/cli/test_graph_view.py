"""The drawing of a plan: every box and edge is there, apart from one another, and escaped."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.cli.graph_view import graph_dot, graph_svg
from qcompile.cli.layout import HEIGHT, WIDTH, layout
from qcompile.cli.main import main
from qcompile.driver.block_graph import BlockGraph, GraphBox, block_graph
from qcompile.driver.plan import plan_recipe
from qcompile.driver.recipes import recipe_path
from tests.driver.project import make_project

SVG = "{http://www.w3.org/2000/svg}"


def edges_between(count):
    pair = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    return st.sets(pair.filter(lambda edge: edge[0] < edge[1]), max_size=40)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 20).flatmap(lambda n: st.tuples(st.just(n), edges_between(n))))
def test_boxes_never_overlap_and_edges_go_down(case):
    count, edges = case
    placed = layout(count, sorted(edges))
    for place, (x, y) in enumerate(placed.corners):
        assert 0 <= x <= placed.width - WIDTH
        assert 0 <= y <= placed.height - HEIGHT
        for a, b in placed.corners[:place]:
            assert abs(x - a) >= WIDTH or abs(y - b) >= HEIGHT
    assert all(placed.corners[a][1] < placed.corners[b][1] for a, b in edges)
    assert len(placed.paths) == len(edges)


def test_graph_of_a_model_has_every_unit_and_what_it_reads():
    planned = plan_recipe(recipe_path("resnet20-w2a8-brecq"), preview=True)
    graph = block_graph(planned)
    names = [box.name for box in graph.boxes]
    assert names[1:-1] == [unit.name for unit in planned.plan.core.units]
    assert [names[0], names[-1]] == ["x", "output"]
    assert all(source < target for source, target in graph.edges)
    reached = {target for _, target in graph.edges}
    assert reached == set(range(1, len(names)))
    block = graph.boxes[names.index("layers.3")]
    assert block.weight_bits == (2, 2, 2)
    assert block.schemes == (("w2a8", 3),)
    assert graph.boxes[names.index("fc")].weight_bits == (8,)


def test_units_whose_values_are_on_one_scale_are_marked_and_explained():
    planned = plan_recipe(recipe_path("resnet20-w2a8-brecq"), preview=True)
    graph = block_graph(planned)
    homes = {name: unit.name for unit in planned.bound.units for name in unit.nodes}
    wanted = [
        {homes[value] for value in one.values if value in homes}
        for one in planned.bound.facts.scale_classes
    ]
    wanted = [units for units in wanted if len(units) > 1]
    assert wanted
    found = [
        {box.name for box in graph.boxes if number in box.scales} for number in range(len(wanted))
    ]
    assert found == wanted
    root = ElementTree.fromstring(graph_svg(graph, "t"))
    texts = [item.text for item in root.iter(f"{SVG}text")]
    assert texts.count("1") == len(wanted[0])
    assert "1: one scale" in texts
    assert float(root.get("height")) > max(
        float(item.get("y")) for item in root.iter(f"{SVG}rect") if item.get("width") == "14"
    )
    assert graph_dot(graph, "t").count("scale 1") == len(wanted[0])


def test_svg_is_one_file_that_a_browser_can_read():
    graph = BlockGraph(
        (
            GraphBox("x", is_end=True),
            GraphBox("<script>&", (("w4", 2),), (4, None), 100, 20, (0,)),
            GraphBox("b", (("w4", 1),), (4,), 100, 20, (0,)),
        ),
        ((0, 1), (1, 2), (0, 2)),
    )
    text = graph_svg(graph, 'a "title"')
    root = ElementTree.fromstring(text)
    assert "<script>" not in text
    labels = [item.text for item in root.iter(f"{SVG}text")]
    assert {"x", "<script>&", "b", "2 x w4", "100 B -> 20 B", "4 bits", "float"} <= set(labels)
    arrows = [item for item in root.iter(f"{SVG}path") if item.get("marker-end")]
    assert len(arrows) == 3
    borders = [item.get("stroke") for item in root.iter(f"{SVG}rect") if item.get("rx") == "5"]
    assert borders == ["#d55e00", "#d55e00"]
    bands = [item.get("fill") for item in root.iter(f"{SVG}rect") if item.get("height") == "8"]
    assert bands == ["#31688e", "#bdbdbd", "#31688e"]


def test_dot_quotes_names_and_lists_every_edge():
    graph = BlockGraph((GraphBox('a"\\', is_end=True), GraphBox("b", (), (2, 8))), ((0, 1),))
    text = graph_dot(graph, "t")
    assert 'n0 [label="a\\"\\\\"' in text
    assert "n0 -> n1;" in text
    assert 'fillcolor="#440154"' in text


@pytest.mark.parametrize("name", ["g.svg", "g.dot"])
def test_plan_draws_into_a_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    recipe = make_project(tmp_path)
    arguments = ["plan", str(recipe), "--preview", "--graph", name]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert "blocks.1" in Path(name).read_text()


@pytest.mark.parametrize("name", ["g.png", "graph"])
def test_other_endings_are_a_usage_error(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    recipe = make_project(tmp_path)
    assert CliRunner().invoke(main, ["plan", str(recipe), "--graph", name]).exit_code == 2
