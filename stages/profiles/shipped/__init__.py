"""The profiles that ship, a file each. Their sources were seen in 2026-11."""
