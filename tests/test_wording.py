import pytest

from kd_lightning import cli
from kd_lightning.data.class_names import check_class_names
from kd_lightning.errors import UserError
from kd_lightning.wording import in_csv, in_markdown, shortened, shown, shown_lines

LANGUAGES = "Größe 猫 🐈\u200d⬛ \u0645\u06cc\u200c\u062e a\xa0b"  # two of them join characters by invisible ones


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (LANGUAGES, LANGUAGES),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("a\u2028b\u202egpj.exe", r"a\u2028b\u202egpj.exe"),
        ("\udcff", r"\udcff"),
    ],
)
def test_control_characters_are_shown_as_escapes_and_characters_of_all_languages_stay(text: str, line: str) -> None:
    assert shown(text) == line
    shown(text).encode()


def test_the_line_breaks_of_a_list_are_kept() -> None:
    assert shown_lines("two files:\n  a\x1b\n  b") == "two files:\n  a\\x1b\n  b"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("a=b", "a=b"),
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("@SUM(1+1)", "'@SUM(1+1)"),
        (" +1", "' +1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("\r\n=1", r"\r\n=1"),
        (-0.5, -0.5),
    ],
)
def test_a_csv_cell_is_never_a_formula_and_numbers_stay_numbers(value: object, cell: object) -> None:
    assert in_csv(value) == cell


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("a|b", r"a\|b"),
        ("`x` *y* _z_", r"\`x\` \*y\* \_z\_"),
        ("![](http://host/x)", r"!\[\](http://host/x)"),
        ("<b>&amp;", "&lt;b>&amp;amp;"),
    ],
)
def test_a_name_breaks_no_markdown(text: str, markdown: str) -> None:
    assert in_markdown(text) == markdown


@pytest.mark.parametrize("name", ["a\nb", "\u202eabc", "caf\udce9"])
def test_a_class_name_that_cannot_be_shown_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="rename the class or its folder") as caught:
        check_class_names(["ant", name])
    assert str(caught.value).isprintable()


def test_the_command_line_escapes_what_an_error_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["\x1b]0;title\x07"]) == 2
    assert r"'\x1b]0;title\x07'" in capsys.readouterr().err


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    assert shortened("a" * 1000) == "a" * 1000
    assert shortened("a" * 600 + "b" * 600) == "a" * 500 + " ... " + "b" * 500
