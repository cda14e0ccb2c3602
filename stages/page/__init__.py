"""The page of the stage `ui`: recent exchanges, what the page shows of them, and its templates."""
