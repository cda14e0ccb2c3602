"""Which target a request goes to, and what it means when one fails."""
