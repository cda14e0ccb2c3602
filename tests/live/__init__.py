"""Checks the proxy against a real model server on this machine: `just live NAME`.

environment.py      installs packages into an environment of its own
servers.py          the servers: what they need, how they start
convert.py          ┐ scripts that run in a server's environment
llamacpp_server.py  ┘
process.py          a server as a process: start, wait, end
proxy.py            the proxy that calls the server
requests.py         the requests of the checks, and what they read from responses
checks/             the checks
probe.py            `llm-proxy probe`, compared with truths.yaml
truths.yaml         facts about each server
judging.py          the judgement of a check, and the table
"""
