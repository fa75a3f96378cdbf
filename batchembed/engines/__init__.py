"""Where the hot loop runs."""
