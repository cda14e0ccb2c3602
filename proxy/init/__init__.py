"""The command `llm-proxy init`: finds model servers, and writes or extends a config.

command.py      the command: chooses the model, writes the file
discovery.py    asks servers for their models, and a model for its window
new_config.py   the text of a new config, and of the entries for an existing one
"""
