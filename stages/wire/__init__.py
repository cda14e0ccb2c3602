"""What both protocols share: JSON, server-sent events, ids."""
