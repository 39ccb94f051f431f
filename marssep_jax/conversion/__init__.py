"""Published weights to ours: files read without PyTorch, keys renamed by rules."""
