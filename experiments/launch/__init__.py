"""Start one training on many devices: programs that print or run commands."""
