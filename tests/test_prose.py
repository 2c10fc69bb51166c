"""The prose of pages and docstrings keeps to the rules of CONTRIBUTING.md."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
    *(ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
]
SCRIPTS = [
    file
    for folder in ("unlir_jax", "configs", "benchmarks", "launch", "docs")
    for file in sorted((ROOT / folder).rglob("*.py"))
]

BANNED = re.compile(
    r"\b(beside|dear|dearer|superfluous|foretells?|foretell|likewise|so it is"
    r"|at hand|told by|(?:goes|go|went) on|have a say|do(?:es)? harm|does no good"
    r"|knows? nothing|the former|the latter|those of|the two of them|pictures?"
    r"|creatures?|trunks?|deviations?(?<!standard deviation)"
    r"(?<!standard deviations))\b",
    re.IGNORECASE,
)
"""Words of the old dialect; docs/glossary.md has the words in their place."""
OPENING = re.compile(r"(What|Which|Where|Whether|How|Why)\b")
ARGUMENT = re.compile(r"^ +\*{0,2}\w+: Of\b", re.MULTILINE)
LOST = re.compile(r"\bSo it is\b|\bLikewise\b")


def plain(text):
    """Leave out code: blocks, spans, tags, and the targets of links."""
    text = re.sub(r"<!-- generated.*?<!-- end -->", "", text, flags=re.DOTALL)
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^ {4}[^\n]*$|<!--.*?-->", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`\n]*`", "`code`", text)
    return re.sub(r"\]\([^)]*\)", "]", text)


def docstrings(file):
    """Give the module's docstring, and those of all that it defines."""
    tree = ast.parse(file.read_text())
    kinds = ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef
    defined = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    inner = [ast.get_docstring(node) or "" for node in defined]
    return ast.get_docstring(tree) or "", inner


def without_commands(text):
    """Leave out indented commands, arguments' names and code spans of a docstring."""
    text = re.sub(
        r"^ {4,}(unlir|python|sbatch|sh|torch).*?(?=\n\n|\Z)",
        "",
        text,
        flags=re.DOTALL | re.MULTILINE,
    )
    text = re.sub(r"^ +\*{0,2}\w+:", "", text, flags=re.MULTILINE)
    return " ".join(re.sub(r"`[^`]*`|--\S+", "", text).split())


def offences(file):
    """Find what breaks a rule in the docstrings of a file, by rule."""
    module, inner = docstrings(file)
    whole = [module, *inner]
    return {
        "opening": OPENING.findall(module[:10]),
        "argument": [found for text in whole for found in ARGUMENT.findall(text)],
        "lost": [found for text in whole for found in LOST.findall(text)],
        "banned": [
            found for text in whole for found in BANNED.findall(without_commands(text))
        ],
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_use_the_words_of_the_field(page):
    assert not BANNED.findall(plain(page.read_text()))


def test_docstrings_use_the_words_of_the_field():
    found = {str(file.relative_to(ROOT)): offences(file) for file in SCRIPTS}
    assert not {name: rules for name, rules in found.items() if any(rules.values())}


def sentences(text):
    """List the sentences of running text: paragraphs and list items."""
    text = plain(text)
    found = []
    for paragraph in re.split(r"\n\s*\n|\n(?=[-|#\d])", text):
        if not paragraph.lstrip().startswith(("|", "#", ":", "!")):
            found += re.split(r"(?<=[.:;?!])(?:\*\*)?\s+", " ".join(paragraph.split()))
    return [sentence for sentence in found if sentence]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_sentence_is_short(page):
    """At most 25 words."""
    long = [s for s in sentences(page.read_text()) if len(s.split()) > 25]
    assert not long


def test_the_readme_says_what_it_is_in_600_words():
    text = (ROOT / "README.md").read_text()
    words = text[: text.index("](docs/results/index")].split()
    assert len([word for word in words if re.search(r"\w", word)]) <= 600
    assert "pip install" in text[: text.index("## In Python")]


def test_the_patterns_find_what_they_are_for():
    assert OPENING.match("What a map is.") and not OPENING.match("Whatever is it?")
    assert ARGUMENT.search("    side: Of the image.") and LOST.search("a: Likewise.")
    for words in ("beside a map", "a std deviation", "it goes on", "those of ours"):
        assert BANNED.search(words), words
    assert not BANNED.search("one standard deviation; standard deviations; besides")
