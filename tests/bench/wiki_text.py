"""Running English prose from the sample of Wikipedia that ships in the wheel of gensim.

The text is CC BY-SA. Mark-up goes by regular expressions, innermost first; standard library only.
"""

import bz2
import html
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

SAMPLE = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
SHORTEST_ARTICLE, SHORTEST_LINE = 2_000, 80
"""Characters."""
DEEPEST_TEMPLATE, DEEPEST_LINK = 8, 4
ASIDE = re.compile(
    r"<!--.*?-->|<ref[^>/]*/>|<ref.*?</ref>"
    r"|<(math|gallery|table|timeline|pre|code)\b.*?</\1>",
    re.DOTALL | re.IGNORECASE,
)
TEMPLATE = re.compile(r"\{\{[^{}]*\}\}")
TABLE = re.compile(r"\{\|(?:(?!\{\||\|\}).)*\|\}", re.DOTALL)
FILE = re.compile(
    r"\[\[(?:File|Image|Category|[a-z\-]{2,12}):[^\[\]]*(?:\[\[[^\[\]]*\]\][^\[\]]*)*\]\]",
    re.IGNORECASE,
)
LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]]*)\]\]")
URL = re.compile(r"\[https?://\S+\s*([^\]]*)\]")
TAG = re.compile(r"<[^>]+>")
NOTHING_LEFT = re.compile(r"\(\s*[;,]?\s*\)")


def articles() -> Iterator[str]:
    """In the order of the sample, without redirects and stubs."""
    tree = ElementTree.fromstring(_whole_pages(bz2.decompress(_sample().read_bytes()).decode()))
    for page in (node for node in tree.iter() if _name(node) == "page"):
        source = next((node.text or "" for node in page.iter() if _name(node) == "text"), "")
        text = "" if source[:9].upper() == "#REDIRECT" else _prose(source)
        if len(text) >= SHORTEST_ARTICLE:
            yield text


def _sample() -> Path:
    spec = find_spec("gensim")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("gensim is not installed: `make bench-language` installs it")
    return Path(spec.submodule_search_locations[0], "test", "test_data", SAMPLE)


def _whole_pages(text: str) -> str:
    """The sample was cut in the middle of a page."""
    if "</mediawiki>" in text[-200:]:
        return text
    return text[: text.rfind("</page>") + len("</page>")] + "</mediawiki>"


def _name(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]


def _prose(source: str) -> str:
    text = ASIDE.sub("", source)
    for _ in range(DEEPEST_TEMPLATE):
        text = TABLE.sub("", TEMPLATE.sub("", text))
    for _ in range(DEEPEST_LINK):
        text = FILE.sub("", text)
    text = TAG.sub("", URL.sub(r"\1", LINK.sub(r"\1", text)))
    text = html.unescape(text).replace("'''", "").replace("''", "").replace("\xa0", " ")
    lines = (NOTHING_LEFT.sub("", line).strip() for line in text.split("\n"))
    return "\n".join(
        re.sub(r"\s+", " ", line).replace(" ,", ",").replace(" .", ".")
        for line in lines
        if len(line) >= SHORTEST_LINE and line[0] not in "*#:;|!{}=<-_" and "||" not in line
    )
