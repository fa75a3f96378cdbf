"""The steps of making the embedded default model."""
