"""CSV files of logged texts: both forms, both kinds of cells, and errors that name the place."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from tests.small_tasks import small_task, task
from tests.test_logged_texts import episodes
from textenv import Task, TextEnv
from textenv.logged import CsvError, LoggedTexts, read_csv, write_csv
from textenv.rewards import word_preference
from textenv.vocabulary import ByteVocabulary, CharacterVocabulary, WordVocabulary


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "log.csv"
    path.write_bytes(text.encode(encoding))
    return path


def written(texts):
    return [
        row[texts.prefixes.start : texts.prefixes.start + count].tolist()
        for row, count in zip(texts.prefixes.tokens, texts.prefixes.written, strict=True)
    ]


def chinese():
    # T = 6; 。 stops; a comma, a quote and a line break are characters like others.
    return Task(
        name="chinese",
        vocabulary=CharacterVocabulary('我爱你,"\n。', end="$"),
        prompts=["我", "你"],
        stop=["。"],
        max_tokens=6,
        reward=word_preference({"爱": 1.0}),
    )


def test_a_row_for_each_text(tmp_path):
    path = write(tmp_path, "input_sequence,target_sequence\na,b c\nb c,b !\na,c c c\nb,\n")
    texts = read_csv(path, small_task())
    # "b c" gets the end token 4; "b !" ends by the stop word, "c c c" by T = 3; "" is the end alone
    assert written(texts) == [[1, 2, 4], [1, 3], [2, 2, 2], [4]]
    assert texts.prefixes.tokens[:, :2].tolist() == [[5, 0], [1, 2], [5, 0], [5, 1]]
    # Paid is what the environment itself pays for these tokens.
    assert texts.rewards.tolist() == [
        _paid("a", [1, 2, 4]), _paid("b c", [1, 3]), _paid("a", [2, 2, 2]), _paid("b", [4])
    ]  # fmt: skip
    assert texts.terminated.all()
    assert texts.log_probs is None


def _paid(prompt, actions, made=None):
    from textenv import TextEnv

    env = TextEnv(made or small_task())
    env.reset(options={"prompt": prompt})
    rewards = [env.step(token)[1] for token in actions]
    return rewards + [0.0] * (3 - len(rewards))


def test_the_reward_may_pay_each_token_or_be_in_the_file(tmp_path):
    made = small_task(reward=word_preference({"b": 1.0, "c": -2.0}, pays="token"))
    path = write(tmp_path, "input_sequence,target_sequence\na,b c\n")
    assert read_csv(path, made).rewards.tolist() == [_paid("a", [1, 2, 4], made)]
    path = write(
        tmp_path,
        "target_sequence,reward,input_sequence,terminated,log_probs\n"
        'b c,0.25,a,true,"[-1, -2, -0.5]"\nb,"[7]",a,False,[-3]\n',
    )
    texts = read_csv(path, made)
    assert texts.rewards.tolist() == [[0, 0, 0.25], [7, 0, 0]]
    assert texts.log_probs.tolist() == [[-1, -2, -0.5], [-3, 0, 0]]
    assert texts.terminated.tolist() == [True, False]
    assert written(texts) == [[1, 2, 4], [1]]


def test_byte_order_mark_quotes_and_line_breaks(tmp_path):
    text = 'input_sequence,target_sequence\r\n我,"爱,""\n。"\r\n\r\n你,爱\r\n'
    texts = read_csv(write(tmp_path, text, "utf-8-sig"), chinese())
    assert written(texts) == [[1, 3, 4, 5, 6], [1, 7]]
    with pytest.raises(CsvError, match=r"line 5, column 'target_sequence'.*'他' is not in the voc"):
        read_csv(write(tmp_path, text.replace("你,爱", "你,他"), "utf-8-sig"), chinese())


def test_a_row_for_each_token(tmp_path):
    path = write(
        tmp_path,
        "state,action,reward,next_state\n"
        "a,b,0,a b\n"
        "a b,!,1,a b !\n"  # the stop word ends it
        "a,c,0.5,a c\n"  # cut off: the next state is a prompt
        "b c,b,0,b c b\n"
        "b c b,,2,b c b\n"  # an empty action is the end token
        "b,$,3,b $\n"  # its word will do too
        "b,c,0,b c\n",
    )
    texts = read_csv(path, small_task())
    assert written(texts) == [[1, 3], [2], [1, 4], [4], [2]]
    assert texts.rewards.tolist() == [[0, 1, 0], [0.5, 0, 0], [0, 2, 0], [3, 0, 0], [0, 0, 0]]
    assert texts.terminated.tolist() == [True, False, True, True, False]


def test_texts_without_blanks_are_joined_as_they_are(tmp_path):
    path = write(tmp_path, "state,action,reward,next_state\n我,爱,0,我爱\n我爱,。,1,我爱。\n")
    assert written(read_csv(path, chinese())) == [[1, 6]]


@pytest.mark.parametrize("form", ["sequences", "transitions"])
@pytest.mark.parametrize("cells", ["text", "ids"])
@pytest.mark.parametrize("made", [small_task, chinese, lambda: small_task(stop=[], end=False)])
def test_what_is_written_is_read_again(tmp_path, form, cells, made):
    made = made()
    texts = LoggedTexts.from_episodes(episodes(made, 60), made)
    cut = texts.prefixes.written == 2  # cut some off, behind their first token
    tokens = texts.prefixes.tokens.copy()
    tokens[cut, made.rules.prompt_length + 1] = made.rules.nothing
    shorter = type(texts.prefixes)(
        tokens,
        made.rules.prompt_length,
        made.rules.nothing,
        np.where(cut, 1, texts.prefixes.written),
    )
    behind = np.arange(made.rules.max_tokens) < shorter.written[:, None]
    some = np.random.default_rng(0).normal(size=texts.rewards.shape)
    texts = LoggedTexts(shorter, some * behind, texts.terminated & ~cut, texts.log_probs * behind)
    write_csv(texts, made, tmp_path / "log.csv", form=form, cells=cells)
    again = read_csv(tmp_path / "log.csv", made, cells=cells)
    assert (again.prefixes.tokens == texts.prefixes.tokens).all()
    for name in ("rewards", "terminated", "log_probs"):
        assert (getattr(again, name) == getattr(texts, name)).all(), name


def test_what_would_be_read_otherwise_is_not_written(tmp_path):
    # "ab" is one word, and "a" and "b" are two others: the longest match reads "ab".
    made = Task(
        name="glued",
        vocabulary=WordVocabulary(["a", "b", "ab"], separator="", end="$"),
        max_tokens=3,
        reward=word_preference({"a": 1.0}),
    )
    path = write(tmp_path, "input_sequence,target_sequence,reward\n,0 1 3,1\n")
    texts = read_csv(path, made, cells="ids")
    with pytest.raises(ValueError, match=r"text 0: 'ab' would not be read as the tokens \[0, 1\]"):
        write_csv(texts, made, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    write_csv(texts, made, tmp_path / "out.csv", cells="ids")
    assert written(read_csv(tmp_path / "out.csv", made, cells="ids")) == [[0, 1, 3]]


def test_bytes_are_read_as_text_and_written_as_ids_where_a_character_is_several(tmp_path):
    made = Task(
        name="bytes", vocabulary=ByteVocabulary(), max_tokens=4,
        reward=word_preference({"a": 1.0}),
    )  # fmt: skip
    texts = read_csv(write(tmp_path, "input_sequence,target_sequence,reward\n,é,1\n"), made)
    assert written(texts) == [[0xC3, 0xA9, 256]]
    write_csv(texts, made, tmp_path / "out.csv")
    assert written(read_csv(tmp_path / "out.csv", made)) == [[0xC3, 0xA9, 256]]
    with pytest.raises(ValueError, match='write cells="ids"'):
        write_csv(texts, made, tmp_path / "out.csv", form="transitions")
    write_csv(texts, made, tmp_path / "out.csv", form="transitions", cells="ids")
    assert written(read_csv(tmp_path / "out.csv", made, cells="ids")) == [[0xC3, 0xA9, 256]]


def test_a_word_that_a_tokenizer_lacks_is_not_read_as_unknown(tmp_path):
    made = gym.make("textenv/Sentiment-v0").unwrapped.task
    header = "input_sequence,target_sequence,reward\n"
    # A prompt may hold what is only read; its tokenizer knows no "我", and no "." on its own.
    texts = read_csv(write(tmp_path, header + "我,great film.,1\n"), made)
    assert made.vocabulary.decode(written(texts)[0]) == "great film."
    path = write(tmp_path, header + "The film,great film.,1\nThe film,great 我.,1\n")
    with pytest.raises(
        CsvError, match=r"line 3, column 'target_sequence': .*lacks a part of this one: .*'<unk>'"
    ):
        read_csv(path, made)
    path = write(tmp_path, "state,action,reward,next_state\nThe film,我,0,The film 我\n")
    with pytest.raises(CsvError, match=r"line 2, column 'action': expected .*lacks a part"):
        read_csv(path, made)


def test_a_suppressed_word_is_read_where_it_is_meant(tmp_path):
    made = small_task()
    made.vocabulary.suppressed_tokens = (1,)
    path = write(tmp_path, "input_sequence,target_sequence\na,b !\n")
    assert written(read_csv(path, made)) == [[1, 3]]


SEQUENCES = "input_sequence,target_sequence,reward,terminated,log_probs\n"
TRANSITIONS = "state,action,reward,next_state,terminated\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1: expected the columns input_sequence, target_sequence or state, action"),
        ("question,answer\na,b\n", r"line 1: expected the columns .*got the header \['question'"),
        ("input_sequence;target_sequence\n", r"separated by ';', it seems"),
        ("state\taction\treward\tnext_state\n", r"separated by '\\t', it seems"),
        (
            "Input_Sequence,target_sequence\n",
            r"'input_sequence' is missing.*Write 'Input_Sequence'",
        ),
        ("State,Action,Reward,Next_State\n", r"line 1: expected .*Write 'State' in small letters"),
        ("state,action,reward\n", r"line 1: the column 'next_state' is missing"),
        ("input_sequence,target_sequence,note\n", r"line 1: the column 'note' is not known"),
        ("input_sequence,target_sequence,reward,reward\n", "a column stands there twice"),
        ("input_sequence,target_sequence\n", "at least one row below the header"),
        ("input_sequence,target_sequence\na,b,c\n", r"line 2: expected 2 cells.*got 3"),
        ('input_sequence,target_sequence\na,"b\n', r"line 2: no CSV from there on"),
        (SEQUENCES + "a,b x,1,true,\n", r"line 2, column 'target_sequence'.*'x' is not in the"),
        (SEQUENCES + "a a a,b,1,true,\n", r"'input_sequence': expected a prompt of up to 2 tokens"),
        (SEQUENCES + ",b,1,true,\n", r"'input_sequence': expected a prompt, got ''"),
        (SEQUENCES + "a,b b b b,1,true,\n", r"expected a text of up to 3 tokens, not 4"),
        (SEQUENCES + "a,b,much,true,\n", r"'reward': expected a finite number .*got 'much'"),
        (SEQUENCES + "a,b,inf,true,\n", r"'reward': expected a finite number"),
        (SEQUENCES + 'a,b,"[1]",true,\n', r"'reward': expected a list of 2 finite numbers"),
        (SEQUENCES + "a,b,1,maybe,\n", r"'terminated': expected true or false, got 'maybe'"),
        (SEQUENCES + "a,b !,1,false,\n", r"'terminated': expected true, as the text"),
        (SEQUENCES + "a,,1,false,[]\n", r"'target_sequence': expected at least one token"),
        (
            SEQUENCES + 'a,! b,1,true,"[0, 0, 0]"\n',
            r"line 2, column 'target_sequence': text 0, token 1",
        ),
        (SEQUENCES + "a,b,1,true,x\n", r"'log_probs': expected a list of 2 finite numbers ≤ 0"),
        (SEQUENCES + "a,b,1,true,-3\n", r"'log_probs': expected a list of 2 .*got '-3'"),
        (SEQUENCES + 'a,b,1,true,"[-1, 0.5]"\n', r"'log_probs': expected a list of 2"),
        # Python reads these as numbers; whoever wrote them meant something else, or nobody knows.
        (SEQUENCES + "a,b,1_000,true,\n", r"'reward': expected a finite number"),
        (SEQUENCES + "a,b,１,true,\n", r"'reward': expected a finite number"),
        (SEQUENCES + 'a,b,"0,5",true,\n', r"'reward': expected a finite number such as 0.5"),
        (SEQUENCES + 'a,b,"[true, ""3""]",true,\n', r"'reward': expected a list of 2 finite"),
        (SEQUENCES + f'a,b,"[0, {10**400}]",true,\n', r"'reward': expected a list of 2 finite"),
        (TRANSITIONS + "a,b b,0,a b b,false\n", r"'action': expected one token.*not 2, got 'b b'"),
        (TRANSITIONS + "a,b,0,a c,false\n", r"'next_state': expected the state .*'a b', got 'a c'"),
        (TRANSITIONS + "a,b,0,a b,true\n", r"'terminated': expected false, as the task's rules"),
        (TRANSITIONS + "a,b,,a b,false\n", r"'reward': expected a finite number .*got ''"),
        (
            TRANSITIONS + "a,b,0,a b,false\nc,b,0,c b,false\n",
            r"line 3, column 'state': expected the next_state of the row before, 'a b', or a",
        ),
        (
            TRANSITIONS + "a,!,0,a !,true\na !,b,0,a ! b,false\n",
            r"line 3, column 'state': expected a prompt, for the text has ended",
        ),
    ],
)
def test_errors_name_the_place(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(CsvError, match=message) as error:
        read_csv(path, small_task())
    assert str(path) in str(error.value)


def test_bytes_that_are_no_utf_8(tmp_path):
    # Far behind the first block of a file that is decoded at once.
    text = "input_sequence,target_sequence\r\n" + "a,b\r\n" * 5000 + "a,é\r\na,b\r\n"
    path = write(tmp_path, text, "latin-1")
    with pytest.raises(CsvError, match="line 5002: expected UTF-8, got the byte 0xe9"):
        read_csv(path, small_task())


def test_a_text_that_was_cut_off_where_the_next_begins(tmp_path):
    """Behind "b" came "c", cut off; then "b" after the prompt "b c": without names, one text."""
    rows = ["b,c,0,b c", "b c,b,1,b c b"]
    named = "".join(f"{row},{name}\n" for row, name in zip(rows, "xy", strict=True))
    path = write(tmp_path, "state,action,reward,next_state,episode\n" + named)
    texts = read_csv(path, small_task())
    assert (written(texts), texts.terminated.tolist()) == ([[2], [1]], [False, False])
    write_csv(texts, small_task(), tmp_path / "again.csv", form="transitions")
    again = read_csv(tmp_path / "again.csv", small_task())
    assert (again.prefixes.tokens == texts.prefixes.tokens).all()
    path = write(tmp_path, "\n".join(["state,action,reward,next_state", *rows]))
    assert written(read_csv(path, small_task())) == [[2, 1]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a,!,0,a !,x", "b,b,0,b b,x"], "line 3, column 'episode': expected another one, for the"),
        (["a,b,0,a b,x", "b,b,0,b b,x"], "'state': expected the next_state of .* 'a b', got 'b'"),
        (["a,!,0,a !,x", "a,!,0,a !,y", "a,!,0,a !,x"], "line 4, column 'episode': expected one"),
    ],
)
def test_episodes_that_do_not_hold_together(tmp_path, rows, message):
    path = write(tmp_path, "\n".join(["state,action,reward,next_state,episode", *rows]))
    with pytest.raises(CsvError, match=message):
        read_csv(path, small_task())


def test_ids_may_stand_in_brackets_and_are_ascii(tmp_path):
    # "a": b, cut off, twice; the second time in the other way of writing.
    path = write(
        tmp_path,
        'state,action,reward,next_state\n0,1,0,"[0, 1]"\n[0],1,0,0 1\n"[0,1]",3,2,0 1 3\n',
    )
    texts = read_csv(path, small_task(), cells="ids")
    assert written(texts) == [[1], [1, 3]]
    for ids in ("1_0", "１ 3", "1.0", "9" * 30):
        path = write(tmp_path, f"input_sequence,target_sequence\n0,{ids}\n")
        with pytest.raises(CsvError, match="'target_sequence': expected token ids such as 1 2 3"):
            read_csv(path, small_task(), cells="ids")


def test_ids_without_the_end_token_are_not_taken_for_cut_off(tmp_path):
    path = write(tmp_path, "input_sequence,target_sequence\n0,1 2\n")
    with pytest.raises(
        CsvError, match=r"ends .by the end token 4, a stop token, or 3 tokens.*'1 2"
    ):
        read_csv(path, small_task(), cells="ids")
    path = write(tmp_path, "input_sequence,target_sequence,terminated\n0,1 2,false\n0,1 4,true\n")
    texts = read_csv(path, small_task(), cells="ids")
    assert texts.terminated.tolist() == [False, True]
    write_csv(texts, small_task(), path, cells="ids")
    assert read_csv(path, small_task(), cells="ids").terminated.tolist() == [False, True]


def test_one_prompt_with_two_references_needs_the_rewards(tmp_path):
    made = small_task(
        reward="bleu", columns={"reference": ["b c", "c", "c", "c"]}, prompts=list("abba")
    )
    rows = "input_sequence,target_sequence\nb,b c\na,b c\n"
    with pytest.raises(
        CsvError, match="line 3, column 'input_sequence': expected a prompt that the"
    ):
        read_csv(write(tmp_path, rows), made)
    path = write(tmp_path, "input_sequence,target_sequence,reward\na,b c,0.5\n")
    assert read_csv(path, made).returns().tolist() == [0.5]


def test_a_text_that_no_rule_ends(tmp_path):
    path = write(tmp_path, "input_sequence,target_sequence\na,b\n")
    with pytest.raises(CsvError, match=r"expected a text that small ends .by a stop token, or 3"):
        read_csv(path, small_task(end=False))
    assert written(read_csv(path, task())) == [[1, 4]]


def test_a_reward_that_reads_columns_knows_the_tasks_prompts_only(tmp_path):
    made = small_task(reward="bleu", columns={"reference": ["b c", "c", "c", "c"]}, max_tokens=4)
    path = write(tmp_path, "input_sequence,target_sequence\nc,b c\n")
    with pytest.raises(CsvError, match="line 2, column 'input_sequence': expected one of the task"):
        read_csv(path, made)
    path = write(tmp_path, "input_sequence,target_sequence\na,b c\nb,b c\n")
    texts = read_csv(path, made)
    assert texts.returns()[0] > texts.returns()[1]


def test_what_is_asked_for_must_exist(tmp_path):
    path = write(tmp_path, "input_sequence,target_sequence\na,b\n")
    with pytest.raises(ValueError, match="expected cells='text' or cells='ids', got 'words'"):
        read_csv(path, small_task(), cells="words")
    env = TextEnv(small_task())
    with pytest.raises(TypeError, match=r"expected a task, got .*env\.unwrapped\.task"):
        read_csv(path, env)
    with pytest.raises(TypeError, match=r"expected LoggedTexts, got 'mine/log-v0': .*load_minari"):
        write_csv("mine/log-v0", env.task, path)
    with pytest.raises(ValueError, match="expected form= to be one of sequences, transitions"):
        write_csv(read_csv(path, small_task()), small_task(), path, form="table")
    with pytest.raises(CsvError, match="'target_sequence': expected token ids in 0 … 4, got '9'"):
        read_csv(
            write(tmp_path, "input_sequence,target_sequence\n0,9\n"), small_task(), cells="ids"
        )
