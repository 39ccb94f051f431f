"""What a step costs on many chips: compiled programs, measured points, a model."""
