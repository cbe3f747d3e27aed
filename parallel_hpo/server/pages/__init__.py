"""The pages that people look at, and the data behind them; it reads, and changes nothing."""
