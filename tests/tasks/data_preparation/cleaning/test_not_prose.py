"""What is no prose comes through the default cleaning byte for byte, as a prompt and as an answer."""

from __future__ import annotations

import re

import pytest

from tasks.corpus.text.code import has_indentation, is_code, is_prose
from tasks.data_preparation.cleaning.clean import Cleaner, clean_rows
from tasks.data_preparation.cleaning.steps.c4 import C4
from tasks.data_preparation.cleaning.steps.controls import Controls
from tasks.data_preparation.cleaning.steps.html import Html, strip_html
from tasks.data_preparation.cleaning.steps.missing import Missing
from tasks.data_preparation.cleaning.steps.unicode import Unicode, make_repair
from tasks.data_preparation.cleaning.steps.whitespace import Whitespace
from tasks.data_preparation.params import DataPreparation
from tests.conversations import make, pair, texts

NOT_PROSE = {
    "python, first line indented": "    for n in numbers:\n        total  += n\n    return total",
    "python, one line": "    return number % 1.0",
    "python, one line of words": "    return total",
    "python with tabs": "def f(x):\n\tif x:\n\t\treturn  [ ]\n\n\n\treturn None",
    "python, two functions": "def f():\n    pass\n\n\ndef g():\n    return '<b>'  # bold",
    "javascript": "const html = `<li>${name}</li>`;\nlist.innerHTML +=  html;",
    "javascript in one line": 'el.innerHTML = "<p>" + a  + "</p>&nbsp;";',
    "jsx": "return (\n  <div className='a'>\n    <p>{user.name}</p>\n  </div>\n);",
    "c": "#include <stdio.h>\nint main(void) {\n  for (int i = 0; i < n && i > -1; i++)\n    x = a[i]  << 2;\n}",
    "c++": "std::map<std::string, std::vector<int>> m;\nif (a<b && c>d)  m.clear();",
    "java": "List<Integer> numbers = new ArrayList<>();\nnumbers.add(  1 );",
    "rust": "fn main() {\n    let x: Option<&str> = None;\n}",
    "makefile": "all:\n\tgcc  -o main main.c\n\nclean:\n\trm -f *.o",
    "sql": "SELECT a,  b\nFROM   t\nWHERE  a <> '' AND b < 3;",
    "shell heredoc": "cat <<EOF > page.html\n<p>Hello</p>\n\n\n\nEOF\nls  -la",
    "json": '{"a":  [1,  2], "html": "<p>x &amp; y</p>",\n  "n": null}',
    "json in one line": '{"tag": "<br>",  "text": "a&nbsp;b"}',
    "yaml": "name:  demo\nsteps:\n  - run:  make\n    with: {a: 1}",
    "toml": '[tool.x]\nname   = "a"\nlong_name  = "b"',
    "xml": '<?xml version="1.0"?>\n<note>\n  <to>Ann &amp; Bob</to>\n</note>',
    "xml in one line": "<note><to>Ann &lt;b&gt;</to><p>x</p></note>",
    "html list": "<ul>\n  <li>Apple</li>\n  <li>Pear</li>\n</ul>",
    "html list without indentation": "<ul>\n<li>Apple</li>\n<li>Pear</li>\n</ul>",
    "html table": "<table><tr><td>1</td><td>2</td></tr></table>",
    "html page": "<!DOCTYPE html><html><body><p>Hi</p></body></html>",
    "css": "p  > a {\n  color: red;\n}",
    "latex": "\\begin{align}\n  x &= 1 \\\\\n  y &= 2\n\\end{align}",
    "latex in a line": "So $x^2  + y_1$ is \\frac{1}{2}  of it",
    "formula": "x<sup>2</sup> + H<sub>2</sub>O",
    "formula in unicode": "x² ≤ ½ · ∑ᵢ xᵢ,  Ω ≠ Ω, Å, ﬁ, Ｆｕｌｌ　ｗｉｄｔｈ",
    "markdown table": "| name  | n |\n|-------|--:|\n| a<br>b |  1 |",
    "markdown list": "* one\n    * two\n\n        code  here\n* three",
    "markdown verse": "Roses are red,  \nViolets are blue,  \nSugar is sweet",
    "csv": "id,name,text\n1,Ann,Fish &amp; chips\n2,Bob,a  b",
    "tsv": "id\tname\t\n1\t\tAnn\n2\tBob\t<b>x</b>",
    "columns": "name      price\nApple      1.20\nPear      12.00",
    "diff": "--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n a = 1\n-b  = 2\n+b = 2",
    "log": "2024-01-01 12:00:01  INFO   started <b>\n2024-01-01 12:00:02  WARN   &nbsp; slow",
    "regex": r"^\s{2,}(?:<br\s*/?>|&nbsp;)+  $|x",
    "base64": "PGI+eDwvYj4gICA8YnI+\nSGVsbG8gd29ybGQhIQ==",
    "placeholders": "Dear <NAME>, call <PHONE> about <LABEL> and <TITLE>; press <button> on <form>.",
    "chat markers": "<s>[INST] Hi [/INST] Hello</s> <|im_start|>user<|im_end|> <unk> <pad>",
    "prompt sections": "<article>\nThe sky is blue.\n</article>\nSummarize the article.",
    "angle brackets": "a < b and List<int>, Ann <ann@localhost>, <https://example.org>, if a<b>c then a <b and c> d",
    "arrow": "Settings -> Account  -> Close",
    "entity in code": "Write `&nbsp;` or\n```\n&amp;  <br>\n```",
    "question on tags": "Why does <b>this</b>  not show in HTML? I wrote &lt;b&gt; and <br>.",
    "mojibake asked about": "Why do I see â€™ in place of ’ after decoding UTF-8? It shows cafÃ© and \ufffd.",
    "decomposed in code": 'assert len("e\u0301") == 2',
    "poem": "    In Xanadu did Kubla Khan\nA stately pleasure-dome decree:\n  Where Alph, the sacred river, ran",
    "ascii art": "  /\\_/\\\n ( o.o )\n  > ^ <",
    "ascii art of letters": "   o   o\n     o\n   o   o",
    "chinese": "　　第一段文字。\n　　第二段文字，“引号”，Ａ１。",
    "japanese": "カタカナ と ｶﾀｶﾅ、全角　スペース。",
    "korean": "안녕하세요. 漢字",
    "arabic": "مرحباً بكم، كيف\u200cحالك؟",
    "hindi": "क़लम और हिन्दी \u0915\u094d\u200d\u0937",
    "thai": "สวัสดี\u200bครับ",
    "khmer": "សួស្តី\u200bពិភពលោក",
    "hebrew": "שָׁלוֹם \ufb2a",
    "emoji": "👩‍👩‍👧 👍🏽 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f ❤️",
    "list literal": "[]",
    "tuple": "()",
    "operator": "*",
    "wildcard": ".*",
    "path separator": "/",
}


def run(text: str, steps: tuple[Cleaner, ...]) -> tuple[list[list[str]], list[str]]:
    rows = clean_rows(make(pair(text, "It is done."), pair("Please do it.", text)), steps)
    return texts(rows), [step.name for step in rows.steps if step.changed or step.reasons]


@pytest.mark.parametrize("name", NOT_PROSE)
def test_default_cleaning_leaves_it_as_it_is(name: str) -> None:
    text = NOT_PROSE[name]
    steps = tuple(step for step in DataPreparation().cleaning if step.name != "length")
    assert run(text, steps) == ([[text, "It is done."], ["Please do it.", text]], [])


CHANGED = {
    "soft hyphen": ("ex\u00adample of it", "example of it", "controls"),
    "terminal colors": ("\x1b[31mERROR\x1b[0m  at a.py", "ERROR at a.py", "controls"),
    "form feed in code": ("x = 1\x0cy = 2", "x = 1\ny = 2", "controls"),
    "carriage returns in code": ("if x:\r\n    y()\r\n", "if x:\n    y()", "whitespace"),
    "blank lines around code": ("\n\n    x = 1\n    y = 2\n\n", "    x = 1\n    y = 2", "whitespace"),
    "blanks of prose": ("  Where   is it?  ", "Where is it?", "whitespace"),
    "label with blanks": ("  cancel_order ", "cancel_order", "whitespace"),
    "tags of prose": ("<p>Dear Ann,<br>it is <b>here</b>.</p>", "Dear Ann,\nit is here.", "html"),
    "tags beside code": (
        "<div>Use `<br>` or\n```\n<p>\n```\nthen.</div>",
        "Use `<br>` or\n```\n<p>\n```\nthen.",
        "html",
    ),
    "hidden by entities": ("in&shy;vis&#x200B;ible &#xFEFF;&zwnj;x", "invisible \u200cx", "html"),
    "mojibake": ("Your cafÃ© order", "Your café order", "unicode"),
    "decomposed": ("cafe\u0301 で か\u3099", "café で が", "unicode"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_changes_is_listed_with_its_step(name: str) -> None:
    before, after, step = CHANGED[name]
    found, changed = run(before, (Unicode(), Controls(), Html(), Whitespace(), Missing()))
    assert [found[0][0], found[1][1]] == [after, after]
    assert step in changed


def test_a_conversation_about_markup_keeps_it_in_all_turns() -> None:
    rows = make(pair("List two fruits in HTML.", "<b>Apple</b><br>Pear &amp; plum"), pair("List two.", "<b>Apple</b>"))
    assert texts(clean_rows(rows, [Html()])) == [
        ["List two fruits in HTML.", "<b>Apple</b><br>Pear &amp; plum"],
        ["List two.", "Apple"],
    ]
    every = clean_rows(rows, [Html(markup="remove")])
    assert texts(every)[0][1] == "Apple\nPear & plum"


def test_tags_of_documents_go_on_request() -> None:
    assert strip_html("<ul>\n  <li>Apple</li>\n  <li>Pear</li>\n</ul>") == "Apple\nPear"
    assert strip_html("<table><tr><td>1</td><td>2</td></tr></table>") == "1\t2"
    assert strip_html("<article><p>Text</p></article>") == "Text"


@pytest.mark.parametrize(
    ("text", "prose"),
    [
        ("Where is my order #4711? It cost $12.50, 50% more.", True),
        ("Hello Ann,\n\nthank you for item(s) 1 and 2.\n\nBest, Bob", True),
        ("For example, let me know: if it works, return it.", True),
        ("x = 1", False),
        ("a    b\nc    d", False),
        ("See:\n    this", False),
    ],
)
def test_prose_by_its_form(text: str, prose: bool) -> None:
    assert is_prose(text) is prose
    assert not (prose and is_code(text))


def test_indentation_of_one_line() -> None:
    kept = ("    x = 1", "\treturn", "  return x", "      a b c", "  a\nb")
    assert all(map(has_indentation, kept))
    assert not any(
        map(has_indentation, ("  Where is it?", "    Where is it?", " x", "x", "   yes  ", "  cancel_order"))
    )


def test_c4_keeps_an_index_in_code() -> None:
    prose = (
        "It is the third of the list, said Ann.[1] It was found in 1999.[citation needed] That is all we know of it."
    )
    code = "The third one is `a[1]` and not the second, since all lists of this language begin at zero. So it is. Yes."
    rows = clean_rows(make(pair("a", prose), pair("b", code)), [C4(min_sentences=1, min_line_words=1)])
    assert texts(rows) == [["a", re.sub(r"\[.*?\]", "", prose)], ["b", code]]


def test_letters_are_composed_and_signs_are_kept() -> None:
    repair = make_repair()
    assert repair("e\u0301 \u1112\u1161\u11ab \u2126 \u212b \uf900 \u0958") == "é 한 \u2126 \u212b \uf900 \u0958"
    assert repair('`e\u0301` and "e\u0301"') == '`e\u0301` and "é"'
