"""From one protocol to the other: pure and synchronous, the only place that knows both."""
