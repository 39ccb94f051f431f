"""Sound, pictures and words as the published encoders expect them; no PyTorch."""
