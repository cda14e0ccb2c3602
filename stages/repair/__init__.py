"""Tool calls of weak models, mended: found in the text, and with arguments that fit the schema."""
