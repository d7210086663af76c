"""`python -m benchmarks NAME`: each benchmark is a command that prints its own table."""

from __future__ import annotations

import sys
from importlib import import_module

NAMES = {
    "speed": "environment steps a second, as ratios of references in the same run",
    "bias": "the exact bias of each gradient estimator on small tasks",
    "judge": "judges beside people: agreement, and the bias of places, lengths and levels",
    "memory": "how near the formula for an update's memory is",
    "frontier": "the best trade between reward and KL on Sentiment-v0",
    "sentiment": "Sentiment-v0 before and after training, over seeds",
    "cache": "two layouts of the key-value cache",
    "decoding": "writing texts, beside generate() of transformers",
    "gpu": "parity with the CPU, writing and training on a GPU",
    "tabular": "Q-learning and SARSA against exact values, text by text, over seeds",
    "loop": "the human-feedback loop's true reward, round by round, over seeds",
    "translation": "ToyTranslation-v0 before and after training, over seeds",
    "libraries": "other libraries train on our environments: reward before and after, over seeds",
    "trl": "training beside TRL's GRPOTrainer and RLOOTrainer: speed, and reward over seeds",
    "reward_model": "reward models beside people: correlation, accuracy, calibration, privacy",
    "overoptimisation": "a proxy reward against the true one over KL, for four rewards",
    "sb3": "LMPolicy beside the naive way: equal numbers, speed, and learning curves over seeds",
    "sb3_stock": "stock Stable-Baselines3 and sb3-contrib on the toys and Sentiment-v0, over seeds",
    "serve": "steps a second through OpenEnv's client, beside the same episodes here",
    "search": "what the best of n costs, exactly, and what a tree search finds",
    "offline": "implicit Q-learning and cloning from logged texts alone, over seeds",
    "toxicity": "texts a second of the toxicity model, beside the library that it was taken from",
    "convert_human_ratings": "the shipped human ratings, from vaderSentiment's source distribution",
    "convert_toxicity": "the shipped toxicity model, from the pickles of alt-profanity-check",
    "pretrain_reviews": "the shipped language model, from its text: the better part of an hour",
    "pretrain_translator": "the shipped translator, from a grammar: a few minutes",
}


def main() -> int:
    """Run the benchmark that the first argument names."""
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        print("usage: python -m benchmarks NAME …\n")
        for name, text in NAMES.items():
            print(f"  {name:20} {text}")
        return 2
    name = sys.argv.pop(1)
    import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
