#!/usr/bin/env python3
"""Measures the estimate of prompts by which limits of tokens reserve (shards/src/quota/estimate.rs) on a real tokenizer.

    pip install bpe-openai==0.1.4 && tests/real/estimate.py

Prompts of many lengths, cut from this repository's own texts and from two other languages, are counted with the vocabulary of
current OpenAI models (o200k_base), as the API counts them: 4 tokens for each message and 3 for the answer's start. Prints the
error of four bytes of JSON per token, and that of the size that is learnt after a hundred requests.
"""

import json
import pathlib
import random

import bpe_openai

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ENCODING = bpe_openai.get_encoding("o200k_base")
SYSTEM = "You are a helpful assistant."
ONE, LEAST, MOST, PULL = 1024, 1024, 8 * 1024, 16
GERMAN = "Die Grenzwerte eines Mandanten gelten für alle Kerne zusammen; was einer nicht braucht, steht den anderen zu. "
CHINESE = "机器学习是人工智能的一个分支，它使计算机能够从数据中学习并改进，而无需明确编程。"


def text(pattern):
    return "\n".join(path.read_text() for path in sorted(ROOT.glob(pattern)))


CORPORA = {
    "English prose": text("docs/*.md"),
    "Rust source": text("src/*/*.rs"),
    "JSON": (ROOT / "docs" / "admin.openapi.json").read_text(),
    "German": GERMAN * 500,
    "Chinese": CHINESE * 500,
}


def body(prompt):
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]
    return len(json.dumps(messages, ensure_ascii=False, separators=(",", ":")).encode())


def counted(prompt):
    return len(ENCODING.encode(SYSTEM)) + len(ENCODING.encode(prompt)) + 2 * 4 + 3


def pulled(known, sample):
    return known + (sample - known) // PULL  # rounded down either way, as there


def told(errors):
    errors.sort()
    at = lambda part: round(100 * errors[int(part * (len(errors) - 1))])  # noqa: E731
    return f"{at(0.5):+4d} % ({at(0.05):+d} to {at(0.95):+d})"


def main():
    for name, corpus in CORPORA.items():
        random.seed(1)
        fixed, learnt, size = [], [], 4 * ONE
        for number in range(500):
            length = random.choice([100, 400, 2_000, 8_000])
            start = random.randrange(max(1, len(corpus) - length))
            prompt = corpus[start : start + length]
            bytes_, tokens = body(prompt), counted(prompt)
            fixed.append((-(-bytes_ // 4) - tokens) / tokens)
            if number >= 100:
                learnt.append((-(-bytes_ * ONE // size) - tokens) / tokens)
            size = pulled(size, min(max(bytes_ * ONE // tokens, LEAST), MOST))
        print(f"{name:14} fixed {told(fixed)}, learnt {told(learnt)}")


if __name__ == "__main__":
    main()
