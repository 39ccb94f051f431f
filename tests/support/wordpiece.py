"""A WordPiece tokenizer of a few words, in either of its published forms."""

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("the", "a", "sound", "of", "violin", "fiddle", "cafe", "##s", "!", "[", "]")
VOCABULARY = (*SPECIAL, *WORDS)


def write_tokenizer(folder, name="tokenizer.json"):
    """Write ``vocab.txt``, or what transformers makes of it, and return the file."""
    from transformers import BertTokenizer

    if name == "vocab.txt":
        (folder / name).write_text("\n".join(VOCABULARY) + "\n")
        return folder / name
    vocab = {word: number for number, word in enumerate(VOCABULARY)}
    BertTokenizer(vocab=vocab).save_pretrained(folder)
    return folder / name
