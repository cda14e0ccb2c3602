"""Asking a live backend what it takes: `llm-proxy probe`.

question.py      what a question is, what is found out, judgements several share
sampling.py      ┐
tools.py         │ the questions, as lists: each with its requests, and the judgement of the
conversation.py  │ replies, a pure function
reasoning.py     │
endpoints.py     ┘
reply.py         what a backend answered
interview.py     their order; what is asked, and when it is given up
report.py        what was found, as YAML
"""
