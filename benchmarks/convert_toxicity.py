"""Convert alt-profanity-check's pickles into `textenv/data/toxicity`, once: no pickle is shipped.

`python -m benchmarks convert_toxicity` needs `pip install alt-profanity-check==1.9.1`. It writes
the parameters as they are, in float64, and compares the result with the library.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from textenv.files import replaced_folder
from textenv.filters.toxicity import CLASSIFIERS, FOLDER, LinearModel

PACKAGE, VERSION = "alt-profanity-check", "1.9.1"
TEXTS = ["", "a fine day", "you are an idiot", "shut the f*ck up", "我爱你。", "I will kill you"]


def main() -> None:
    """Convert and compare."""
    if metadata.version(PACKAGE) != VERSION:
        raise SystemExit(f"expected {PACKAGE}=={VERSION}, got {metadata.version(PACKAGE)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn, about pickles of another version
        import profanity_check
        from profanity_check import profanity_check as library
    data = Path(profanity_check.__file__).parent / "data"
    write(library.vectorizer, library.model, data)
    expected = library.predict_prob(TEXTS)
    found = LinearModel.load(FOLDER).probabilities(TEXTS)
    for text, ours, theirs in zip(TEXTS, found, expected, strict=True):
        print(f"{ours:.6f}  {theirs:.6f}  {text!r}")
    print(f"largest difference: {np.abs(found - expected).max():.1e}")


def write(vectorizer: Any, model: Any, data: Path) -> None:
    """Write the folder; refuse a model of another kind than `LinearModel` computes."""
    from safetensors.numpy import save_file

    kind = {
        "analyzer": "word", "binary": False, "lowercase": True, "ngram_range": (1, 1),
        "norm": "l2", "strip_accents": None, "sublinear_tf": False, "use_idf": True,
        "preprocessor": None, "tokenizer": None, "token_pattern": r"(?u)\b\w\w+\b",
    }  # fmt: skip
    found = {name: getattr(vectorizer, name) for name in kind}
    if found != kind or model.method != "sigmoid":
        raise SystemExit(f"expected {kind} and sigmoids, got {found} and {model.method}")
    words = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
    # Then stop words need no list of their own: they are unknown words.
    stopped = vectorizer.get_stop_words() & set(words)
    if stopped or not all(re.fullmatch(r"\w\w+", word) for word in words):
        raise SystemExit(f"expected no stop words and words of two letters or more: {stopped}")
    classifiers = model.calibrated_classifiers_
    sigmoids = [each.calibrators[0] for each in classifiers]
    arrays = {
        "idf": vectorizer.idf_,
        "coefficients": np.concatenate([each.estimator.coef_ for each in classifiers]),
        "intercepts": np.concatenate([each.estimator.intercept_ for each in classifiers]),
        "slopes": np.array([each.a_ for each in sigmoids]),
        "offsets": np.array([each.b_ for each in sigmoids]),
    }
    config = {
        "model_type": "tfidf_linear",
        "source": f"{PACKAGE} {VERSION}",
        "licence": "MIT",
        "classifiers": CLASSIFIERS,
        "words": len(words),
        "sha256": {
            name: hashlib.sha256((data / name).read_bytes()).hexdigest()
            for name in ("model.joblib", "vectorizer.joblib")
        },
    }
    licence = metadata.distribution(PACKAGE).read_text("licenses/LICENSE")
    with replaced_folder(FOLDER) as folder:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()},
                  folder / "model.safetensors")  # fmt: skip
        (folder / "model.safetensors").chmod(0o644)  # the library makes it its owner's alone
        (folder / "words.txt").write_text("".join(f"{word}\n" for word in words), "utf-8")
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        (folder / "NOTICE").write_text(f"{NOTICE}{licence}", "utf-8")


NOTICE = f"""\
The numbers and words in this folder are those of {PACKAGE} {VERSION}, by Victor Zhou, Menelaos
Kotoglou and Dimitrios Mistriotis, under the MIT licence below; `python -m benchmarks
convert_toxicity` took them out of its pickle files and changed none of them. It was trained on
the data of Davidson et al. (2017), "Automated Hate Speech Detection and the Problem of Offensive
Language", and of the Toxic Comment Classification Challenge (2018).

"""
