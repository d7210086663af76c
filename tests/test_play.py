"""`textenv play`, driven by what a person might type."""

import subprocess
import sys

import pytest

from tests.keyboard import typing
from textenv.rewards import exact_match
from textenv.vocabulary import ByteVocabulary, WordVocabulary
from textenv_agents.choices import Labels, Menu, read
from textenv_agents.play import play

CHINESE = "textenv/ILoveYou-v0"
WORDS = "textenv/WordPreference-v0"


def played(environment_id, *typed, ending=EOFError, **keywords):
    """Play with these lines, then the end of the input; return all that was shown."""
    shown = []
    type_next = typing(typed, shown, ending)
    play(environment_id, input=type_next, output=shown.append, **keywords)
    assert not type_next.left(), "not all was read"
    return shown


# Whole games


def test_numbers_and_tokens_write_a_chinese_text():
    shown = played(CHINESE, "1", "爱", " 你 ", "4", "n")
    assert "[我]" in shown
    assert "我爱[你]" in shown
    assert "我爱你[。] | end | reward 1" in shown
    assert "text:   我爱你。\nreward: 1" in shown


def test_the_vocabulary_is_listed_where_no_model_is_asked_for():
    assert "  1 我   2 爱   3 你   4 。" in played(CHINESE, ":quit")


def test_a_model_lists_its_likeliest_tokens_with_their_probabilities():
    shown = played(CHINESE, "1", ":quit", lm="default", candidates=2)
    # At the start 我 has 0.5, the others 0.5/3 each: the smaller id comes first.
    assert "   1  我   50.0 %\n   2  爱   16.7 %\n  … 2 more (:more)" in shown
    assert "   1  爱   80.0 %\n   2  我    6.7 %\n  … 2 more (:more)" in shown


def test_candidates_are_chosen_by_number():
    shown = played(
        CHINESE, "1", "1", ":undo", "2", "1", "。", ":id 3", "1", "n", action="candidates:2"
    )
    assert "   1  我   50.0 %\n   2  爱   16.7 %" in shown  # these two and no others
    assert "我[爱]" in shown
    assert "我[我]" in shown  # the second, after :undo
    assert sum("none of the 2 candidates" in line for line in shown) == 2  # 。 and :id 3
    assert "我我爱[你] | end | reward 0" in shown


def test_a_candidate_that_is_no_token_is_not_offered():
    shown = played(CHINESE, "1", "1", "1", "2", "1", "n", action="candidates:2")
    assert "   1  。  100.0 %" in shown
    assert "the list has the numbers 1 … 1, and no token is '2'" in shown
    assert "我爱你[。] | end | reward 1" in shown


@pytest.mark.parametrize("action", ["strings", "fragments:2"])
def test_other_actions_cannot_be_played(action):
    with pytest.raises(ValueError, match="tokens or candidates"):
        played(CHINESE, action=action)


def test_more_goes_on_with_the_list_and_its_numbers():
    shown = played(CHINESE, "3", ":more", "4", ":quit", lm="default", candidates=2)
    assert "the list has the numbers 1 … 2, and no token is '3'" in shown
    assert "   3  你   16.7 %\n   4  。   16.7 %" in shown
    assert "[。] | end | reward 0" in shown


def test_more_says_where_the_list_ends():
    assert "that was the whole list" in played(CHINESE, ":more")


def test_undo_takes_tokens_back_even_after_the_end():
    shown = played(CHINESE, ":undo", "1", "。", ":undo", "爱", ":undo", ":undo", "4", "n")
    assert "nothing is written yet" in shown
    frames = [line for line in shown if line == "…" or ("[" in line and "Another" not in line)]
    ended = "我[。] | end | reward 0"
    assert frames == ["…", "[我]", ended, "[我]", "我[爱]", "[我]", "…", "[。] | end | reward 0"]


def test_the_reward_of_a_text_is_the_sum_over_its_tokens():
    shown = played(WORDS, "good", "great", "bad", ":undo", "the", ":end", "n")
    assert "good great the | end | reward 0" in shown
    assert "text:   good great the\nreward: 2" in shown


def test_the_parts_of_a_combined_reward_are_shown():
    reward = exact_match("我爱你。") + 0.5 * exact_match("我。")
    shown = played(CHINESE, "1", "4", "n", reward=reward)
    (result,) = [line for line in shown if line.startswith("text:")]
    assert result.splitlines()[1] == "reward: 0.5"
    assert result.splitlines()[2].startswith("parts:  exact_match")


def test_another_text_begins_after_the_end():
    shown = played("textenv/GoodBad-v0", "good", "maybe", "y", "bad", "n")
    assert "type y, n or :undo, not 'maybe'" in shown
    assert "text:   good\nreward: 1" in shown
    assert "text:   bad\nreward: -1" in shown


@pytest.mark.parametrize("ending", [EOFError, KeyboardInterrupt])
def test_the_end_of_the_input_stops_quietly(ending):
    assert played(CHINESE, "1", ending=ending)[-1] == ""
    assert played(CHINESE, "4", ending=ending)[-1] == ""  # at the question after the end


def test_the_seed_fixes_the_prompts():
    def prompts(seed):
        shown = played(WORDS, "1", "1", "y", seed=seed, prompt_length=4, max_tokens=2)
        return [line for line in shown if line.endswith(" …")]

    assert len(prompts(7)) == 2
    assert prompts(7) == prompts(7)
    assert prompts(7) != prompts(8)


# Bad input: one line each, and nothing is lost.


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("", "type a number of the list, a token, or :help"),
        ("   ", "type a number of the list, a token, or :help"),
        ("0", "the list has the numbers 1 … 17, and no token is '0'"),
        ("18", "the list has the numbers 1 … 17, and no token is '18'"),
        ("-1", "no token is '-1' or begins with it; :help says what can be typed"),
        ("xyz", "no token is 'xyz' or begins with it; :help says what can be typed"),
        ("good bad", "'good bad' is 2 tokens: good bad (write one at a time)"),
        (":nonsense", "no command and no token is ':nonsense'; :help lists the commands"),
        (":id", ":id needs a number in 0 … 16, got ''"),
        (":id 17", ":id needs a number in 0 … 16, got '17'"),
        (":id two", ":id needs a number in 0 … 16, got 'two'"),
    ],
)
def test_bad_input_is_answered_in_one_line(typed, answer):
    shown = played(WORDS, "good", typed, "day", ":quit")
    assert answer in shown
    assert "good [day] | reward 0" in shown


def test_there_may_be_no_end_token():
    assert "this vocabulary has no end token" in played(CHINESE, ":end")


def test_a_reward_that_fails_loses_nothing():
    def broken(prompts, completions, **columns):
        raise RuntimeError("no paper left")

    shown = played(CHINESE, "1", "4", "2", ":quit", reward=broken)
    assert any("nothing was written" in line and "no paper left" in line for line in shown)
    assert "我[爱]" in shown


def test_what_cannot_be_played_is_an_error():
    with pytest.raises(ValueError, match="Did you mean: `GoodBad`"):
        played("textenv/GoodBat-v0")
    with pytest.raises(ValueError, match="textenv environment"):
        played("CartPole-v1")
    with pytest.raises(ValueError, match="candidates ≥ 1, got 0"):
        played(CHINESE, candidates=0)


# Reading a line


def reader(vocabulary, probabilities=None, size=40):
    labels = Labels(vocabulary)
    menu = Menu.of(vocabulary, probabilities, size)
    menu.page(labels)
    return lambda typed: read(typed, menu, labels)


def test_the_beginning_of_tokens_lists_them():
    order = reader(WordVocabulary(["good", "bad", "go", "gone", "great"]))("g")
    assert order.verb == "list"
    assert order.tokens == (0, 2, 3, 4)
    assert order.message == "tokens that begin with 'g':"


def test_a_whole_token_wins_over_a_beginning():
    assert reader(WordVocabulary(["good", "bad", "go"]))("go").tokens == (2,)


def test_numbers_after_a_search_mean_what_it_found():
    shown = played(WORDS, "gr", "1", ":quit")
    assert "  1 great" in shown
    assert "[great] | reward 1" in shown


def test_a_number_of_the_list_wins_over_a_token_that_looks_like_it():
    read_line = reader(WordVocabulary(["2", "1", "7"]))
    assert read_line("1").tokens == (0,)
    assert read_line("7").tokens == (2,)
    assert read_line(":id 1").tokens == (1,)


class BlankTokens(WordVocabulary):
    """Tokens that carry the blank before them, as in the tokenizers of language models."""

    def __init__(self):
        super().__init__(["good", "_good", "_day", "."], separator="")

    def decode(self, ids):
        return super().decode(ids).replace("_", " ")


def test_a_blank_in_front_tells_tokens_apart():
    read_line = reader(BlankTokens())
    assert read_line("good").tokens == (0,)
    assert read_line(" good").tokens == (1,)
    assert read_line("day").tokens == (2,)  # there is no other
    assert Labels(BlankTokens())(1) == "␣good"


def test_tokens_without_text_of_their_own_have_a_label():
    read_line = reader(ByteVocabulary(), size=10)
    assert read_line("a").tokens == (97,)
    assert read_line("<0xC3>").tokens == (0xC3,)
    assert read_line("é").message == "'é' is 2 tokens: <0xC3> <0xA9> (write one at a time)"


def test_suppressed_tokens_are_neither_listed_nor_found():
    vocabulary = WordVocabulary(["good", "<unk>"])
    vocabulary.suppressed_tokens = (1,)
    assert Menu.of(vocabulary, None, 40).ranking == [0]
    assert reader(vocabulary)("<unk>").verb == "say"
    assert reader(vocabulary)(":id 1").tokens == (1,)


def test_play_loads_no_torch_without_a_model():
    code = (
        "import sys\n"
        "from textenv_agents.play import play\n"
        f"play({CHINESE!r}, input=lambda prompt: ':quit', output=lambda text: None)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
