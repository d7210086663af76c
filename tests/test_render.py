"""What the three renderers show: a text, its last token marked, its reward and its end."""

import io
import re
import sys
from itertools import pairwise
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import RecordVideo

import textenv
from textenv import Task, drawing, glyphs, mdp, render
from textenv.errors import MissingExtraError
from textenv.layout import Piece, cell_width, wrap
from textenv.render import Frame
from textenv.vocabulary import ByteVocabulary, WordVocabulary

IDS = ["textenv/GoodBad-v0", "textenv/ILoveYou-v0", "textenv/WordPreference-v0"]


def start(environment_id, mode, **keywords):
    env = gym.make(environment_id, render_mode=mode, **keywords)
    env.reset(seed=0)
    return env


def without_escapes(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def words_task(prompts=("",)):
    vocabulary = WordVocabulary(["the", "film", "is", "good"], end="$")
    return Task(name="words", vocabulary=vocabulary, max_tokens=3, reward="zero", prompts=prompts)


def state_of(task, prompt_index, written):
    rows = mdp.align_written(task.rules, [written])
    return mdp.initial(task.rules, task.prompt_table[prompt_index], rows[0], prompt_index)


# What a frame says.


def test_frame_splits_the_text_before_the_last_token():
    task = words_task()
    frame = render.frame(task, state_of(task, 0, [1, 2, 3]), 1.0, True)
    assert frame == Frame("", "film is", " good", 1.0, True)


def test_frame_of_an_end_token_has_no_last_token():
    task = words_task()
    frame = render.frame(task, state_of(task, 0, [1, 4]), 0.0, True)
    assert frame == Frame("", "film", "", 0.0, True)
    assert render.plain(frame) == "film | end | reward 0"


def test_frame_puts_the_vocabularys_blank_after_the_prompt():
    task = words_task(prompts=["the film"])
    frame = render.frame(task, state_of(task, 0, [2]), None, False)
    assert frame == Frame("the film", "", "is", None, False, gap=" ")
    assert render.plain(frame) == "the film [is]"
    assert render.plain(render.frame(task, state_of(task, 0, []), None, False)) == "the film …"


def test_frame_shows_a_prompt_that_the_caller_gave():
    env = gym.make("textenv/WordPreference-v0", prompt_length=2, render_mode="ansi")
    env.reset(options={"prompt": "the day"})
    assert without_escapes(env.render()) == "the day …"


def test_frame_of_tokens_that_are_parts_of_a_character():
    task = Task(name="bytes", vocabulary=ByteVocabulary(), max_tokens=4, reward="zero")
    euro = list("€".encode())  # three bytes
    texts = [
        render.frame(task, state_of(task, 0, [97, *euro[:n]]), None, False)[1:3] for n in range(4)
    ]
    # The replacement character stands for what is not whole; it is marked while it grows.
    assert texts == [("", "a"), ("a", "\ufffd"), ("a", "\ufffd"), ("a", "€")]


@pytest.mark.parametrize("environment_id", IDS)
def test_before_and_last_are_the_text(environment_id):
    env = gym.make(environment_id).unwrapped
    env.reset(seed=3)
    env.action_space.seed(3)
    over = False
    while not over:
        _, reward, over, _, _ = env.step(env.action_space.sample())
        frame = render.frame(env.task, env.state, reward, over)
        assert frame.before + frame.last == env.text
        assert frame.finished == over


# ansi


def test_ansi_of_good_bad():
    env = start("textenv/GoodBad-v0", "ansi")
    assert env.render() == "…"
    env.step(0)
    # [ ] mark the token without colours, reverse video with them; a gain is green.
    line = "\x1b[7m[good]\x1b[0m\x1b[2m | \x1b[0mend\x1b[2m | \x1b[0m\x1b[32mreward 1\x1b[0m"
    assert env.render() == line


def test_ansi_of_chinese():
    env = start("textenv/ILoveYou-v0", "ansi")
    shown = []
    for token in range(4):
        env.step(token)
        shown.append(without_escapes(env.render()))
    assert shown == ["[我]", "我[爱]", "我爱[你]", "我爱你[。] | end | reward 1"]


def test_ansi_shows_the_pay_of_each_token_where_there_is_one():
    env = start("textenv/WordPreference-v0", "ansi")
    bad = env.unwrapped.task.vocabulary.encode("bad")[0]
    env.step(0)
    env.step(bad)
    assert without_escapes(env.render()) == "good [bad] | reward -1"


def test_ansi_cannot_be_steered_by_the_text():
    frame = Frame("\x1b[2J", "a\r\x9b", "\x07\t", None, False)
    assert without_escapes(render.ansi(frame)) == "␛[2Ja␍\ufffd[␇]    "


def test_a_token_of_blanks_is_marked():
    assert render.plain(Frame("", "a", "\n", None, False)) == "a[↵]\n"
    assert render.plain(Frame("", "a", ".\n", None, False)) == "a[.]\n"
    assert render.plain(Frame("", "a", " ", None, False)) == "a[ ]"


def test_vector_render_is_a_tuple_with_a_frame_for_each_row():
    envs = gym.make_vec("textenv/ILoveYou-v0", num_envs=3, render_mode="ansi")
    envs.reset(seed=0)
    envs.step(np.array([0, 1, 3]))
    assert tuple(map(without_escapes, envs.render())) == ("[我]", "[爱]", "[。] | end | reward 0")


def test_candidates_stand_below_the_text():
    env = start("textenv/ILoveYou-v0", "ansi", action="candidates:2")
    assert without_escapes(env.render()) == "…\n0 我 50.0 %   1 爱 16.7 %"
    env.step(0)
    assert without_escapes(env.render()) == "[我]\n0 爱 80.0 %   1 我 6.7 %"
    env.reset(options={"prefix": "我爱你"})
    assert without_escapes(env.render()) == "我爱[你]\n0 。 100.0 %"
    env.step(0)
    assert without_escapes(env.render()) == "我爱你[。] | end | reward 1"


def test_candidates_of_rows():
    keywords = {"num_envs": 2, "action": "candidates:1", "render_mode": "ansi"}
    envs = gym.make_vec("textenv/ILoveYou-v0", **keywords)
    envs.reset(options={"prefix": ["我", "爱"]})
    shown = tuple(map(without_escapes, envs.render()))
    assert shown == ("[我]\n0 爱 80.0 %", "[爱]\n0 你 60.0 %")


def test_candidates_in_a_picture():
    offered = Frame("", "a", "", None, False, candidates=(("good", 0.5), ("bad", 0.25)))
    plain = offered._replace(candidates=())
    where = (render.picture(offered) != render.picture(plain)).any(axis=(1, 2)).nonzero()[0]
    assert len(where)
    assert where.min() > drawing.HEIGHT - drawing.FOOTER  # below the line


# human


def test_human_prints_plain_lines_where_there_is_no_terminal(capsys):
    env = start("textenv/ILoveYou-v0", "human")
    env.step(0)
    env.step(3)
    assert env.render() is None  # the same frame is not shown twice
    assert capsys.readouterr().out == "…\n[我]\n我[。] | end | reward 0\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(render, "sys", SimpleNamespace(stdout=screen))
    monkeypatch.setattr(render.shutil, "get_terminal_size", lambda: (11, 5))
    monkeypatch.setattr(render.time, "sleep", lambda seconds: None)
    return screen


def sent(terminal):
    """What was written since the last call, without colours."""
    text = without_escapes(terminal.getvalue())
    terminal.seek(0)
    terminal.truncate()
    return text


def test_human_rewrites_the_lines_of_a_terminal(terminal):
    live = render.Live()
    live(Frame("", "", "", None, False))
    assert sent(terminal) == "\r\x1b[J…\n"
    live(Frame("", "", "我爱你你", None, False))  # 2 + 4·2 = 10 cells: one line of the 10 in use
    assert sent(terminal) == "\x1b[1A\r\x1b[J[我爱你你]\n"
    live(Frame("", "我爱你你", "。", None, False))  # 我爱你[你。] does not fit: two lines
    assert sent(terminal) == "\x1b[1A\r\x1b[J我爱你你\n[。]\n"
    live(Frame("", "我爱你你。", "我", 1.0, True))
    assert sent(terminal) == "\x1b[2A\r\x1b[J我爱你你。\n[我] | end\n| reward 1\n"


def test_human_leaves_a_finished_text_standing(terminal):
    live = render.Live()
    live(Frame("", "", "good", 1.0, True))
    sent(terminal)
    live(Frame("", "", "", None, False))
    assert sent(terminal) == "\r\x1b[J…\n"


def test_human_starts_below_a_text_that_was_given_up(terminal):
    live = render.Live()
    live(Frame("p", "", "x", None, False))
    sent(terminal)
    live(Frame("p", "", "", None, False))
    assert sent(terminal).startswith("\r\x1b[J")


def test_human_keeps_to_the_height_of_the_terminal(terminal):
    live = render.Live()
    live(Frame("", "a\nb\nc\nd\ne\n", "f", None, False))
    assert sent(terminal) == "\r\x1b[Jc\nd\ne\n[f]\n"  # one of the five rows is the cursor's


def test_the_terminals_pace_is_that_of_the_metadata():
    assert textenv.TextEnv.metadata["render_fps"] == render.FRAMES_PER_SECOND


# Lines


def test_wrap_keeps_words_of_several_tokens_together():
    pieces = [Piece("we un", "text"), Piece("do", "last")]
    assert wrap(pieces, 5, cell_width) == [
        [Piece("we", "text")],
        [Piece("un", "text"), Piece("do", "last")],
    ]


def test_wrap_begins_no_line_with_a_closing_mark():
    lines = wrap([Piece("我爱（你）。", "text")], 6, cell_width)
    assert ["".join(piece.text for piece in line) for line in lines] == ["我爱", "（你）", "。"]


@pytest.mark.parametrize("width", range(1, 30))
def test_wrap_loses_nothing_but_blanks_and_keeps_to_the_width(width):
    text = "Ein Wort, 我爱你。 unbelievable（e\u0301） 😀!\n\nlast  line "
    lines = ["".join(p.text for p in line) for line in wrap([Piece(text, "")], width, cell_width)]
    assert "".join("".join(lines).split()) == "".join(text.split())
    # A single wide character is wider than one cell: nothing can be done about that.
    assert all(cell_width(line) <= max(width, 2) for line in lines)


# rgb_array


@pytest.fixture
def no_fonts(monkeypatch):
    """As on a machine without any font: Pillow's own is all there is."""
    monkeypatch.setattr(glyphs, "FONTS", ())
    glyphs.font_for.cache_clear()
    glyphs.advance.cache_clear()
    yield
    glyphs.font_for.cache_clear()
    glyphs.advance.cache_clear()


def test_missing_pillow_is_answered_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "textenv.drawing", None)
    monkeypatch.delattr(textenv, "drawing")
    env = start("textenv/GoodBad-v0", "rgb_array")
    with pytest.raises(MissingExtraError, match=r'pip install "textenv\[render\]"'):
        env.render()


@pytest.mark.parametrize("environment_id", IDS)
def test_all_pictures_have_one_even_size(environment_id):
    env = start(environment_id, "rgb_array")
    pictures = [env.render()]
    over = False
    while not over:
        *_, over, _, _ = env.step(0)
        pictures.append(env.render())
    assert {(p.shape, p.dtype) for p in pictures} == {((360, 640, 3), np.dtype(np.uint8))}
    assert all((a != b).any() for a, b in pairwise(pictures))


def test_vector_pictures():
    envs = gym.make_vec("textenv/WordPreference-v0", num_envs=2, render_mode="rgb_array")
    envs.reset(seed=0)
    envs.step(np.array([0, 1]))
    first, second = envs.render()
    assert first.shape == second.shape == (360, 640, 3)
    assert (first != second).any()


def test_the_last_token_is_highlighted_and_only_it():
    def highlighted(frame):
        return np.argwhere((render.picture(frame) == drawing.HIGHLIGHT).all(axis=2))

    assert not len(highlighted(Frame("a prompt", "good", "", None, False)))
    places = highlighted(Frame("", "good", " day", None, False))
    good = sum(map(glyphs.advance, "good "))
    assert places[:, 1].min() == pytest.approx(drawing.MARGIN + good - 1, abs=2)


def test_the_end_of_a_long_text_is_visible():
    long = "word " * 500
    picture = render.picture(Frame("", long, "last", None, False))
    assert picture.shape == (360, 640, 3)
    assert (picture == drawing.HIGHLIGHT).all(axis=2).any()


def test_a_box_tells_missing_characters_apart(no_fonts):
    boxes = [render.picture(Frame("", "", character, None, False)) for character in "我爱😀"]
    assert glyphs.font_for("我") is None
    assert (boxes[0] != boxes[1]).any()
    assert (boxes[1] != boxes[2]).any()


def test_marks_combine_and_missing_ones_leave_their_base(no_fonts):
    assert list(glyphs.shapes("e\u0301a\u200d\ufe0f")) == ["e", "\u0301", "a"]


def test_no_character_falls_to_a_font_that_lacks_it():
    font = glyphs.font_for("a")
    assert font is not None
    # A noncharacter is in no font, whatever fonts this machine has.
    assert glyphs.font_for("\U0010fffe") is None


def test_record_video_makes_a_film(tmp_path):
    env = start("textenv/WordPreference-v0", "rgb_array", max_tokens=4)
    env = RecordVideo(env, str(tmp_path / "films"), disable_logger=True)
    env.reset(seed=0)
    over = False
    while not over:
        *_, over, _, _ = env.step(0)
    env.close()
    (film,) = (tmp_path / "films").glob("*.mp4")
    assert film.read_bytes()[4:8] == b"ftyp"  # an MP4 container
    from moviepy import VideoFileClip

    with VideoFileClip(str(film)) as clip:
        assert clip.size == [640, 360]
        assert clip.fps == 4
        assert clip.n_frames == 5  # the start and four tokens
