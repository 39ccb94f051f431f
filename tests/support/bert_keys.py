"""What a published BERT holds: keys and shapes, written down by hand."""


def dense_keys(key, size_in, size_out):
    return {f"{key}.weight": (size_out, size_in), f"{key}.bias": (size_out,)}


def norm_keys(key, size):
    return {f"{key}.weight": (size,), f"{key}.bias": (size,)}


def attention_keys(key, width):
    shapes = {}
    for name in ("self.query", "self.key", "self.value", "output.dense"):
        shapes |= dense_keys(f"{key}.{name}", width, width)
    return shapes


def bert_keys(config, prefix=""):
    """Return the keys of a BertConfig's model, with the pooling, without buffers."""
    width, words = config.width, f"{prefix}embeddings"
    shapes = {
        f"{words}.word_embeddings.weight": (config.vocab_size, width),
        f"{words}.position_embeddings.weight": (config.num_positions, width),
        f"{words}.token_type_embeddings.weight": (config.num_segments, width),
        **norm_keys(f"{words}.LayerNorm", width),
        **dense_keys(f"{prefix}pooler.dense", width, width),
    }
    for index in range(config.num_layers):
        layer = f"{prefix}encoder.layer.{index}"
        shapes |= attention_keys(f"{layer}.attention", width)
        shapes |= norm_keys(f"{layer}.attention.output.LayerNorm", width)
        shapes |= dense_keys(f"{layer}.intermediate.dense", width, config.mlp_width)
        shapes |= dense_keys(f"{layer}.output.dense", config.mlp_width, width)
        shapes |= norm_keys(f"{layer}.output.LayerNorm", width)
    return shapes
