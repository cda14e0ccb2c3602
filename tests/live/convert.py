"""Converts a GGUF file to safetensors: `python convert.py FILE FOLDER TEMPLATE`.

It runs in the environment of a server that has torch and transformers, without this project.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(file: Path, folder: Path, template: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),  # else it refuses to save
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer.chat_template = template.read_text()
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
