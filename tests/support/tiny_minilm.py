"""A tiny MiniLM with a WordPiece tokenizer of a few words, as they are published."""

import jax

from marssep_jax.encoders.minilm import MiniLmConfig, make_minilm
from marssep_jax.weights.store import save_encoder

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("the", "a", "sound", "of", "violin", "fiddle", "cafe", "##s", "!", "[", "]")
VOCABULARY = (*SPECIAL, *WORDS)

TINY = MiniLmConfig(
    vocab_size=len(VOCABULARY),
    width=16,
    num_layers=1,
    num_heads=2,
    mlp_width=20,
    num_positions=12,
)
SOURCE = {"name": "tiny", "size_bytes": 1, "sha256": {}}


def write_tokenizer(folder, name="tokenizer.json"):
    """Write ``vocab.txt``, or what transformers makes of it, and return the file."""
    from transformers import BertTokenizer

    if name == "vocab.txt":
        (folder / name).write_text("\n".join(VOCABULARY) + "\n")
        return folder / name
    vocab = {word: number for number, word in enumerate(VOCABULARY)}
    BertTokenizer(vocab=vocab).save_pretrained(folder)
    return folder / name


def save_minilm(folder, seed=3, *, config=TINY, tokenizer="tokenizer.json"):
    """Write a random MiniLM as a converted encoder and return its parameters."""
    params = jax.device_get(make_minilm(config).init(jax.random.key(seed)))
    theirs = folder.with_name(f"{folder.name}-theirs")
    theirs.mkdir(exist_ok=True)
    beside = [write_tokenizer(theirs, tokenizer)] if tokenizer else []
    save_encoder(folder, "minilm", config, params, "Apache-2.0", SOURCE, beside)
    return params
