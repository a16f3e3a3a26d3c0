"""Reads the HTML of reports: its elements, and everything that it would load or run."""

import dataclasses
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "link"}


@dataclasses.dataclass
class Node:
    """An element with its attributes and contents."""

    name: str
    attributes: dict
    children: list = dataclasses.field(default_factory=list)

    def all(self, name, class_=None):
        """Returns the elements below of a name, and of a class."""
        found = []
        for child in self.children:
            if isinstance(child, Node):
                classes = (child.attributes.get("class") or "").split()
                found += [child] if child.name == name and (class_ is None or class_ in classes) else []
                found += child.all(name, class_)
        return found

    @property
    def text(self):
        """The text of the element and of all below."""
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class _Parser(HTMLParser):
    def __init__(self):
        super().__init__()
        self.root = Node("root", {})
        self.open = [self.root]

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"<{tag}> repeats an attribute"
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag, attrs):
        raise AssertionError(f"<{tag}/> is not used")

    def handle_endtag(self, tag):
        assert self.open[-1].name == tag, f"</{tag}> closes <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data):
        self.open[-1].children.append(data)


def parse_page(text):
    """Returns the root of a page, and checks that it is well-formed and loads and runs nothing."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    assert parser.open == [parser.root] and text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert not {node.name for node in nodes(parser.root)} & {
        "script",
        "link",
        "iframe",
        "object",
        "embed",
        "form",
        "base",
    }
    ids = {node.attributes["id"] for node in nodes(parser.root) if "id" in node.attributes}
    for node in nodes(parser.root):
        for name, value in node.attributes.items():
            assert not name.startswith("on"), f"<{node.name} {name}>"
            assert name not in ("src", "srcset", "action", "xlink:href", "background", "poster")
            if name == "href":
                assert value.startswith("data:image/") or (value[1:] in ids and value[0] == "#"), value[:80]
            if name == "style":
                assert "url" not in value and "\\" not in value
    for style in parser.root.all("style"):
        assert "url(" not in style.text and "@import" not in style.text
    return parser.root


def nodes(root):
    """Yields every element below."""
    for child in root.children:
        if isinstance(child, Node):
            yield child
            yield from nodes(child)


def pairs(root):
    """Returns the texts of two-column tables by their row titles; numbers with all digits."""
    found = {}
    for table in root.all("table", "pairs"):
        for row in table.all("tr"):
            (head,), (cell,) = row.all("th"), row.all("td")
            numbers = cell.all("data")
            found[head.text] = numbers[0].attributes["value"] if numbers else cell.text
    return found
