"""The connection to the Valkey or Redis that several machines share."""
