"""`llm-proxy replay`: recorded exchanges, again.

recordings  reads files of the stage `record`, line by line
target      `--against`: the pipeline with another model or backend
run         sends one request through the chain
comparison  the recorded result and the new one
report      the differences and the sums, as text or JSON
command     all exchanges, with progress
"""
