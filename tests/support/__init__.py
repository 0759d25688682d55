"""What the tests share: tiny models, the evaluation data, oracles."""
