"""The command `llm-proxy probe`: asks a live backend what it supports.

command.py       the command: finds the backend, prints the result
interview.py     asks the questions in order, and stops when the backend is silent
question.py      Question, Finding, and judgements that several questions share
sampling.py      ┐
tools.py         │ lists of questions: each with its requests, and a pure function that judges
conversation.py  │ the replies
reasoning.py     │
endpoints.py     ┘
reply.py         a backend's reply to one request
report.py        the findings as YAML
"""
