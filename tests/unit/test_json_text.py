"""Edits of a JSON array leave everything else as its author wrote it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credentials_provider import json_text

NEW = {"identity_name": "new", "text": 'ä"\\'}

STYLES: dict[str, str] = {
    "two spaces": '[\n  {\n    "a": "1"\n  },\n  {\n    "b": 2\n  }\n]\n',
    "four spaces": '[\n    {\n        "a": "1"\n    }\n]\n',
    "tabs": '[\n\t{\n\t\t"a": "1"\n\t}\n]',
    "flush left": '[\n{\n  "a": "1"\n}\n]\n',
    "CRLF": '[\r\n  {\r\n    "a": "1"\r\n  }\r\n]\r\n',
    "BOM": '\ufeff[\n  {\n    "a": "1"\n  }\n]\n',
    "a line each": '[\n  {"a": "1"},\n  {"b": 2}\n]\n',
    "one line": '[{"a": "1"}, {"b": 2}]',
    "no space": '[{"a":"1"},{"b":2}]',
    "odd": ' [ { "a" :"1" ,\n"n":{"x":[1,{"y":"]},"}]}}\n , {"b":2} ] \n\n',
}

AFTER = {
    "two spaces": '  {\n    "identity_name": "new",\n    "text": "ä\\"\\\\"\n  }\n]\n',
    "four spaces": '    {\n        "identity_name": "new",\n        "text": "ä\\"\\\\"\n    }\n]\n',
    "tabs": '\t{\n\t\t"identity_name": "new",\n\t\t"text": "ä\\"\\\\"\n\t}\n]',
    "flush left": '\n{\n  "identity_name": "new",\n  "text": "ä\\"\\\\"\n}\n]\n',
    "CRLF": '  {\r\n    "identity_name": "new",\r\n    "text": "ä\\"\\\\"\r\n  }\r\n]\r\n',
    "a line each": ',\n  {"identity_name": "new", "text": "ä\\"\\\\"}\n]\n',
    "one line": ', {"identity_name": "new", "text": "ä\\"\\\\"}]',
}


def load(text: str) -> list[Any]:
    found: list[Any] = json.loads(text.removeprefix("\ufeff"))
    return found


@pytest.mark.parametrize("style", STYLES)
def test_an_object_is_appended_in_the_style_of_the_others(style: str) -> None:
    """What was there stays to the letter."""
    text = STYLES[style]
    new = json_text.append(text, NEW)
    assert load(new) == [*load(text), NEW]
    kept = text.rstrip().removesuffix("]").rstrip()
    assert new.startswith(kept)
    assert new.endswith(AFTER.get(style, ""))


@pytest.mark.parametrize("text", ["[]", "[]\n", "[ \n ]\n", "\ufeff[]\n"])
def test_an_empty_array_gets_its_first_object(text: str) -> None:
    """Indented by two spaces."""
    new = json_text.append(text, {"a": 1})
    assert new == text.partition("[")[0] + '[\n  {\n    "a": 1\n  }\n]\n'


@pytest.mark.parametrize("style", STYLES)
def test_a_removed_object_takes_its_comma_along(style: str) -> None:
    """From the beginning, the middle and the end."""
    text = json_text.append(json_text.append(STYLES[style], NEW), {"last": 1})
    for index in range(len(load(text))):
        expected = load(text)
        del expected[index]
        assert load(json_text.remove(text, (index,))) == expected


def test_appending_and_removing_gives_the_text_back() -> None:
    """To the letter, whatever the style."""
    for text in STYLES.values():
        assert json_text.remove(json_text.append(text, NEW), (len(load(text)),)) == text


@pytest.mark.parametrize("style", STYLES)
def test_a_renamed_member_keeps_its_place(style: str) -> None:
    """And all that stands around it."""
    text = STYLES[style]
    assert json_text.rename(text, (0, "a"), "c", "2ä") == text.replace('"a"', '"c"', 1).replace(
        '"1"', '"2ä"', 1
    )


LEAVES = st.none() | st.booleans() | st.integers() | st.text()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=4)


@given(
    objects=st.lists(OBJECTS, max_size=4),
    new=OBJECTS,
    indent=st.sampled_from([None, 0, 1, 2, 4, "\t"]),
    escaped=st.booleans(),
)
def test_any_array_is_understood(
    objects: list[Any], new: dict[str, Any], indent: int | None, escaped: bool
) -> None:
    """Whatever it holds and however it was dumped."""
    text = json.dumps(objects, indent=indent, ensure_ascii=escaped)
    assert load(json_text.append(text, new)) == [*objects, new]
    for index, each in enumerate(objects):
        rest = [*objects[:index], *objects[index + 1 :]]
        assert load(json_text.remove(text, (index,))) == rest
        for key in each:
            changed = load(json_text.rename(text, (index, key), "another key", "v"))
            assert changed[index]["another key"] == "v"
            assert key == "another key" or key not in changed[index]


CHANGES = st.dictionaries(
    st.sampled_from(["a", "b", "n", "x", "new", 'ä"\\']),
    st.none() | st.text() | st.booleans() | st.lists(st.integers(), max_size=2),
    max_size=4,
)


@pytest.mark.parametrize("style", STYLES)
@given(changes=CHANGES)
def test_members_are_set_and_taken_out_and_the_rest_stays(
    style: str, changes: dict[str, Any]
) -> None:
    """One object changes; the others stay to the letter."""
    text = STYLES[style]
    before = load(text)
    kept = {key: value for key, value in before[0].items() if key not in changes}
    wanted = kept | {key: value for key, value in changes.items() if value is not None}
    if len(kept) == 0:  # an object keeps at least one member
        return
    new = json_text.update(text, (0,), changes)
    assert load(new) == [wanted, *before[1:]]
    assert new.partition("{")[0] == text.partition("{")[0]


def test_a_member_is_added_in_the_style_of_the_others() -> None:
    """On a line of its own where the others are."""
    text = '[\n  {\n    "a": 1,\n    "b": 2\n  }\n]\n'
    assert json_text.update(text, (0,), {"a": None, "c": "d"}) == (
        '[\n  {\n    "b": 2,\n    "c": "d"\n  }\n]\n'
    )


COMMENTED = """\
// mine
[
  // the first
  {"a": 1, /* one */ "b": 2},
  {
    "c": 3, // three
  }, // the end
]
"""


def test_comments_stay_where_they_are() -> None:
    """In arrays and objects, whatever is done between them."""
    text = json_text.update(COMMENTED, (1,), {"d": 4})
    text = json_text.rename(text, (0, "a"), "z", 0)
    assert text == COMMENTED.replace('"a": 1', '"z": 0').replace(
        "// three\n", '// three\n    "d": 4,\n'
    )
    assert json_text.remove(text, (1, "d")) == COMMENTED.replace('"a": 1', '"z": 0')
    assert json_text.parse(json_text.remove(COMMENTED, (0,))) == [{"c": 3}]


@pytest.mark.parametrize(
    "text",
    [
        "[,]",
        "[1,,]",
        '{"a":,}',
        "{,}",
        "[" * 3000,
        "[1 2]",
        '{"a" 1}',
        '{"a": 1',
        "// nothing",
        "",
        "[1] x",
        "{'a': 1}",
    ],
)
def test_what_is_not_json_is_told_with_its_place(text: str) -> None:
    """And never changed."""
    with pytest.raises(json_text.JSONError, match=r"line 1, column [0-9]+"):
        json_text.put(text, ("a",), 1)


def test_the_place_of_a_mistake_is_its_own() -> None:
    """Not where the text begins."""
    with pytest.raises(json_text.JSONError, match=r"line 3, column 3"):
        json_text.parse('{\n  "a": 1 // one\n  "b": 2\n}')


def test_comments_and_needless_commas_are_told_from_what_stands_in_texts() -> None:
    """And a comment of several lines is one."""
    text = '{"a": ",]", "b": "// no", "c": [1, 2,], /* two\nlines, */ "d": "/*",}'
    assert json_text.parse(text) == {"a": ",]", "b": "// no", "c": [1, 2], "d": "/*"}


def test_an_object_with_a_key_twice_is_not_changed() -> None:
    """Which one counts is its reader's secret; elsewhere in the text it does no harm."""
    with pytest.raises(json_text.JSONError):
        json_text.put('{"a": 1, "a": 2}', ("b",), 1)
    text = '{"x": {"a": 1, "a": 2}, "y": {}}'
    assert json_text.parse(json_text.put(text, ("y", "b"), 1))["y"] == {"b": 1}


def test_a_key_goes_into_an_object_alone() -> None:
    """An array on the way would no longer be JSON afterwards, and a text has no members."""
    for text in ("[1]", "1", '{"a": [1]}', '{"a": "b"}', '{"a": "{\\"b\\": 1}"}'):
        with pytest.raises(KeyError):
            json_text.put(text, ("a", "b"), 1)


def test_a_key_that_stands_twice_is_removed_with_its_own_comma() -> None:
    """The last of the two, which is the one that counts for most readers."""
    assert json_text.remove('{"a": 1, "b": 2, "a": 3}', ("a",)) == '{"a": 1, "b": 2}'


def test_null_is_an_object_that_is_yet_to_be() -> None:
    """As assistants write it where they have no servers."""
    text = json_text.put('{"mcpServers": null, "x": 1}\n', ("mcpServers", "one"), {"b": 1})
    assert json_text.parse(text) == {"mcpServers": {"one": {"b": 1}}, "x": 1}


def test_what_is_there_already_stays_as_it_was_written() -> None:
    """To the letter."""
    text = '{"a":[ 1,2 ], "b": 1.0}'
    assert json_text.put(text, ("a",), [1, 2]) == text
    assert json_text.put(text, ("b",), 1) == text


def test_an_element_is_added_in_the_layout_of_the_last_two() -> None:
    """The first one can stand beside the bracket."""
    text = '[{"a": 1},\n  {"b": 2}]\n'
    assert json_text.append(text, {"c": 3}) == '[{"a": 1},\n  {"b": 2},\n  {"c": 3}]\n'


@pytest.mark.parametrize(
    ("text", "key", "left"),
    [
        ('{\r\n  "a": 1,\r\n  "b": 2\r\n}', "b", '{\r\n  "a": 1\r\n}'),
        ('{\r\n  "a": 1,\r\n  "b": 2\r\n}', "a", '{\r\n  "b": 2\r\n}'),
        ('{\n  "a": 1\n}\n', "a", "{}\n"),
        ('{"x": {\n    "a": 1,\n  }\n}', "x", "{}"),
    ],
)
def test_a_removed_member_leaves_no_line_behind(text: str, key: str, left: str) -> None:
    """Nor half of a line's end."""
    assert json_text.remove(text, (key,)) == left


@pytest.mark.parametrize(
    ("text", "path", "content", "expected"),
    [
        ('{"a": {}}', ("a",), {"b": 1}, '{"a": {\n  "b": 1\n}}'),
        ('{"a": {"b": 1}}', ("a",), {"c": 2}, '{"a": {"c": 2}}'),
        ('{\n "a": {\n  "b": 1\n }\n}', ("a",), {"c": 2}, '{\n "a": {\n  "c": 2\n }\n}'),
        ('{"a": 1,}', ("b",), 2, '{"a": 1, "b": 2}'),
        ('{\n    "a": {}\n}', ("a", "b"), 1, '{\n    "a": {\n        "b": 1\n    }\n}'),
    ],
)
def test_a_value_is_written_in_the_layout_around_it(
    text: str, path: tuple[str, ...], content: object, expected: str
) -> None:
    """On one line where the old value was, else indented as the rest."""
    assert json_text.put(text, path, content) == expected


def test_a_text_of_comments_alone_is_empty() -> None:
    """Whatever its comments hold."""
    assert json_text.is_empty("// {}\n/* x\n*/ \n")
    assert not json_text.is_empty("// x\n{}")
