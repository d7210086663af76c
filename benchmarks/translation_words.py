"""The words of `translation_grammar`, English and Chinese."""

from __future__ import annotations

from typing import NamedTuple

PERSON, ANIMAL, THING, TEXT, FOOD = "person", "animal", "thing", "text", "food"
EVERYTHING = (PERSON, ANIMAL, THING, TEXT, FOOD)


class Noun(NamedTuple):
    """A noun with its measure word."""

    singular: str
    plural: str
    chinese: str
    measure: str
    kind: str


class Verb(NamedTuple):
    """A verb; statives take no 了 and no progressive, momentary ones no progressive."""

    base: str
    third: str
    past: str
    progressive: str
    chinese: str
    objects: tuple[str, ...]
    lasting: str = ""  # "stative", "momentary" or ""


class Adjective(NamedTuple):
    """An adjective; `chinese` for living things, `of_things` for the others where it differs."""

    english: str
    chinese: str
    kinds: tuple[str, ...]
    de: bool = False  # 漂亮的书, but 新书
    of_things: str = ""
    colour: bool = False  # 是黑的, but 很大


NOUNS = [
    Noun("teacher", "teachers", "老师", "位", PERSON),
    Noun("student", "students", "学生", "个", PERSON),
    Noun("friend", "friends", "朋友", "个", PERSON),
    Noun("doctor", "doctors", "医生", "位", PERSON),
    Noun("cat", "cats", "猫", "只", ANIMAL),
    Noun("dog", "dogs", "狗", "只", ANIMAL),
    Noun("bird", "birds", "鸟", "只", ANIMAL),
    Noun("horse", "horses", "马", "匹", ANIMAL),
    Noun("book", "books", "书", "本", TEXT),
    Noun("letter", "letters", "信", "封", TEXT),
    Noun("newspaper", "newspapers", "报纸", "份", TEXT),
    Noun("apple", "apples", "苹果", "个", FOOD),
    Noun("egg", "eggs", "鸡蛋", "个", FOOD),
    Noun("cake", "cakes", "蛋糕", "块", FOOD),
    Noun("car", "cars", "车", "辆", THING),
    Noun("table", "tables", "桌子", "张", THING),
    Noun("chair", "chairs", "椅子", "把", THING),
    Noun("shirt", "shirts", "衬衫", "件", THING),
    Noun("umbrella", "umbrellas", "伞", "把", THING),
]
VERBS = [
    Verb("like", "likes", "liked", "", "喜欢", EVERYTHING, "stative"),
    Verb("love", "loves", "loved", "", "爱", (PERSON, ANIMAL), "stative"),
    Verb("know", "knows", "knew", "", "认识", (PERSON,), "stative"),
    Verb("need", "needs", "needed", "", "需要", EVERYTHING, "stative"),
    Verb("see", "sees", "saw", "", "看见", EVERYTHING, "momentary"),
    Verb("find", "finds", "found", "", "找到", (ANIMAL, THING, TEXT, FOOD), "momentary"),
    Verb("buy", "buys", "bought", "buying", "买", (ANIMAL, THING, TEXT, FOOD)),
    Verb("sell", "sells", "sold", "selling", "卖", (ANIMAL, THING, TEXT, FOOD)),
    Verb("read", "reads", "read", "reading", "读", (TEXT,)),
    Verb("write", "writes", "wrote", "writing", "写", (TEXT,)),
    Verb("eat", "eats", "ate", "eating", "吃", (FOOD,)),
    Verb("wash", "washes", "washed", "washing", "洗", (ANIMAL, THING)),
    Verb("draw", "draws", "drew", "drawing", "画", EVERYTHING),
    Verb("help", "helps", "helped", "helping", "帮助", (PERSON, ANIMAL)),
]
ADJECTIVES = [
    Adjective("black", "黑", (ANIMAL, THING), colour=True),
    Adjective("white", "白", (ANIMAL, THING), colour=True),
    Adjective("big", "大", (ANIMAL, THING, FOOD)),
    Adjective("small", "小", (ANIMAL, THING, FOOD, TEXT)),
    Adjective("new", "新", (THING, TEXT, PERSON)),
    Adjective("old", "老", (PERSON, ANIMAL, THING, TEXT), of_things="旧"),
    Adjective("young", "年轻", (PERSON,), de=True),
    Adjective("beautiful", "漂亮", (PERSON, ANIMAL, THING), de=True),
    Adjective("interesting", "有趣", (PERSON, TEXT), de=True),
]
DETERMINERS = {  # English: (Chinese, whether a measure word follows, whether it is plural)
    "the": ("", False, False), "a": ("一", True, False), "this": ("这", True, False),
    "that": ("那", True, False), "two": ("两", True, True), "three": ("三", True, True),
    "my": ("我", False, False), "your": ("你", False, False), "his": ("他", False, False),
    "her": ("她", False, False), "our": ("我们", False, False),
}  # fmt: skip
PRONOUNS = {  # subject: (object, Chinese)
    "i": ("me", "我"), "he": ("him", "他"), "she": ("her", "她"),
    "we": ("us", "我们"), "they": ("them", "他们"), "you": ("you", "你"),
}  # fmt: skip
TIMES = {
    "present": {"every day": "每天"},
    "past": {"yesterday": "昨天", "last week": "上周"},
    "progressive": {"now": "现在"},
    "future": {"tomorrow": "明天", "next week": "下周"},
    "can": {"today": "今天", "tomorrow": "明天"},
}
PLACES = {"at home": "家", "at school": "学校", "in the park": "公园", "in the city": "城里"}
