"""Token and n-gram hashes in bulk, and the index that finds shared n-grams. Numpy, Polars and Arrow only."""

from data_engine.text_hash.overlap import NgramIndex
from data_engine.text_hash.windows import Windows, ngram_hashes, number_hashes, text_hashes
from data_engine.text_hash.words import UNSPACED, VERSION, Tokeniser, Tokens, iterate_words

__all__ = [
    "UNSPACED",
    "VERSION",
    "NgramIndex",
    "Tokeniser",
    "Tokens",
    "Windows",
    "iterate_words",
    "ngram_hashes",
    "number_hashes",
    "text_hashes",
]
